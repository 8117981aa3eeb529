"""Names of MXNet's `base`."""

import numpy as np

import raymx as mx


def test_names():
    assert mx.base.MXNetError is mx.MXNetError
    assert mx.base.mx_real_t is np.float32
    assert isinstance(1.5, mx.base.numeric_types) and isinstance("a", mx.base.string_types)
