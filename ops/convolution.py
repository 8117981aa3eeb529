"""Convolution and its transpose, over 1, 2 or 3 axes."""

from __future__ import annotations

from raymx.errors import ParameterError
from raymx.ops.op import operator
from raymx.ops.params import Shape, param
from raymx.ops.shapes import agreed
from raymx.ops.windows import FIRST, LAYOUTS, Sliding, Windows, columns_shape, gather, outer, per_axis, scatter


class Convolving(Sliding):
    """What both have in common: a weight (F, C / groups, *kernel) between a large side (N, C, *X) and a small one
    (N, F, *Y), each element of which sees one window of the large side."""

    channelled = ("data", "out")

    kernel: Shape = param(doc="size of a window, one number an axis")
    stride: Shape = param((), doc="distance of windows; () = 1 everywhere")
    dilate: Shape = param((), doc="distance of a window's elements; () = 1 everywhere")
    pad: Shape = param((), doc="zeros before and behind each axis; () = none")
    num_filter: int = param(doc="channels of the output", low=1)
    num_group: int = param(1, doc="parts into which the channels fall; each sees its own part only", low=1)
    workspace: int = param(1024, doc="has no effect: memory is planned", low=0)
    no_bias: bool = param(False, doc="leave out the bias input")
    cudnn_tune: str | None = param(
        None, doc="how to choose cuDNN's algorithm", choices=("off", "limited_workspace", "fastest")
    )
    cudnn_off: bool = param(False, doc="do not use cuDNN")
    layout: str | None = param(None, doc="axes of data, weight and output; None = channels first", choices=LAYOUTS)

    def setup(self):
        n = len(self.kernel)
        self.stride, self.dilate = per_axis(self.stride, 1, n), per_axis(self.dilate, 1, n)
        self.pad = per_axis(self.pad, 0, n)
        self.check_windows("stride", "dilate", "pad")
        self.check_layout(n)
        if self.num_filter % self.num_group:
            raise ParameterError(
                f"{self.name}: num_filter must be a multiple of num_group={self.num_group}, got {self.num_filter}."
            )
        if self.channels_last or self.num_group not in (1, self.num_filter):
            self.channelled = ()
        self.gains = bool(self.channelled)
        self.windows = Windows(self.kernel, self.stride, self.dilate, self.pad)

    def inputs(self):
        return ("data", "weight") if self.no_bias else ("data", "weight", "bias")

    def known_data(self, data: Shape | None, out: Shape | None) -> Shape | None:
        """Data's shape, channels first, as far as it is known; raises ValueError if it has not the kernel's axes."""
        n = len(self.kernel) + 2
        if data is not None and len(data) != n:
            raise ValueError(f"data must have {n} axes, {self.layout or FIRST[n - 2]}, for kernel {self.kernel}")
        data = self.first(data)
        if out is None or len(out) != n:
            return data
        return agreed(data, (out[0],) + (0,) * (n - 1))

    def channels(self, known: int) -> int:
        """`known`, the channels of data, if groups divide them."""
        if known % self.num_group:
            raise ValueError(f"data's {known} channels must be a multiple of num_group={self.num_group}")
        return known

    def arguments(self, weight: Shape) -> dict[str, Shape | None]:
        known: dict[str, Shape | None] = {"weight": self.last(weight)}
        return known if self.no_bias else {**known, "bias": (self.num_filter,)}

    def add_bias(self, xp, bias, out) -> None:
        if bias is not None:
            xp.add(out, bias.reshape(-1, *(1,) * len(self.kernel)), out=out)

    def sum_bias(self, xp, g, d_bias) -> None:
        if d_bias is not None:
            xp.sum(g, axis=(0, *range(2, g.ndim)), out=d_bias)

    def scratch_backward(self, shapes, dtype):
        wanted = {"columns": (self._columns(shapes["data"], shapes["g"]), dtype)}
        if "d_weight" in shapes:
            wanted["product"] = (shapes["weight"], dtype)
        return wanted

    def scratch(self, shapes, dtype):
        return {"columns": (self._columns(shapes["data"], shapes["out"]), dtype)}

    def _columns(self, data: Shape, out: Shape) -> Shape:
        return columns_shape(self.first(data), self.first(out), self.kernel)


