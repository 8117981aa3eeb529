"""The names of MXNet's `base` that scripts use."""

import numbers

import numpy as np

from raymx.errors import MXNetError

__all__ = ["MXNetError", "mx_float", "mx_real_t", "mx_uint", "numeric_types", "string_types"]

mx_real_t = np.float32  # the element type of arrays by default
mx_float, mx_uint = np.float32, np.uint32
numeric_types = (numbers.Real, np.generic)
string_types = (str,)
