"""Evaluation metrics: running averages over batches of labels and predictions.

Everything here computes in NumPy on the host. `update` takes lists, one entry per output of the network, of NDArrays
or NumPy arrays; reading an NDArray waits for it, so training loops hand over arrays that have already been fetched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from raymx.errors import ParameterError, ShapeError
from raymx.registry import Registry

_metrics = Registry("metric")
register = _metrics.register


class EvalMetric:
    """Base of metrics: `update` adds to `sum_metric` and `num_inst`, `get` divides them.

    A subclass defines `update(labels, preds)`. With `num`, sums and counts are lists of that length and `get` gives a
    value for each. A subclass that is content with NumPy arrays sets `takes_numpy = True`; to others training hands
    NDArrays.
    """

    takes_numpy = False

    def __init__(self, name: str, num: int | None = None):
        self.name, self.num = name, num
        self.reset()

    def update(self, labels, preds) -> None:
        """Add one batch; `labels` and `preds` are lists of arrays, the first axis being the batch."""
        raise NotImplementedError(f"{type(self).__name__} must define update(labels, preds).")

    def reset(self) -> None:
        self.sum_metric: Any = 0.0 if self.num is None else [0.0] * self.num
        self.num_inst: Any = 0 if self.num is None else [0] * self.num

    def get(self):
        """(name, value), or two lists; the value is nan before the first batch."""
        if self.num is None:
            return self.name, _ratio(self.sum_metric, self.num_inst)
        names = [f"{self.name}_{i}" for i in range(self.num)]
        return names, [_ratio(s, n) for s, n in zip(self.sum_metric, self.num_inst, strict=True)]

    def get_name_value(self) -> list[tuple[str, float]]:
        """[(name, value), …], always a list."""
        names, values = self.get()
        if not isinstance(names, list):
            names, values = [names], [values]
        return list(zip(names, values, strict=True))

    def __str__(self):
        return f"EvalMetric: {dict(self.get_name_value())}"


class _BatchMetric(EvalMetric):
    """A metric that treats each (label, prediction) pair alone: subclasses define `measure`."""

    takes_numpy = True

    def update(self, labels, preds) -> None:
        labels, preds = _lists(type(self).__name__, labels, preds)
        for label, pred in zip(labels, preds, strict=True):
            total, count = self.measure(_host(label), _host(pred))
            self.sum_metric += total
            self.num_inst += count

    def measure(self, label: numpy.ndarray, pred: numpy.ndarray) -> tuple[float, int]:
        """(sum, count) that this pair adds."""
        raise NotImplementedError


@register("acc")
class Accuracy(_BatchMetric):
    """Part of the samples whose class is right. pred (N, C, …) is taken at its largest entry along `axis`; a pred of
    the label's shape holds classes already."""

    def __init__(self, axis: int = 1):
        super().__init__("accuracy")
        self.axis = axis

    def measure(self, label, pred):
        classes = pred if pred.shape == label.shape else _argmax("Accuracy", label, pred, self.axis)
        if classes.size != label.size:
            raise _misfit("Accuracy", label, pred, "one label for each row of predictions")
        return int((classes.ravel().astype("int64") == label.ravel().astype("int64")).sum()), label.size


@register("top_k_accuracy", "top_k_acc")
class TopKAccuracy(_BatchMetric):
    """Part of the samples whose class is among the `top_k` largest entries of pred (N, C)."""

    def __init__(self, top_k: int = 1):
        if top_k < 2:
            raise ParameterError(f"TopKAccuracy: top_k must be at least 2, got {top_k}; for 1 use Accuracy.")
        super().__init__(f"top_k_accuracy_{top_k}")
        self.top_k = top_k

    def measure(self, label, pred):
        if pred.ndim != 2 or label.size != len(pred):
            raise _misfit("TopKAccuracy", label, pred, "labels (N,) for predictions (N, C)")
        best = numpy.argsort(pred, axis=1, kind="stable")[:, -self.top_k :]
        hits = best == label.reshape(-1, 1).astype("int64")
        return int(hits.any(axis=1).sum()), label.size


@register
class F1(_BatchMetric):
    """Harmonic mean of precision and recall of class 1, labels 0 or 1, pred (N, 2); averaged over batches."""

    def __init__(self):
        super().__init__("f1")

    def measure(self, label, pred):
        if pred.ndim != 2 or label.size != len(pred):
            raise _misfit("F1", label, pred, "labels (N,) for predictions (N, 2)")
        if pred.shape[1] != 2 or not numpy.isin(label, (0, 1)).all():
            found = ", ".join(f"{v:g}" for v in numpy.unique(label)[:5])
            raise ShapeError(f"F1: needs two classes, labels 0 and 1 and predictions (N, 2), "
                             f"got labels {found} and predictions {pred.shape}.")
        truth, guess = label.ravel() == 1, pred.argmax(axis=1) == 1
        hits = int((truth & guess).sum())
        found = int(truth.sum() + guess.sum())
        return (2.0 * hits / found if found else 0.0), 1


class _Regression(_BatchMetric):
    """label and pred of one shape, 1-D counting as one column; a value per batch, averaged over batches."""

    def __init__(self):
        super().__init__(type(self).__name__.lower())

    def measure(self, label, pred):
        column_label, column_pred = _column(label), _column(pred)
        if column_label.shape != column_pred.shape:
            raise _misfit(type(self).__name__, label, pred, "the same shape for both")
        return float(self.distance(column_label - column_pred)), 1

    @staticmethod
    def distance(difference):
        raise NotImplementedError


