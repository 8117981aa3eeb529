"""Layers that change the extent of images: padding, cutting, upsampling."""

from __future__ import annotations

from raymx.errors import ParameterError
from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.shapes import agreed


def image(shape: Shape | None, name: str = "data") -> Shape | None:
    """`shape`, if it is that of a batch of images (N, C, H, W) or unknown; raises ValueError otherwise."""
    if shape is not None and len(shape) != 4:
        raise ValueError(f"{name} must have 4 axes (N, C, H, W)")
    return shape


@operator("Pad", "pad")
class Pad(Op):
    """out = data (…), each axis longer by the two numbers that `pad_width` holds for it.

    `mode` tells what stands there: `constant`: constant_value; `edge`: the nearest element of data; `reflect`: data
    mirrored at its first and last element, for widths below the axis' length.
    """

    kinds = "fiub"
    mode: str = param(doc="what to pad with", choices=("constant", "edge", "reflect"))
    pad_width: Shape = param(doc="before_1, after_1, before_2, after_2, …: two numbers for each axis")
    constant_value: float = param(0.0, doc="what to pad with in mode `constant`")

    def setup(self):
        if len(self.pad_width) % 2 or any(width < 0 for width in self.pad_width):
            raise ParameterError("Pad: pad_width must hold two numbers of at least 0 for each axis, "
                                 f"got {self.pad_width}.")
        self.widths = tuple(zip(self.pad_width[::2], self.pad_width[1::2], strict=True))

    def infer_shape(self, data):
        if len(data) != len(self.widths):
            raise ValueError(f"pad_width must hold {2 * len(data)} numbers, two for each axis")
        if self.mode == "reflect" and any(max(w) >= n for w, n in zip(self.widths, data, strict=True)):
            raise ValueError(f"widths to reflect must be smaller than the axis, pad_width is {self.pad_width}")
        return {"out": tuple(before + n + after for n, (before, after) in zip(data, self.widths, strict=True))}

    def _inner(self, shape: Shape) -> tuple[slice, ...]:
        """Where data lies in out, of this shape."""
        return tuple(slice(before, n - after) for n, (before, after) in zip(shape, self.widths, strict=True))

    def forward(self, xp, data, *, out):
        if self.mode == "constant":
            out.fill(self.constant_value)
        out[self._inner(out.shape)] = data
        if self.mode != "constant":
            for axis in range(out.ndim):
                for pad, source in self._pads(out, axis):
                    xp.copyto(pad, source)

    def scratch_backward(self, shapes, dtype):
        return {} if self.mode == "constant" else {"folded": (shapes["g"], dtype)}

    def backward(self, xp, g, *, d_data=None, folded=None):
        if self.mode != "constant":
            xp.copyto(folded, g)
            g = folded
            for axis in reversed(range(g.ndim)):
                for pad, source in self._pads(g, axis):
                    self._fold(xp, pad, source, axis)
        xp.copyto(d_data, g[self._inner(g.shape)])

    def _fold(self, xp, pad, source, axis: int) -> None:
        """Add the pad's gradient to that of where its elements come from."""
        xp.add(source, pad if self.mode == "reflect" else pad.sum(axis=axis, keepdims=True), out=source)

    def _pads(self, out, axis: int):
        """The two pads of an axis, each with the part of `out` that it repeats; axes after it are data's own part."""
        (before, after), lines = self.widths[axis], self._lines(out, axis)
        last = len(lines) - after - 1
        if self.mode == "edge":
            sources = lines[before : before + 1], lines[last : last + 1]
        else:
            sources = lines[before + 1 : 2 * before + 1][::-1], lines[last - after : last][::-1]
        for pad, source in zip((lines[:before], lines[last + 1 :]), sources, strict=True):
            if len(pad):
                yield pad.swapaxes(0, axis), source.swapaxes(0, axis)

    def _lines(self, out, axis: int):
        """`out` with `axis` first, the axes after it cut to data's part."""
        return out[(slice(None),) * (axis + 1) + self._inner(out.shape)[axis + 1 :]].swapaxes(0, axis)


