"""Normalisation: over the batch, over a sample, over channels."""

from __future__ import annotations

import numpy as np

from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.shapes import agreed, positive_axis

FLOAT16, FLOAT32 = np.dtype("float16"), np.dtype("float32")


class Normalizing(Op):
    """Base of BatchNorm, LayerNorm and InstanceNorm: gamma, beta, and the hidden outputs mean and var.

    out = (data - mean) / sqrt(var + eps) * gamma + beta, with statistics over `over(ndim)` of data's axes.
    """

    kinds = "f"
    inplace_backward = (("g", "d_data"),)
    fix_gamma = False
    output_mean_var = False
    eps: float

    def inputs(self):
        return ("data", "gamma", "beta")

    def outputs(self):
        return ("out", "mean", "var")

    def visible_outputs(self):
        return 3 if self.output_mean_var else 1

    def output_labels(self):
        return ("output", "mean", "var")

    def over(self, ndim: int) -> tuple[int, ...]:
        """The axes of data over which mean and variance are taken; raises ValueError if data has not the axes."""
        raise NotImplementedError

    def along(self, ndim: int) -> int:
        """The axis of data that gamma and beta have."""
        raise NotImplementedError

    # ---- arithmetic ----

    def column(self, vector, ndim: int):
        """A vector along gamma's axis, shaped so that it stretches over data."""
        return vector.reshape(tuple(-1 if i == self.along(ndim) else 1 for i in range(ndim)))

    def spread(self, stats, data):
        """Statistics, shaped so that they stretch over data."""
        over = self.over(data.ndim)
        return stats.reshape(tuple(1 if i in over else n for i, n in enumerate(data.shape)))

    def measure(self, xp, data, out, mean, var) -> None:
        """Mean and variance of data; `out`, of data's shape, is overwritten."""
        over = self.over(data.ndim)
        xp.mean(data, axis=over, dtype=mean.dtype, keepdims=True, out=self.spread(mean, data))
        xp.subtract(data, self.spread(mean, data), out=out, casting="same_kind")
        xp.multiply(out, out, out=out)
        xp.mean(out, axis=over, dtype=var.dtype, keepdims=True, out=self.spread(var, data))

    def inverse(self, xp, var):
        """1 / sqrt(var + eps), a small array."""
        return 1 / xp.sqrt(var + self.eps)

    def apply(self, xp, data, gamma, beta, out, mean, inverse) -> None:
        xp.subtract(data, self.spread(mean, data), out=out, casting="same_kind")
        xp.multiply(out, self.spread(inverse, data), out=out, casting="same_kind")
        if not self.fix_gamma:
            xp.multiply(out, self.column(gamma, data.ndim), out=out, casting="same_kind")
        xp.add(out, self.column(beta, data.ndim), out=out, casting="same_kind")

    def factors(self, xp, g, data, mean, inverse, centred, d_gamma, d_beta) -> None:
        """The gradients of gamma and beta; `centred`, of data's shape, is overwritten."""
        others = tuple(i for i in range(data.ndim) if i != self.along(data.ndim))
        if d_beta is not None:
            xp.sum(g, axis=others, dtype=d_beta.dtype, out=d_beta)
        if d_gamma is not None and self.fix_gamma:
            d_gamma[...] = 0
        elif d_gamma is not None:
            xp.subtract(data, self.spread(mean, data), out=centred, casting="same_kind")
            xp.multiply(centred, self.spread(inverse, data), out=centred, casting="same_kind")
            xp.multiply(centred, g, out=centred)
            xp.sum(centred, axis=others, dtype=d_gamma.dtype, out=d_gamma)

    def pull(self, xp, g, data, gamma, mean, inverse, centred, d_data) -> None:
        """The gradient of data through gamma, mean and variance; d_data may be g, `centred` is overwritten.

        With h = g * gamma and x = (data - mean) * inverse it is (h - mean(h) - x * mean(h * x)) * inverse.
        """
        over, mean, inverse = self.over(data.ndim), self.spread(mean, data), self.spread(inverse, data)
        if not self.fix_gamma:
            g = xp.multiply(g, self.column(gamma, data.ndim), out=d_data, casting="same_kind")
        middle = xp.mean(g, axis=over, dtype=mean.dtype, keepdims=True)
        xp.subtract(data, mean, out=centred, casting="same_kind")
        xp.multiply(centred, g, out=centred)
        slope = xp.mean(centred, axis=over, dtype=mean.dtype, keepdims=True) * inverse * inverse
        xp.subtract(data, mean, out=centred, casting="same_kind")
        xp.multiply(centred, slope, out=centred, casting="same_kind")
        xp.subtract(g, centred, out=d_data)
        xp.subtract(d_data, middle, out=d_data, casting="same_kind")
        xp.multiply(d_data, inverse, out=d_data, casting="same_kind")


