"""Arrays by name as `.safetensors` bytes, by the library of that name: what `raymx.params` does for MXNet's own files.

The format knows names only. A list is written under the names 0, 1, …, and a word in the file's metadata says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from raymx.errors import DTypeError, FormatError, ParameterError
from raymx.ops.params import DTYPES

LIST = {"raymx": "list"}


def dumps(arrays: Sequence[np.ndarray] | Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a `.safetensors` file with these arrays. Raises ParameterError for names that are no strings."""
    from safetensors.numpy import save

    named = dict(arrays) if isinstance(arrays, Mapping) else {str(i): a for i, a in enumerate(arrays)}
    for name in named:
        if not isinstance(name, str):
            raise ParameterError(f"save: names of arrays must be strings, got {name!r}.")
    return save({n: np.ascontiguousarray(a) for n, a in named.items()}, None if isinstance(arrays, Mapping) else LIST)


def loads(data: bytes, source: str = "bytes") -> list[np.ndarray] | dict[str, np.ndarray]:
    """The arrays in `data`: a dict, or a list if one was written. `source` names the file in errors.

    Raises FormatError for anything but a whole `.safetensors` file, and DTypeError, naming the array, for an element
    type that MXNet does not have (bfloat16, …).
    """
    from safetensors import SafetensorError, deserialize

    data = bytes(data)
    try:
        entries = deserialize(data)
    except SafetensorError as error:
        raise FormatError(f"{source} is not a .safetensors file: {error}.") from None
    arrays = {name: _array(entry, f"{source}: array {name!r}") for name, entry in sorted(entries)}
    if _is_list(data, arrays):
        return [arrays[str(i)] for i in range(len(arrays))]
    return arrays


def _array(entry: dict, who: str) -> np.ndarray:
    dtype = _NAMES.get(entry["dtype"])
    if dtype is None:
        raise DTypeError(f"{who} has the element type {entry['dtype']}; those that can be read: {', '.join(_NAMES)}.")
    return np.frombuffer(entry["data"], dtype).reshape(entry["shape"]).astype(dtype.newbyteorder("="))


def _is_list(data: bytes, arrays: Mapping[str, np.ndarray]) -> bool:
    import json

    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    return LIST.items() <= metadata.items() and all(str(i) in arrays for i in range(len(arrays)))


_LETTERS = {"f": "F", "i": "I", "u": "U"}
_NAMES = {
    "BOOL" if dtype.kind == "b" else f"{_LETTERS[dtype.kind]}{8 * dtype.itemsize}": dtype.newbyteorder("<")
    for dtype in DTYPES.values()
}