@operator("Crop")
class Crop(Op):
    """out (N, C, h, w) = a part of arg0 (N, C, H, W): h and w are `h_w`, or those of arg1 (…, h, w) if there are two.

    It starts at `offset`, or lies in the middle (`center_crop`). No gradient for arg1.
    """

    variadic = "num_args"
    kinds = "fiub"
    num_args: int = param(doc="1: to the size h_w; 2: to the size of arg1", low=1, high=2)
    offset: Shape = param((0, 0), doc="first line and column of the part")
    h_w: Shape = param((0, 0), doc="height and width of the part, for one input")
    center_crop: bool = param(False, doc="cut from the middle")

    def setup(self):
        if len(self.h_w) != 2 or len(self.offset) != 2 or min(self.offset) < 0:
            raise ParameterError(f"Crop: h_w and offset must hold two numbers of at least 0 each, got {self.h_w} and "
                                 f"{self.offset}.")
        if self.num_args == 1 and min(self.h_w) < 1:
            raise ParameterError(f"Crop: with one input h_w must hold the part's height and width, got {self.h_w}.")

    def inputs(self):
        return ("arg0", "arg1")[: self.num_args]

    def infer_shape(self, arg0=None, arg1=None):
        size = self.h_w if self.num_args == 1 else (image(arg1, "arg1") or (0,) * 4)[2:]
        if image(arg0, "arg0") is None:
            return {}
        if 0 not in (*size, *arg0[2:]):
            self._start(arg0[2:], size)
        return {"out": (*arg0[:2], *size)}

    def _start(self, extent: Shape, size: Shape) -> Shape:
        """The first line and column; raises ValueError if the part does not lie within `extent`."""
        start = tuple((n - k) // 2 for n, k in zip(extent, size, strict=True)) if self.center_crop else self.offset
        if any(s < 0 or s + k > n for s, k, n in zip(start, size, extent, strict=True)):
            raise ValueError(f"a part of {size} at {start} does not lie within an image of {extent}")
        return start

    def _part(self, array, size: Shape):
        y, x = self._start(array.shape[2:], size)
        return array[:, :, y : y + size[0], x : x + size[1]]

    def forward(self, xp, arg0, arg1=None, *, out):
        xp.copyto(out, self._part(arg0, out.shape[2:]))

    def backward(self, xp, g, *, d_arg0=None):
        d_arg0.fill(0)
        xp.copyto(self._part(d_arg0, g.shape[2:]), g)


@operator("UpSampling")
class UpSampling(Op):
    """out (N, C, scale H, scale W) = images, enlarged.

    `nearest`: each element of arg0 (N, C, H, W) is repeated. Further inputs (N, C_i, H_i, W_i) are enlarged to the same
    extent, and all are joined along axis 1 (`concat`) or added (`sum`).
    `bilinear`: data (N, C, H, W) is convolved backwards, each channel with a kernel of its own, weight (C, 1, K, K),
    K = 2 scale - scale % 2; initializers fill it with bilinear interpolation.
    """

    variadic = "num_args"
    kinds = "f"
    initial = {"weight": '["bilinear", {}]'}
    scale: int = param(doc="factor of height and width", low=1)
    num_filter: int = param(0, doc="C, for bilinear; 0 = as data has", low=0)
    sample_type: str = param(doc="how to enlarge", choices=("nearest", "bilinear"))
    multi_input_mode: str = param("concat", doc="what to do with several inputs", choices=("concat", "sum"))
    num_args: int = param(doc="number of inputs", low=1)
    workspace: int = param(512, doc="accepted and without effect", low=0)

    def setup(self):
        self.bilinear = self.sample_type == "bilinear"
        self.kernel, self.pad = 2 * self.scale - self.scale % 2, self.scale // 2

    def inputs(self):
        return ("data", "weight") if self.bilinear else tuple(f"arg{i}" for i in range(self.num_args))

    def infer_shape(self, **known):
        first = known[self.inputs()[0]]
        if image(first, self.inputs()[0]) is None:
            return {}
        n, c, h, w = first
        if not self.bilinear:
            c = self._channels({name: known[name] for name in self.inputs()}, (h * self.scale, w * self.scale))
            return {"out": (n, c, h * self.scale, w * self.scale)}
        if self.num_filter not in (0, c) and c:
            raise ValueError(f"num_filter must be the number of data's channels, got {self.num_filter}")
        return {"weight": (c, 1, self.kernel, self.kernel), "out": (n, c, h * self.scale, w * self.scale)}

    def _channels(self, shapes: dict[str, Shape | None], extent: Shape) -> int:
        """Channels of out, 0 if they are not known yet; raises ValueError for an input that has no whole factor."""
        for name, shape in shapes.items():
            h, w = (image(shape, name) or (0,) * 4)[2:]
            if h and w and (extent[0] % h or extent[1] % w):
                raise ValueError(f"{extent} must be a multiple of {name}'s height and width")
        counts = [shape[1] if shape else 0 for shape in shapes.values()]
        if self.multi_input_mode == "sum":
            return (agreed(*((c,) for c in counts)) or (0,))[0]
        return 0 if 0 in counts else sum(counts)

    def forward(self, xp, *args, out):
        if self.bilinear:
            self._spread(xp, *args, out)
            return
        channels = [data.shape[1] for data in args]
        for i, (data, part) in enumerate(zip(args, self._parts(out, channels), strict=True)):
            blocks, data = _blocks(part, data.shape), data[:, :, :, None, :, None]
            if i and self.multi_input_mode == "sum":
                xp.add(blocks, data, out=blocks)
            else:
                xp.copyto(blocks, data)

    def backward_needs(self):
        return () if self.inputs() == ("arg0",) else self.inputs()

    def backward(self, xp, g, *args, **d):
        wanted = [d.get(f"d_{name}") for name in self.inputs()]
        if self.bilinear:
            self._spread_backward(xp, g, *args, *wanted)
            return
        channels = [data.shape[1] for data in args] or [g.shape[1]]
        for destination, part in zip(wanted, self._parts(g, channels), strict=True):
            if destination is not None:
                xp.sum(_blocks(part, destination.shape), axis=(3, 5), out=destination)

    def _parts(self, out, channels: list[int]):
        """What each input fills of `out`."""
        start = 0
        for count in channels:
            if self.multi_input_mode == "sum":
                yield out
            else:
                yield out[:, start : start + count]
                start += count

    def _spread(self, xp, data, weight, out) -> None:
        out.fill(0)
        for lines, columns, y, x in self._taps(data.shape, out.shape):
            target = out[:, :, lines[1], columns[1]]
            xp.add(target, data[:, :, lines[0], columns[0]] * weight[:, 0, y, x, None, None], out=target)

    def _spread_backward(self, xp, g, data, weight, d_data, d_weight) -> None:
        if d_data is not None:
            d_data.fill(0)
        for lines, columns, y, x in self._taps(data.shape, g.shape):
            part = g[:, :, lines[1], columns[1]]
            if d_weight is not None:
                d_weight[:, 0, y, x] = (part * data[:, :, lines[0], columns[0]]).sum(axis=(0, 2, 3))
            if d_data is not None:
                target = d_data[:, :, lines[0], columns[0]]
                xp.add(target, part * weight[:, 0, y, x, None, None], out=target)

    def _taps(self, data: Shape, out: Shape):
        """For each element of the kernel: the lines and columns of data that meet it, and of out that they fall on."""
        lines, columns = (
            [self._meet(k, n, m) for k in range(self.kernel)] for n, m in zip(data[2:], out[2:], strict=True)
        )
        for y, line in enumerate(lines):
            for x, column in enumerate(columns):
                yield line, column, y, x

    def _meet(self, k: int, n: int, m: int) -> tuple[slice, slice]:
        """Element i of n falls on element i * scale + k - pad of m: those i for which there is one, and these."""
        first = max(0, -((k - self.pad) // self.scale))
        last = min(n - 1, (m - 1 + self.pad - k) // self.scale)
        start = first * self.scale + k - self.pad
        count = max(last - first + 1, 0)
        return slice(first, first + count), slice(start, start + count * self.scale, self.scale)


def _blocks(out, data: Shape):
    """`out` (N, C, H, W) as (N, C, h, H/h, w, W/w) for data's h and w, the same memory."""
    n, c, height, width = out.shape
    return out.reshape(n, c, data[2], height // data[2], data[3], width // data[3])