def vectors(names: tuple[str, ...], known: dict[str, Shape | None], length: int) -> tuple[int, dict[str, Shape]]:
    """The common length of the vectors `names`, `length` or else what one of them says, and their shapes."""
    given = [known[n] for n in names if known.get(n) is not None and len(known[n] or ()) == 1]
    length = length or next((shape[0] for shape in given if shape), 0)
    return length, dict.fromkeys(names, (length,))


@operator("BatchNorm", "BatchNorm_v1", "CuDNNBatchNorm")
class BatchNorm(Normalizing):
    """out = (data - mean) / sqrt(var + eps) * gamma + beta, per channel, the statistics over all other axes.

    In training mean and var (biased) are those of the batch, and backward moves the averages towards them:
    moving = momentum * moving + (1 - momentum) * batch. Otherwise they are the moving averages. With `fix_gamma` gamma
    counts as 1 and has gradient zero. The outputs mean and var (C,) are hidden; with `output_mean_var` they are
    visible, and `var` is 1 / sqrt(var + eps).
    """

    heavy = True
    eps: float = param(1e-3, doc="added to the variance", low=0)
    momentum: float = param(0.9, doc="what a moving average keeps in a step")
    fix_gamma: bool = param(True, doc="take 1 for gamma")
    use_global_stats: bool = param(False, doc="use the moving averages in training, too")
    output_mean_var: bool = param(False, doc="make mean and var visible")
    axis: int = param(1, doc="the axis of channels")
    cudnn_off: bool = param(False, doc="do not use cuDNN")
    min_calib_range: float | None = param(None, doc="kept for quantised models")
    max_calib_range: float | None = param(None, doc="kept for quantised models")

    initial = {"moving_mean": '["zero", {}]', "moving_var": '["one", {}]'}

    def setup(self):
        self.channelled = ("data", "out") if self.axis == 1 and not self.output_mean_var else ()

    def aux(self):
        return ("moving_mean", "moving_var")

    def over(self, ndim):
        return tuple(i for i in range(ndim) if i != self.along(ndim))

    def along(self, ndim):
        return positive_axis(self.axis, ndim)

    def infer_shape(self, data=None, gamma=None, beta=None, moving_mean=None, moving_var=None, out=None):
        data = agreed(data, out)
        known = {"gamma": gamma, "beta": beta, "moving_mean": moving_mean, "moving_var": moving_var}
        axis = self.along(len(data)) if data else 0
        channels, shapes = vectors((*known, "mean", "var"), known, data[axis] if data else 0)
        if data is not None:
            data = (*data[:axis], channels, *data[axis + 1 :])
        return {"data": data, "out": data, **(shapes if channels or data else {})}

    def infer_type(self, known):
        """Of float16 data everything else is float32."""
        data = known["out"] if known["data"] is None else known["data"]
        if data is None:
            return {"data": known["gamma"]} if known["gamma"] not in (None, FLOAT32) else {}
        others = FLOAT32 if data == FLOAT16 else data
        return {n: data if n in ("data", "out") else others for n in known}

    def batch_counts(self, is_train: bool) -> bool:
        """Whether the statistics are those of the batch."""
        return is_train and not self.use_global_stats

    def forward(self, xp, data, gamma, beta, moving_mean, moving_var, *, out, mean=None, var=None, is_train=False):
        mean = xp.empty_like(moving_mean) if mean is None else mean
        var = xp.empty_like(moving_var) if var is None else var
        if self.batch_counts(is_train):
            self.measure(xp, data, out, mean, var)
        else:
            xp.copyto(mean, moving_mean)
            xp.copyto(var, moving_var)
        inverse = self.inverse(xp, var)
        self.apply(xp, data, gamma, beta, out, mean, inverse)
        if self.output_mean_var:
            xp.copyto(var, inverse)

    def scratch_backward(self, shapes, dtype):
        return {"centred": (shapes["data"], dtype)}

    def backward(
        self, xp, g, data, gamma, mean, var, moving_mean, moving_var, *, d_data=None, d_gamma=None, d_beta=None,
        is_train=False, centred,
    ):  # fmt: skip
        inverse = var if self.output_mean_var else self.inverse(xp, var)
        self.factors(xp, g, data, mean, inverse, centred, d_gamma, d_beta)
        if self.batch_counts(is_train):
            if self.output_mean_var:
                var = 1 / (inverse * inverse) - self.eps
            self.move(xp, mean, var, moving_mean, moving_var)
            if d_data is not None:
                self.pull(xp, g, data, gamma, mean, inverse, centred, d_data)
        elif d_data is not None:
            factor = inverse if self.fix_gamma else inverse * gamma
            xp.multiply(g, self.column(factor, data.ndim), out=d_data, casting="same_kind")

    def move(self, xp, mean, var, moving_mean, moving_var) -> None:
        """Move the averages towards the statistics of this batch."""
        for moving, batch in ((moving_mean, mean), (moving_var, var)):
            xp.multiply(moving, self.momentum, out=moving)
            xp.add(moving, batch * moving.dtype.type(1 - self.momentum), out=moving)


