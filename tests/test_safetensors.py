"""`.safetensors` bytes: what goes in comes out, other writers' files are read, and damage is a FormatError."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import safetensors.numpy

from raymx import safetensors as st
from raymx.errors import DTypeError, FormatError, ParameterError
from tests.test_params import DTYPES, LIST, same


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_element_type_goes_round(dtype):
    arrays = {"arg:w": np.arange(6).reshape(2, 3).astype(dtype), "b": np.ones(1, dtype)}
    same(st.loads(st.dumps(arrays)), arrays)


def test_a_list_comes_back_as_a_list():
    same(st.loads(st.dumps(LIST * 2)), LIST * 2)


def test_arrays_that_lie_otherwise_in_memory():
    turned = np.arange(6.0).reshape(2, 3).T
    np.testing.assert_array_equal(st.loads(st.dumps({"x": turned}))["x"], turned)


def test_the_librarys_own_files_are_read_and_ours_by_it():
    arrays = {"z": np.ones((2, 2), "float32"), "a": np.zeros(3, "int64")}
    found = st.loads(safetensors.numpy.save(arrays))
    assert found.keys() == arrays.keys() and (found["z"] == 1).all()
    assert safetensors.numpy.load(st.dumps(arrays)).keys() == arrays.keys()


def test_names_must_be_strings():
    with pytest.raises(ParameterError, match=r"save: names of arrays must be strings, got 3\."):
        st.dumps({3: np.ones(1)})


def test_other_element_types_are_named():
    head = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    data = struct.pack("<Q", len(head)) + head + bytes(4)
    with pytest.raises(DTypeError, match=r"f: array 'x' has the element type BF16; those that can be read: F32, "):
        st.loads(data, "f")


@pytest.mark.parametrize("nbytes", range(0, 120, 7))
def test_a_cut_file_is_an_error(nbytes):
    whole = st.dumps({"x": np.ones(20, "float32")})
    with pytest.raises(FormatError, match=r"^cut is not a .safetensors file: "):
        st.loads(whole[:nbytes], "cut")
