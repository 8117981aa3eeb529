"""oneDNN's kernels for the CPU, in float32, through ctypes.

`binding` describes arrays to oneDNN, makes primitives and calls for them; each other module holds the kernels of one
family of operators. A kernel is planned once over fixed arrays, so that a run costs little more than the calls.
"""

from raymx.ops.kernels.onednn import (  # noqa: F401
    convolution,
    elementwise,
    joined,
    normalize,
    pooling,
    product,
    rnn,
    softmax,
    update,
)
from raymx.ops.kernels.onednn.binding import has_avx512, load, use_threads

__all__ = ["has_avx512", "load", "use_threads"]