@operator("LayerNorm")
class LayerNorm(Normalizing):
    """out = (data - mean) / std * gamma + beta along `axis`, with std = sqrt(variance + eps); gamma and beta (C,).

    The outputs mean and std have data's shape with 1 along `axis`; they are hidden without `output_mean_var`.
    """

    axis: int = param(-1, doc="the axis of gamma and beta, over which the statistics are")
    eps: float = param(1e-5, doc="added to the variance", low=0)
    output_mean_var: bool = param(False, doc="make mean and std visible")

    def outputs(self):
        return ("out", "mean", "std")

    def output_labels(self):
        return ("output", "mean", "std")

    def over(self, ndim):
        return (positive_axis(self.axis, ndim),)

    def along(self, ndim):
        return positive_axis(self.axis, ndim)

    def infer_shape(self, data=None, gamma=None, beta=None, out=None):
        data = agreed(data, out)
        if data is None:
            return {}
        axis = self.along(len(data))
        channels, shapes = vectors(("gamma", "beta"), {"gamma": gamma, "beta": beta}, data[axis])
        stats = (*data[:axis], 1, *data[axis + 1 :])
        data = (*data[:axis], channels, *data[axis + 1 :])
        return {"data": data, "out": data, **shapes, "mean": stats, "std": stats}

    def forward(self, xp, data, gamma, beta, *, out, mean, std):
        self.measure(xp, data, out, mean, std)
        inverse = self.inverse(xp, std)
        self.apply(xp, data, gamma, beta, out, mean, inverse)
        xp.divide(1, inverse, out=std)

    def scratch_backward(self, shapes, dtype):
        return {"centred": (shapes["data"], dtype)}

    def backward(self, xp, g, data, gamma, mean, std, *, d_data=None, d_gamma=None, d_beta=None, centred):
        self.factors(xp, g, data, mean, 1 / std, centred, d_gamma, d_beta)
        if d_data is not None:
            self.pull(xp, g, data, gamma, mean, 1 / std, centred, d_data)


