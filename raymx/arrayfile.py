"""Files of arrays, in the format that their suffix tells: `.safetensors`, else MXNet's `.params`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from raymx import params, safetensors, storage


def write(path, arrays: Sequence[np.ndarray] | Mapping[str, np.ndarray]) -> None:
    """Write a list or dict of arrays to a path or URL, all or nothing. Raises what the format cannot hold as
    DTypeError, ShapeError or ParameterError."""
    storage.write_bytes(path, _format(path).dumps(arrays))


def read(path) -> list[np.ndarray] | dict[str, np.ndarray]:
    """The arrays at a path or URL, a dict if they have names. Raises FormatError for a damaged file."""
    return _format(path).loads(storage.read_bytes(path), str(path))


def convert(source, target) -> int:
    """Write the arrays of one file into another, each in the format that its suffix tells; the number of arrays."""
    arrays = read(source)
    write(target, arrays)
    return len(arrays)


def _format(path):
    return safetensors if storage.normalize(path).endswith(".safetensors") else params
