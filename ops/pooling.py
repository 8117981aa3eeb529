"""Pooling: one number for each window of the data, channel by channel."""

from __future__ import annotations

import functools
import math

import numpy as np

from raymx.errors import ParameterError
from raymx.ops.layout import laid_out, layout_of, logical
from raymx.ops.op import operator
from raymx.ops.params import Shape, param
from raymx.ops.shapes import agreed
from raymx.ops.windows import FIRST, LAYOUTS, Sliding, Windows, per_axis


@operator("Pooling")
class Pooling(Sliding):
    """out (N, C, *Y) = the maximum, mean, sum, or root of the sum of powers (`lp`), of each window of data (N, C, *X).

    Along each axis Y = (X + 2 pad - kernel) / stride + 1, rounded down (`valid`) or up (`full`); `same`: (X + 2 pad) /
    stride, rounded up. What lies outside of data counts for nothing, but a mean is over the whole window as far as it
    lies within pad, unless `count_include_pad` is False. The gradient of a maximum goes to the first one in its window.

    The hidden output `where` of `max` is the position of each maximum in its window.
    """

    channelled = ("data", "out")

    kernel: Shape = param((), doc="size of a window, one number an axis; () with `global_pool` only")
    pool_type: str = param("max", doc="what to take of a window", choices=("max", "avg", "sum", "lp"))
    global_pool: bool = param(False, doc="one window over all of data, whatever its size")
    cudnn_off: bool = param(False, doc="do not use cuDNN")
    pooling_convention: str = param("valid", doc="how sizes are rounded", choices=("valid", "full", "same"))
    stride: Shape = param((), doc="distance of windows; () = 1 everywhere")
    pad: Shape = param((), doc="added before and behind each axis; () = none")
    p_value: int | None = param(None, doc="p of `lp`", low=1, high=3)
    count_include_pad: bool | None = param(None, doc="whether a mean counts elements within pad; None = True")
    layout: str | None = param(None, doc="axes of data; None = channels first", choices=LAYOUTS)

    whole_kernel = False  # a mean is over as many elements as the kernel has, wherever the window lies

    def setup(self):
        self.power = self.p_value or 1
        if self.pool_type == "lp" and self.p_value is None:
            raise ParameterError(f"{self.name}: pool_type='lp' needs p_value, 1, 2 or 3.")
        if self.channels_last or not self._is_simple():
            self.channelled = ()
        if self.global_pool:
            return
        if not self.kernel:
            raise ParameterError(f"{self.name}: kernel, 1, 2 or 3 numbers, is missing; or set global_pool=True.")
        n = len(self.kernel)
        self.stride, self.pad = per_axis(self.stride, 1, n), per_axis(self.pad, 0, n)
        self.check_windows("stride", "pad")
        self.check_layout(n)

    def _is_simple(self) -> bool:
        """Whether special kernels, too, can do it."""
        if self.pool_type == "avg":
            beyond = self.pooling_convention != "valid" and any(self.pad) and self.count_include_pad is not False
            return self.global_pool or self.whole_kernel or not beyond
        return self.pool_type == "max" and not self.global_pool

    def outputs(self):
        return ("out", "where") if self.pool_type == "max" else ("out",)

    def visible_outputs(self):
        return 1

    def windows(self, sizes: Shape) -> Windows:
        """The windows over data of these sizes (*X)."""
        n = len(sizes)
        if self.global_pool:
            return Windows(sizes, (1,) * n, (1,) * n, (0,) * n)
        return Windows(self.kernel, self.stride, (1,) * n, self.pad)

    def infer_shape(self, data=None, out=None):
        if data is None:
            return {}
        if len(data) - 2 not in (FIRST if self.global_pool else (len(self.kernel),)):
            wanted = "3 to 5 axes" if self.global_pool else f"{len(self.kernel) + 2} axes for kernel {self.kernel}"
            raise ValueError(f"data must have {wanted}")
        data, out = self.first(data), self.first(out)
        data = agreed(data, (*out[:2], *(0,) * (len(data) - 2))) if out is not None and len(out) == len(data) else data
        shape = self.last((*data[:2], *self._count(data[2:])))
        return {"data": self.last(data), **dict.fromkeys(self.outputs(), shape)}

    def _count(self, sizes: Shape) -> Shape:
        """Windows along each axis; raises ValueError if one does not fit."""
        if self.global_pool:
            return (1,) * len(sizes)
        rows = list(zip(sizes, self.kernel, self.stride, self.pad, strict=True))
        if any(x and x + 2 * p < k for x, k, _, p in rows):
            padded = tuple(x + 2 * p for x, _, _, p in rows)
            raise ValueError(f"a window of {self.kernel} does not fit into data, with pad {padded}")
        return tuple(self._round(x + 2 * p, k, s) if x else 0 for x, k, s, p in rows)

    def _round(self, size: int, kernel: int, stride: int) -> int:
        if self.pooling_convention == "same":
            return -(-size // stride)
        up = stride - 1 if self.pooling_convention == "full" else 0
        return (size - kernel + up) // stride + 1

    def infer_type(self, known):
        types = super().infer_type({n: t for n, t in known.items() if n != "where"})
        return {**types, "where": self._positions()} if "where" in known else types

    def _positions(self) -> np.dtype:
        """The element type for a position in a window."""
        return np.dtype("int32" if self.global_pool or math.prod(self.kernel) > 255 else "uint8")

    # ---- kernels ----

    def positions(self, where, out):
        """`where`, which is memory in C order, as an array in out's layout (N, C, *Y)."""
        return self.first(where) if self.channels_last else laid_out(where.reshape(-1), logical(out), layout_of(out))

    def forward(self, xp, data, *, out, where=None):
        data, out = self.first(data), self.first(out)
        windows = self.windows(data.shape[2:])
        if self.pool_type == "max":
            self._maximum(xp, windows, data, out, None if where is None else self.positions(where, out))
            return
        out[...] = 0
        for offset in windows.offsets():
            there, here = windows.meet(offset, data.shape[2:], out.shape[2:])
            out[here] += self._term(xp, data[there])
        if self.pool_type == "avg":
            xp.divide(out, self._counts(xp, windows, data, out), out=out)
        elif self.pool_type == "lp":
            _ROOTS[self.power](xp, out)

    def _maximum(self, xp, windows, data, out, where) -> None:
        out[...] = xp.finfo(data.dtype).min
        if where is not None:
            where[...] = 0
        for i, offset in enumerate(windows.offsets()):
            there, here = windows.meet(offset, data.shape[2:], out.shape[2:])
            if where is not None:
                where[here][data[there] > out[here]] = i
            xp.maximum(out[here], data[there], out=out[here])

    def _term(self, xp, part):
        return part if self.pool_type != "lp" else part**self.power

    def _counts(self, xp, windows, data, out):
        """How many elements each window's mean is over, (*Y) in out's element type."""
        if self.whole_kernel:
            return out.dtype.type(math.prod(windows.kernel))
        pads = windows.pad if self.count_include_pad in (None, True) else (0,) * len(windows.pad)
        return xp.asarray(_counts(windows, data.shape[2:], out.shape[2:], pads), out.dtype)

    def backward_needs(self):
        return {"max": ("where",), "lp": ("data", "out")}.get(self.pool_type, ())

    def scratch_backward(self, shapes, dtype):
        return {} if self.pool_type == "sum" else {"part": (self.first(shapes["g"]), dtype)}

    def backward(self, xp, g, *kept, d_data=None, part=None):
        g, d_data = self.first(g), self.first(d_data)
        kept = (self.positions(*kept, g),) if self.pool_type == "max" else tuple(map(self.first, kept))
        windows = self.windows(d_data.shape[2:])
        if self.pool_type == "avg":
            xp.divide(g, self._counts(xp, windows, d_data, g), out=part)
        elif self.pool_type == "lp":
            xp.divide(g, kept[1] ** (self.power - 1), out=part)
        d_data[...] = 0
        for i, offset in enumerate(windows.offsets()):
            there, here = windows.meet(offset, d_data.shape[2:], g.shape[2:])
            d_data[there] += self._share(xp, i, g, part, kept, there, here)

    def _share(self, xp, i: int, g, part, kept, there, here):
        """The gradient of the elements at offset `i` of their windows."""
        if self.pool_type == "max":
            return xp.multiply(g[here], kept[0][here] == i, out=part[here])
        if self.pool_type == "lp":
            return part[here] * kept[0][there] ** (self.power - 1)
        return g[here] if part is None else part[here]


@operator("Pooling_v1")
class PoolingV1(Pooling):
    """As Pooling, but a mean is over the whole kernel even where a window lies outside of data and pad, as in 2015."""

    whole_kernel = True


_ROOTS = {
    1: lambda xp, out: None,
    2: lambda xp, out: xp.sqrt(out, out=out),
    3: lambda xp, out: xp.cbrt(out, out=out),
}


@functools.cache
def _counts(windows: Windows, sizes: Shape, counts: Shape, pads: Shape) -> np.ndarray:
    """How many elements of each window (*Y) lie within data of `sizes` (*X) and `pads` around it."""
    result = np.ones(())
    for k, s, p, x, y, pad in zip(windows.kernel, windows.stride, windows.pad, sizes, counts, pads, strict=True):
        begin = np.arange(y) * s - p
        inside = np.minimum(begin + k, x + pad) - np.maximum(begin, -pad)
        result = np.multiply.outer(result, np.maximum(inside, 1))
    return result