@operator("InstanceNorm")
class InstanceNorm(Normalizing):
    """out = (data - mean) / sqrt(var + eps) * gamma + beta, with statistics of each sample's channel; gamma (C,).

    data (N, C, *X) has three axes at least. The outputs mean and var (N, C) are hidden.
    """

    eps: float = param(1e-3, doc="added to the variance", low=0)

    def over(self, ndim):
        if ndim < 3:
            raise ValueError("data must have at least 3 axes, (N, C, …)")
        return tuple(range(2, ndim))

    def along(self, ndim):
        return 1

    def infer_shape(self, data=None, gamma=None, beta=None, out=None):
        data = agreed(data, out)
        if data is None:
            return {}
        self.over(len(data))
        channels, shapes = vectors(("gamma", "beta"), {"gamma": gamma, "beta": beta}, data[1])
        data = (data[0], channels, *data[2:])
        return {"data": data, "out": data, **shapes, "mean": data[:2], "var": data[:2]}

    def forward(self, xp, data, gamma, beta, *, out, mean, var):
        self.measure(xp, data, out, mean, var)
        self.apply(xp, data, gamma, beta, out, mean, self.inverse(xp, var))

    def scratch_backward(self, shapes, dtype):
        return {"centred": (shapes["data"], dtype)}

    def backward(self, xp, g, data, gamma, mean, var, *, d_data=None, d_gamma=None, d_beta=None, centred):
        inverse = self.inverse(xp, var)
        self.factors(xp, g, data, mean, inverse, centred, d_gamma, d_beta)
        if d_data is not None:
            self.pull(xp, g, data, gamma, mean, inverse, centred, d_data)


@operator("GroupNorm")
class GroupNorm(Normalizing):
    """out = (data - mean) / std * gamma + beta, std = sqrt(variance + eps), with statistics of each sample's groups.

    data (N, C, *X) has three axes at least, its channels form `num_groups` G groups of equal size; gamma and beta (G,).
    The outputs mean and std (N, G) are hidden without `output_mean_var`. (Wu and He 2018)
    """

    num_groups: int = param(1, doc="G, into how many groups the channels are divided", low=1)
    eps: float = param(1e-5, doc="added to the variance", low=0)
    output_mean_var: bool = param(False, doc="make mean and std visible")

    def outputs(self):
        return ("out", "mean", "std")

    def output_labels(self):
        return ("output", "mean", "std")

    def over(self, ndim):
        return (2,)

    def along(self, ndim):
        return 1

    def infer_shape(self, data=None, out=None):
        data = agreed(data, out)
        if data is None:
            return {}
        if len(data) < 3 or data[1] % self.num_groups:
            raise ValueError(f"data must be (N, C, …) with at least 3 axes, C a multiple of {self.num_groups} groups")
        stats = (data[0], self.num_groups)
        return {"data": data, "out": data, "gamma": stats[1:], "beta": stats[1:], "mean": stats, "std": stats}

    def grouped(self, array):
        """(N, C, *X) as (N, G, all the rest): the group's elements are one axis."""
        return array.reshape(array.shape[0], self.num_groups, -1)

    def forward(self, xp, data, gamma, beta, *, out, mean, std):
        data, out = self.grouped(data), self.grouped(out)
        self.measure(xp, data, out, mean, std)
        inverse = self.inverse(xp, std)
        self.apply(xp, data, gamma, beta, out, mean, inverse)
        xp.divide(1, inverse, out=std)

    def scratch_backward(self, shapes, dtype):
        return {"centred": (shapes["data"], dtype)}

    def backward(self, xp, g, data, gamma, mean, std, *, d_data=None, d_gamma=None, d_beta=None, centred):
        g, data, centred = self.grouped(g), self.grouped(data), self.grouped(centred)
        self.factors(xp, g, data, mean, 1 / std, centred, d_gamma, d_beta)
        if d_data is not None:
            self.pull(xp, g, data, gamma, mean, 1 / std, centred, self.grouped(d_data))