@operator("Convolution", "Convolution_v1")
class Convolution(Convolving):
    """out (N, F, *Y) = data (N, C, *X), seen through windows, times weight (F, C / num_group, *kernel), + bias (F,).

    Along each axis Y = (X + 2 pad - dilate (kernel - 1) - 1) // stride + 1.
    """

    def infer_shape(self, data=None, weight=None, out=None):
        data, weight, out = self.known_data(data, out), self.first(weight), self.first(out)
        channels = data[1] if data else 0
        if not channels and weight is not None and len(weight) == len(self.kernel) + 2:
            channels = weight[1] * self.num_group
        channels = self.channels(channels)
        known = self.arguments((self.num_filter, channels // self.num_group, *self.kernel))
        if data is None:
            return known
        data = (data[0], channels, *self._seen_by(data[2:], out))
        return {**known, "data": self.last(data), "out": self.last((data[0], self.num_filter, *self._count(data[2:])))}

    def _seen_by(self, sizes: Shape, out: Shape | None) -> Shape:
        """Sizes of data; unknown ones follow from out's where windows do not jump."""
        if out is None or len(out) != len(sizes) + 2:
            return sizes
        rows = zip(sizes, out[2:], self.windows.extent, self.stride, self.pad, strict=True)
        return tuple(x or (y + e - 1 - 2 * p if y and s == 1 else 0) for x, y, e, s, p in rows)

    def _count(self, sizes: Shape) -> Shape:
        """Windows along each axis; raises ValueError if one does not fit."""
        rows = list(zip(sizes, self.windows.extent, self.stride, self.pad, strict=True))
        if any(x and x + 2 * p < e for x, e, _, p in rows):
            padded = tuple(x + 2 * p for x, _, _, p in rows)
            raise ValueError(f"a window of {self.windows.extent} does not fit into data, with pad {padded}")
        return tuple((x + 2 * p - e) // s + 1 if x else 0 for x, e, s, p in rows)

    def forward(self, xp, data, weight, bias=None, *, out, columns):
        data, weight, out = self.first(data), self.first(weight), self.first(out)
        gather(xp, self.windows, data, weight, out, self.num_group, columns)
        self.add_bias(xp, bias, out)

    def backward(
        self, xp, g, data, weight, *, d_data=None, d_weight=None, d_bias=None, columns=None, product=None
    ):
        g, data, weight = self.first(g), self.first(data), self.first(weight)
        d_data, d_weight = self.first(d_data), self.first(d_weight)
        if d_data is not None:
            scatter(xp, self.windows, g, weight, d_data, self.num_group, columns)
        if d_weight is not None:
            outer(xp, self.windows, data, g, d_weight, self.num_group, columns, product)
        self.sum_bias(xp, g, d_bias)


@operator("Deconvolution")
class Deconvolution(Convolving):
    """out (N, F, *Y) = a transposed convolution of data (N, C, *X) with weight (C, F / num_group, *kernel) + bias.

    Along each axis Y = stride (X - 1) + dilate (kernel - 1) + 1 - 2 pad + adj. With `target_shape`, Y is that, and pad
    and adj follow from it.
    """

    leading = ("kernel", "stride", "dilate", "pad", "adj", "target_shape")

    adj: Shape = param((), doc="added to the output's size, below stride; () = 0 everywhere")
    target_shape: Shape = param((), doc="the output's size; pad and adj are then not used; () = by the formula")
    workspace: int = param(512, doc="has no effect: memory is planned", low=0)
    no_bias: bool = param(True, doc="leave out the bias input")

    def setup(self):
        n = len(self.kernel)
        self.adj, self.target_shape = per_axis(self.adj, 0, n), per_axis(self.target_shape, 0, n)
        super().setup()
        self.check_windows("adj", "target_shape")
        if any(a >= s for a, s in zip(self.adj, self.stride, strict=True)) and not any(self.target_shape):
            raise ParameterError(f"{self.name}: adj must be below stride {self.stride}, got {self.adj}.")

    def infer_shape(self, data=None, weight=None, out=None):
        data, weight = self.known_data(data, out), self.first(weight)
        channels = data[1] if data else 0
        if not channels and weight is not None:
            channels = weight[0]
        channels = self.channels(channels)
        known = self.arguments((channels, self.num_filter // self.num_group, *self.kernel))
        if data is None:
            return known
        data = (data[0], channels, *data[2:])
        sizes = self._sizes(data[2:])
        return {**known, "data": self.last(data), "out": self.last((data[0], self.num_filter, *sizes))}

    def _sizes(self, data: Shape) -> Shape:
        """The output's sizes, 0 where data's is not known; raises ValueError if they cannot be had."""
        pads = self.placed(data).pad
        rows = zip(data, self._spread(data), pads, self.adj, self.target_shape, strict=True)
        sizes = tuple((t or full - 2 * p + a) if x else 0 for x, full, p, a, t in rows)
        if any(x and y < 1 for x, y in zip(data, sizes, strict=True)):
            raise ValueError(f"pad {pads} leaves nothing of the output")
        return sizes

    def placed(self, data: Shape) -> Windows:
        """The windows for data of these sizes; raises ValueError if `target_shape` is out of reach."""
        reach = self._spread(data)
        if any(x and t > full for x, full, t in zip(data, reach, self.target_shape, strict=True)):
            raise ValueError(f"target_shape {self.target_shape} is larger than {reach}, which is all that data reach")
        rows = zip(reach, self.target_shape, self.pad, strict=True)
        return self.windows._replace(pad=tuple((full - t + 1) // 2 if t else p for full, t, p in rows))

    def _spread(self, data: Shape) -> Shape:
        """The output's sizes without pad."""
        return tuple(s * (x - 1) + e for x, s, e in zip(data, self.stride, self.windows.extent, strict=True))

    def _columns(self, data, out):
        return columns_shape(self.first(out), self.first(data), self.kernel)

    def forward(self, xp, data, weight, bias=None, *, out, columns):
        data, weight, out = self.first(data), self.first(weight), self.first(out)
        scatter(xp, self.placed(data.shape[2:]), data, weight, out, self.num_group, columns)
        self.add_bias(xp, bias, out)

    def backward(
        self, xp, g, data, weight, *, d_data=None, d_weight=None, d_bias=None, columns=None, product=None
    ):
        g, data, weight = self.first(g), self.first(data), self.first(weight)
        d_data, d_weight = self.first(d_data), self.first(d_weight)
        windows = self.placed(data.shape[2:])
        if d_data is not None:
            gather(xp, windows, g, weight, d_data, self.num_group, columns)
        if d_weight is not None:
            outer(xp, windows, g, data, d_weight, self.num_group, columns, product)
        self.sum_bias(xp, g, d_bias)