@register
class MAE(_Regression):
    """Mean of |label - pred|."""

    @staticmethod
    def distance(difference):
        return numpy.abs(difference).mean()


@register
class MSE(_Regression):
    """Mean of (label - pred)²."""

    @staticmethod
    def distance(difference):
        return numpy.square(difference).mean()


@register
class RMSE(_Regression):
    """Square root of the mean of (label - pred)² of each batch."""

    @staticmethod
    def distance(difference):
        return numpy.sqrt(numpy.square(difference).mean())


@register("ce", "cross-entropy")
class CrossEntropy(_BatchMetric):
    """Mean of -log(probability of the label's class); pred (N, C) holds probabilities, `eps` guards log(0)."""

    def __init__(self, eps: float = 1e-12):
        super().__init__("cross-entropy")
        self.eps = eps

    def measure(self, label, pred):
        classes = label.ravel().astype("int64")
        if pred.ndim != 2 or classes.size != len(pred):
            raise _misfit("CrossEntropy", label, pred, "labels (N,) for predictions (N, C)")
        if classes.size and not 0 <= classes.min() <= classes.max() < pred.shape[1]:
            raise ShapeError(f"CrossEntropy: labels from {classes.min()} to {classes.max()} do not fit predictions "
                             f"{pred.shape}; expected classes 0 to {pred.shape[1] - 1}.")
        probability = pred[numpy.arange(classes.size), classes]
        return float(-numpy.log(probability + self.eps).sum()), classes.size


class CustomMetric(EvalMetric):
    """A metric from `feval(label, pred)` on NumPy arrays, which returns a value for the batch, or (sum, count).

    `allow_extra_outputs` lets the network have more outputs than there are labels; the last ones are not judged.
    """

    takes_numpy = True

    def __init__(self, feval: Callable, name: str | None = None, allow_extra_outputs: bool = False):
        if name is None:
            name = getattr(feval, "__name__", type(feval).__name__)
            name = f"custom({name})" if "<" in name else name
        super().__init__(name)
        self.feval, self.allow_extra_outputs = feval, allow_extra_outputs

    def update(self, labels, preds) -> None:
        labels, preds = _lists(f"CustomMetric {self.name!r}", labels, preds, extra=self.allow_extra_outputs)
        for label, pred in zip(labels, preds, strict=False):
            value = self.feval(_host(label), _host(pred))
            total, count = value if isinstance(value, tuple) else (value, 1)
            self.sum_metric += total
            self.num_inst += count


class CompositeEvalMetric(EvalMetric):
    """Several metrics fed together: `get` gives a list of names and a list of values."""

    def __init__(self, metrics: Sequence | None = None):
        self.metrics = [create(m) for m in metrics or ()]
        super().__init__("composite")

    @property
    def takes_numpy(self):
        return all(m.takes_numpy for m in self.metrics)

    def add(self, metric) -> None:
        self.metrics.append(create(metric))

    def get_metric(self, index: int) -> EvalMetric:
        if not 0 <= index < len(self.metrics):
            raise ParameterError(f"CompositeEvalMetric: no metric {index}; there are {len(self.metrics)}.")
        return self.metrics[index]

    def update(self, labels, preds) -> None:
        for metric in self.metrics:
            metric.update(labels, preds)

    def reset(self) -> None:
        for metric in self.metrics:
            metric.reset()

    def get(self):
        pairs = [pair for metric in self.metrics for pair in metric.get_name_value()]
        return [name for name, _ in pairs], [value for _, value in pairs]


def np(numpy_feval: Callable, name: str | None = None, allow_extra_outputs: bool = False) -> CustomMetric:
    """A metric from a function of two NumPy arrays; see CustomMetric."""
    return CustomMetric(numpy_feval, name, allow_extra_outputs)


def create(metric, **kwargs) -> EvalMetric:
    """A metric from its name, a function of (label, pred), a list of these, or a metric, which is returned.

    Raises ParameterError for an unknown name.
    """
    if isinstance(metric, EvalMetric):
        return metric
    if isinstance(metric, (list, tuple)):
        return CompositeEvalMetric(metric)
    if isinstance(metric, str):
        return _metrics.create(metric, **kwargs)
    if callable(metric):
        return CustomMetric(metric, **kwargs)
    raise ParameterError(f"metric.create: needs a name, a function, a list or an EvalMetric, got {metric!r}.")


def _host(array) -> numpy.ndarray:
    return array.asnumpy() if hasattr(array, "asnumpy") else numpy.asarray(array)


def _lists(who: str, labels, preds, extra: bool = False):
    labels = list(labels) if isinstance(labels, (list, tuple)) else [labels]
    preds = list(preds) if isinstance(preds, (list, tuple)) else [preds]
    if len(labels) != len(preds) and not (extra and len(labels) < len(preds)):
        hint = "" if extra else "; outputs without a label need a CustomMetric with allow_extra_outputs=True"
        raise ShapeError(f"{who}: {len(labels)} labels do not fit {len(preds)} outputs{hint}.")
    return labels, preds


def _misfit(who: str, label, pred, expected: str) -> ShapeError:
    return ShapeError(f"{who}: labels {label.shape} do not fit predictions {pred.shape}; expected {expected}.")


def _argmax(who: str, label, pred, axis: int) -> numpy.ndarray:
    if pred.ndim <= axis:
        raise _misfit(who, label, pred, f"predictions with classes along axis {axis}, or of the labels' shape")
    return pred.argmax(axis=axis)


def _column(array) -> numpy.ndarray:
    return array.reshape(-1, 1) if array.ndim == 1 else array


def _ratio(total: float, count: int) -> float:
    return total / count if count else math.nan
