from __future__ import annotations

import types

import numpy as np
import pytest

from raymx.ops.constant import Constant


@pytest.mark.parametrize(
    ("value", "dtype", "converted"),
    [
        (1.5, "int32", 1),
        (-1.5, "int32", -1),
        (-1, "uint8", 255),
        (300, "uint8", 44),
        (2.5, "float16", 2.5),
        (2, "bool", True),
    ],
)
def test_numbers_are_converted_as_in_c(value, dtype, converted):
    data = np.zeros(3, dtype)
    constant = Constant(value).like(np, data)
    assert constant.dtype == data.dtype and constant.shape == () and constant == converted


def test_each_type_is_made_once():
    constant, data = Constant(2), np.zeros(3)
    assert constant.like(np, data) is constant.like(np, data)


def test_other_array_modules_get_a_python_number():
    assert type(Constant(2).like(types.ModuleType("cupy"), np.zeros(3))) is float
