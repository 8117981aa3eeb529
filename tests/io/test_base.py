"""What iterators give: batches and descriptions."""

import copy
import pickle

import numpy as np
import pytest

from raymx import io


def test_a_description_unpacks_to_name_and_shape():
    desc = io.DataDesc("data", [4, 3], np.float16, "NCHW")
    name, shape = desc
    assert (name, shape, desc.dtype, desc.layout) == ("data", (4, 3), np.float16, "NCHW")
    assert dict([desc]) == {"data": (4, 3)}
    assert desc == ("data", (4, 3))
    assert repr(desc) == "DataDesc[data,(4, 3),float16,NCHW]"


def test_the_shape_of_a_description_is_of_integers():
    with pytest.raises(TypeError, match="the shape of 'data' must be a tuple of integers, got "):
        io.DataDesc("data", np.array([10.0, 2.0]))
    listed = io.DataDesc.get_list([("a", (1, 2)), ("b", (3,))], [("b", np.int32)])
    assert (listed, [d.dtype for d in listed]) == ([("a", (1, 2)), ("b", (3,))], [np.float32, np.int32])


def test_a_description_survives_copies():
    desc = io.DataDesc("data", (4, 3), np.int32, "NTC")
    for other in (pickle.loads(pickle.dumps(desc)), copy.deepcopy(desc)):
        assert (other, other.dtype, other.layout) == (desc, np.int32, "NTC")


def test_the_batch_axis_of_a_layout():
    assert [io.DataDesc.get_batch_axis(layout) for layout in ("NTC", "TNC", None)] == [0, 1, 0]


def test_a_batch_shows_its_shapes():
    assert repr(io.DataBatch([np.zeros((2, 3))], None)) == "DataBatch: data shapes: [(2, 3)] label shapes: []"


def test_an_iterator_needs_its_own_parts_only():
    class Two(io.DataIter):
        at = -1

        def iter_next(self):
            self.at += 1
            return self.at < 2

        def getdata(self):
            return [self.at]

        def getlabel(self):
            return [-self.at]

        def getpad(self):
            return 0

    found = [(b.data, b.label, b.pad, b.index) for b in Two(batch_size=1)]
    assert found == [([0], [0], 0, None), ([1], [-1], 0, None)]


def test_an_iterator_without_parts_says_so():
    class Mine(io.DataIter):
        pass

    with pytest.raises(NotImplementedError, match=r"Mine must define next\(\) or iter_next\(\)"):
        next(Mine())
