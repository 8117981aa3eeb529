"""A number as arrays: what a scalar operator hands to a ufunc."""

from __future__ import annotations

import numpy


class Constant(dict):
    """One number as a 0-d array of every element type that asked for it, in C's conversion.

    A ufunc takes such an array in half the time of a Python number, which it would convert at each call.
    """

    def __init__(self, value: int | float):
        super().__init__()
        self.value = value

    def __missing__(self, dtype: numpy.dtype):
        with numpy.errstate(all="ignore"):
            self[dtype] = numpy.array(self.value).astype(dtype)
        return self[dtype]

    def like(self, xp, data):
        """The number in `data`'s element type, fit for `xp`'s ufuncs."""
        return self[data.dtype] if xp is numpy else self[data.dtype].item()
