"""Operators and kernels. Importing this package fills the registry, so that `find` and `make` know every name."""

from raymx.ops import (  # noqa: F401
    activation,
    arithmetic,
    convert,
    creation,
    custom,
    elementwise,
    embedding,
    indexing,
    layers,
    losses,
    matrix,
    random,
    reduce,
    reorder,
    reshape,
    rnn,
    sequence,
    slicing,
    softmax,
    spatial,
    special,
    trigonometry,
    update,
)
from raymx.ops.kernels import onednn, onednn_rnn  # noqa: F401