@operator("L2Normalization")
class L2Normalization(Op):
    """out = data / sqrt(sum(data ** 2) + eps), the sum over a sample (`instance`), over axis 1 (`channel`), or over all
    axes behind it (`spatial`). The output `norm`, the divisor, is hidden."""

    kinds = "f"
    inplace_backward = (("g", "d_data"),)
    eps: float = param(1e-10, doc="added to the sum of squares")
    mode: str = param("instance", doc="over what", choices=("instance", "channel", "spatial"))

    def outputs(self):
        return ("out", "norm")

    def visible_outputs(self):
        return 1

    def over(self, ndim: int) -> tuple[int, ...]:
        """The axes of the sum; raises ValueError if data has too few."""
        if ndim < (2 if self.mode == "instance" else 3):
            raise ValueError(f"data must have at least {2 if self.mode == 'instance' else 3} axes for mode={self.mode}")
        return {"instance": tuple(range(1, ndim)), "channel": (1,), "spatial": tuple(range(2, ndim))}[self.mode]

    def infer_shape(self, data=None, out=None):
        data = agreed(data, out)
        if data is None:
            return {}
        over = self.over(len(data))
        return {"data": data, "out": data, "norm": tuple(n for i, n in enumerate(data) if i not in over)}

    def forward(self, xp, data, *, out, norm=None):
        over = self.over(data.ndim)
        xp.multiply(data, data, out=out)
        length = xp.sqrt(xp.sum(out, axis=over, keepdims=True) + self.eps)
        xp.divide(data, length, out=out, casting="same_kind")
        if norm is not None:
            xp.copyto(norm, length.reshape(norm.shape))

    def scratch_backward(self, shapes, dtype):
        return {"product": (shapes["out"], dtype)}

    def backward(self, xp, g, out, norm, *, d_data=None, product):
        over = self.over(out.ndim)
        xp.multiply(g, out, out=product)
        total = xp.sum(product, axis=over, keepdims=True)
        xp.multiply(out, total, out=product)
        xp.subtract(g, product, out=d_data)
        xp.divide(d_data, norm.reshape(total.shape), out=d_data)


@operator("LRN")
class LRN(Op):
    """out = data * (knorm + alpha / nsize * s) ** -beta, with s the sum of squares over the `nsize` nearest channels.

    data (N, C, *X). Channel c sees the channels from c - nsize // 2 on, as far as there are any.
    """

    heavy = True
    kinds = "f"
    channelled = ("data", "out")

    alpha: float = param(1e-4, doc="weight of the mean of squares")
    beta: float = param(0.75, doc="exponent")
    knorm: float = param(2.0, doc="added to the weighted mean")
    nsize: int = param(doc="channels in a window, its own in the middle", low=1)

    def setup(self):
        if self.nsize % 2 == 0:
            self.channelled = ()

    def counted_outputs(self):
        return 2

    def infer_shape(self, data=None, out=None):
        shape = agreed(data, out)
        if shape is not None and len(shape) < 2:
            raise ValueError("data must have at least 2 axes, (N, C, …)")
        return {"data": shape, "out": shape}

    def windows(self, channels: int):
        """For each offset of the window: the channels that see one there, and those that they see."""
        for offset in range(-(self.nsize // 2), self.nsize - self.nsize // 2):
            low, high = max(0, -offset), min(channels, channels - offset)
            if low < high:
                yield slice(low, high), slice(low + offset, high + offset)

    def _scale(self, xp, data, squares, scale) -> None:
        """scale = knorm + alpha / nsize * the sum of squares."""
        xp.multiply(data, data, out=squares)
        xp.multiply(squares, self.alpha / self.nsize, out=squares)
        scale[...] = self.knorm
        for here, there in self.windows(data.shape[1]):
            scale[:, here] += squares[:, there]

    def scratch(self, shapes, dtype):
        return {"squares": (shapes["data"], dtype)}

    def forward(self, xp, data, *, out, squares):
        self._scale(xp, data, squares, out)
        xp.power(out, -self.beta, out=out)
        xp.multiply(out, data, out=out)

    def scratch_backward(self, shapes, dtype):
        return dict.fromkeys(("squares", "scale"), (shapes["data"], dtype))

    def backward(self, xp, g, data, *, d_data=None, squares, scale):
        """With s the scale: g s ** -beta - 2 alpha beta / nsize * data * the sum of g data s ** (-beta - 1)."""
        self._scale(xp, data, squares, scale)
        xp.power(scale, -self.beta - 1, out=squares)
        xp.multiply(squares, g, out=squares)  # g s ** (-beta - 1)
        xp.multiply(scale, squares, out=scale)  # g s ** -beta
        xp.multiply(squares, data, out=squares)
        d_data[...] = 0
        for here, there in self.windows(data.shape[1]):
            d_data[:, there] += squares[:, here]
        xp.multiply(d_data, data, out=d_data)
        xp.multiply(d_data, -2 * self.alpha * self.beta / self.nsize, out=d_data)
        xp.add(d_data, scale, out=d_data)
