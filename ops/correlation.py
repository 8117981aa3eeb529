"""How much patches of two images are alike."""

from __future__ import annotations

from raymx.errors import ParameterError
from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.shapes import agreed
from raymx.ops.spatial import image


@operator("Correlation")
class Correlation(Op):
    """out (N, D², h, w) = patches of data1 (N, C, H, W) compared with patches of data2 (N, C, H, W) around them.

    Both are padded by `pad_size`. Patches are `kernel_size` wide and stand `stride1` apart; those of data2 are
    displaced by multiples of `stride2` up to `max_displacement` in both directions,
    D = 2 (max_displacement // stride2) + 1. A comparison is the mean of the products, or of the absolute differences
    if not `is_multiply` (Dosovitskiy et al. 2015).
    Hidden outputs: `tmp1` and `tmp2` (N, H + 2 pad, W + 2 pad, C), the padded images.
    """

    kinds = "f"
    kernel_size: int = param(1, doc="width of a patch, an odd number", low=1)
    max_displacement: int = param(1, doc="largest displacement", low=0)
    stride1: int = param(1, doc="distance of patches", low=1)
    stride2: int = param(1, doc="distance of displacements", low=1)
    pad_size: int = param(0, doc="zeros around the images", low=0)
    is_multiply: bool = param(True, doc="products, not differences")

    def setup(self):
        if self.kernel_size % 2 == 0:
            raise ParameterError(f"Correlation: kernel_size must be odd, got {self.kernel_size}.")
        self.reach = self.max_displacement // self.stride2

    def inputs(self):
        return ("data1", "data2")

    def outputs(self):
        return ("out", "tmp1", "tmp2")

    def visible_outputs(self):
        return 1

    def infer_shape(self, data1=None, data2=None):
        data = agreed(image(data1, "data1"), image(data2, "data2"))
        if data is None or 0 in data:
            return {"data1": data, "data2": data}
        n, c, height, width = data
        padded = (n, height + 2 * self.pad_size, width + 2 * self.pad_size, c)
        border = 2 * self.max_displacement + self.kernel_size - 1
        h, w = (-((border - k) // self.stride1) for k in padded[1:3])
        if h < 1 or w < 1:
            raise ValueError(f"patches and displacements need {border + 1} lines and columns, there are {padded[1:3]}")
        out = (n, (2 * self.reach + 1) ** 2, h, w)
        return {"data1": data, "data2": data, "out": out, "tmp1": padded, "tmp2": padded}

    def forward(self, xp, data1, data2, *, out, tmp1=None, tmp2=None):
        tmp1, tmp2 = self._padded(xp, data1, tmp1), self._padded(xp, data2, tmp2)
        out.fill(0)
        for q, first, second in self._pairs(out.shape):
            a, b, total = tmp1[first], tmp2[second], out[:, q]
            if self.is_multiply:
                xp.add(total, xp.einsum("nhwc,nhwc->nhw", a, b), out=total)
            else:
                xp.add(total, xp.absolute(a - b).sum(axis=3), out=total)
        xp.divide(out, self._elements(data1.shape[1]), out=out)

    def _padded(self, xp, data, tmp):
        """Data with its channels last, and zeros around it."""
        n, c, height, width = data.shape
        pad = self.pad_size
        tmp = xp.empty((n, height + 2 * pad, width + 2 * pad, c), data.dtype) if tmp is None else tmp
        tmp.fill(0)
        tmp[:, pad : pad + height, pad : pad + width] = data.transpose(0, 2, 3, 1)
        return tmp

    def _elements(self, channels: int) -> int:
        return self.kernel_size**2 * channels

    def _pairs(self, out: Shape):
        """(number of the displacement, index of the first, index of the second), for each and each place in a patch."""
        reach, span = range(-self.reach, self.reach + 1), range(self.kernel_size)
        places = [(y, x) for y in span for x in span]
        for q, (down, right) in enumerate((y, x) for y in reach for x in reach):
            for y, x in places:
                yield q, self._from(y, x, out), self._from(y + down * self.stride2, x + right * self.stride2, out)

    def _from(self, y: int, x: int, out: Shape):
        """The index of one element of every patch."""
        start = (y + self.max_displacement, x + self.max_displacement)
        lines, columns = (
            slice(s, s + (n - 1) * self.stride1 + 1, self.stride1) for s, n in zip(start, out[2:], strict=True)
        )
        return slice(None), lines, columns

    def scratch_backward(self, shapes, dtype):
        return {f"sum{i}": (shapes[f"tmp{i}"], dtype) for i in (1, 2) if f"d_data{i}" in shapes}

    def backward(self, xp, g, tmp1, tmp2, *, d_data1=None, d_data2=None, sum1=None, sum2=None):
        for total in (sum1, sum2):
            if total is not None:
                total.fill(0)
        for q, first, second in self._pairs(g.shape):
            head = g[:, q, :, :, None]
            to_first, to_second = self._shares(xp, tmp1[first], tmp2[second])
            if d_data1 is not None:
                sum1[first] += head * to_first
            if d_data2 is not None:
                sum2[second] += head * to_second
        for total, d_data in ((sum1, d_data1), (sum2, d_data2)):
            if d_data is not None:
                inner = (slice(self.pad_size, self.pad_size + n) for n in d_data.shape[2:])
                whole = total[(slice(None), *inner)].transpose(0, 3, 1, 2)
                xp.divide(whole, self._elements(d_data.shape[1]), out=d_data)

    def _shares(self, xp, a, b):
        """How the comparison of a with b grows with each of them; equal ones count as if a were larger."""
        if self.is_multiply:
            return b, a
        sign = xp.where(a >= b, a.dtype.type(1), a.dtype.type(-1))
        return sign, -sign
