from __future__ import annotations

import numpy as np
import pytest

from raymx.errors import ParameterError
from raymx.ops.params import Param, as_dtype, text


def _declared(annotation, **settings) -> Param:
    p = Param(**settings)
    p.declare("p", annotation)
    return p


@pytest.mark.parametrize(
    ("annotation", "given", "value"),
    [
        ("int", "0x10", 16), ("int", 3.0, 3), ("int", np.int64(4), 4), ("float", "1e-2", 0.01), ("float", 2, 2.0),
        ("int | float", "2", 2), ("int | float", "2.0", 2.0), ("int | float", np.float32(0.5), 0.5),
        ("bool", "true", True),
        ("bool", 0, False), ("Shape", "(2,)", (2,)), ("Shape", "[2, 3]", (2, 3)), ("Shape", "(2L, 3L)", (2, 3)),
        ("Shape", 2, (2,)), ("Shape", "()", ()), ("Shape", np.array([2, 3]), (2, 3)), ("int | None", "None", None),
        ("Bounds", "(None, 2)", (None, 2)), ("Bounds", [np.int64(1), None], (1, None)), ("Bounds", 3, (3,)),
        ("Floats", "(1, 2.5)", (1.0, 2.5)), ("Floats", 0.5, (0.5,)), ("Floats", "[1e-3, 2]", (0.001, 2.0)),
        ("np.dtype", "float16", np.dtype("float16")), ("str", "relu", "relu"),
    ],
)  # fmt: skip
def test_values_and_their_texts(annotation, given, value):
    parsed = _declared(annotation).parse(given, "op")
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("annotation", "settings", "given", "message"),
    [
        ("int", {"low": 1, "high": 3}, 4, "op: p must be an integer from 1 to 3, got 4."),
        ("int", {}, "two", "op: p must be an integer, got 'two'."),
        ("float", {"high": 1}, 2, "op: p must be a number of at most 1, got 2.0."),
        ("bool", {}, "yes", "op: p must be True or False, got 'yes'."),
        ("str", {}, 3, "op: p must be a string, got 3."),
        ("Shape", {}, "(1, 2.5)", "op: p must be a tuple of integers, got '(1, 2.5)'."),
        ("str", {"choices": ("a", "b")}, "c", "op: p must be one of 'a', 'b', got 'c'."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(annotation, settings, given, message):
    with pytest.raises(ParameterError) as caught:
        _declared(annotation, **settings).parse(given, "op")
    assert str(caught.value) == message


def test_dtypes_that_arrays_cannot_have():
    with pytest.raises(TypeError, match=r"^dtype must be one of float32, .*, got complex64\.$"):
        as_dtype("complex64")


def test_texts_are_mxnets():
    assert [text(v) for v in ((2,), (2, 3), (), True, 0.5, np.dtype("float32"), (np.int64(2),), (1.0, 2.5))] == [
        "(2,)", "(2, 3)", "()", "True", "0.5", "float32", "(2,)", "(1.0, 2.5)",
    ]  # fmt: skip
