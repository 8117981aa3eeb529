"""Gradients in fewer bytes.

- `2bit`: each element is sent as -t, 0 or t, for the threshold t, in two bits; what that leaves over is added to the
  next gradient (error feedback: Seide et al., 1-bit stochastic gradient descent, 2014).
- `fp16`: half precision.

A packed value is a `Packed`; the shard unpacks it before it sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from raymx.errors import ParameterError

KINDS = ("2bit", "fp16")


class Packed(NamedTuple):
    """A gradient as it travels."""

    kind: str
    data: np.ndarray
    shape: tuple[int, ...]
    dtype: str
    threshold: float

    def unpacked(self) -> np.ndarray:
        """The gradient that is meant."""
        if self.kind == "fp16":
            return self.data.astype(self.dtype).reshape(self.shape)
        size = int(np.prod(self.shape))
        codes = (self.data[:, None] >> _SHIFTS) & 3
        levels = np.array([0, self.threshold, -self.threshold, 0], self.dtype)
        return levels[codes.reshape(-1)[:size]].reshape(self.shape)


class Compression:
    """What one worker sends, with the errors that it owes: `pack(place, gradient)`."""

    def __init__(self, type: str, threshold: float = 0.5):
        if type not in KINDS:
            raise ParameterError(f"set_gradient_compression: type must be one of {', '.join(KINDS)}, got {type!r}.")
        if type == "2bit" and not threshold > 0:
            raise ParameterError(f"set_gradient_compression: threshold must be above 0, got {threshold!r}.")
        self.type, self.threshold = type, float(threshold)
        self.owed: dict[Any, np.ndarray] = {}  # place → what was not sent yet

    def of(self, places: Sequence[Any]) -> Callable[[list], list]:
        """What packs a list of gradients, one of each place."""
        return lambda gradients: [self.pack(place, each) for place, each in zip(places, gradients, strict=True)]

    def pack(self, place: Any, gradient: np.ndarray) -> Packed:
        """The gradient of one place (a key, or a part of one) as it is sent."""
        shape, dtype = gradient.shape, gradient.dtype.name
        if self.type == "fp16":
            return Packed("fp16", gradient.astype("float16"), shape, dtype, 0.0)
        owed = self.owed.setdefault(place, np.zeros(gradient.size, gradient.dtype))
        owed += gradient.reshape(-1)
        above, below = owed >= self.threshold, owed <= -self.threshold
        owed[above] -= self.threshold
        owed[below] += self.threshold
        codes = np.zeros(-(-gradient.size // 4) * 4, "uint8")
        codes[: gradient.size] = above + 2 * below.astype("uint8")
        return Packed(
            "2bit", np.bitwise_or.reduce(codes.reshape(-1, 4) << _SHIFTS, axis=1), shape, dtype, self.threshold
        )


_SHIFTS = np.array([0, 2, 4, 6], "uint8")
