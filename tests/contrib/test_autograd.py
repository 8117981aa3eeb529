"""Imperative gradients as MXNet 0.9 had them."""

from __future__ import annotations

import numpy as np
import pytest

import raymx as mx
from raymx import ndarray as nd
from raymx.contrib import autograd

VALUES = np.arange(1.0, 7).reshape(2, 3)


def test_sections():
    with autograd.train_section():
        assert mx.autograd.is_recording() and mx.autograd.is_training()
        with autograd.test_section():
            assert not mx.autograd.is_recording() and not mx.autograd.is_training()
    assert autograd.set_is_training(True) is False
    assert autograd.set_is_training(False) is True
    assert not mx.autograd.is_recording()


def test_compute_gradient():
    x, dx = nd.array(VALUES), nd.zeros((2, 3))
    autograd.mark_variables([x], [dx])
    with autograd.train():
        y = nd.exp(x)
    autograd.compute_gradient([y])
    np.testing.assert_allclose(dx.asnumpy(), np.exp(VALUES), rtol=1e-6)


def test_grad_and_loss():
    def f(a, b):
        return a * b * b

    a, b = nd.array(VALUES), nd.array(VALUES + 1)
    (da, db), y = autograd.grad_and_loss(f)(a, b)
    np.testing.assert_array_equal(y.asnumpy(), VALUES * (VALUES + 1) ** 2)
    np.testing.assert_array_equal(da.asnumpy(), (VALUES + 1) ** 2)
    np.testing.assert_array_equal(db.asnumpy(), 2 * VALUES * (VALUES + 1))
    (only,) = autograd.grad(f, argnum=1)(a, b)
    np.testing.assert_array_equal(only.asnumpy(), db.asnumpy())
    with pytest.raises(TypeError, match="grad_and_loss: arguments must be NDArrays, got float"):
        autograd.grad(f)(a, 3.0)


def test_operators_that_are_called_contrib():
    assert "index_copy" in dir(mx.contrib.nd)
    assert mx.contrib.sym.index_copy is mx.sym._contrib_index_copy
    with pytest.raises(AttributeError, match="_contrib_nonsense"):
        mx.contrib.nd.nonsense  # noqa: B018
