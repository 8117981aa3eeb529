"""Operators and kernels. Importing this package fills the registry, so that `find` and `make` know every name."""

from raymx.ops import (  # noqa: F401
    arithmetic,
    convert,
    creation,
    elementwise,
    indexing,
    layers,
    losses,
    matrix,
    random,
    reduce,
    reorder,
    reshape,
    rnn,
    slicing,
    softmax,
    special,
    trigonometry,
    update,
)
from raymx.ops.kernels import onednn  # noqa: F401
