"""Evaluation metrics: running averages over batches of labels and predictions.

Everything here computes in NumPy on the host. `update` takes lists, one entry per output of the network, of NDArrays
or NumPy arrays; reading an NDArray waits for it, so training loops hand over arrays that have already been fetched.

A metric has a local value and a global one: `reset_local` starts the local value anew, as a callback does that reports
the last few batches; `get_global` goes on until `reset`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy

from raymx.errors import ParameterError, ShapeError
from raymx.registry import Registry

_metrics = Registry("metric")
register = _metrics.register


def alias(*names: str) -> Callable[[type], type]:
    """Class decorator: further names for a metric."""
    return lambda cls: _metrics.register(cls, *names)


def check_label_shapes(labels, preds, wrap: bool = False, shape: bool = False):
    """Raise ShapeError unless there are as many labels as predictions, or with `shape` unless their shapes are equal.
    Returns both, as lists if `wrap` and they are single arrays."""
    found = (labels.shape, preds.shape) if shape else (len(labels), len(preds))
    if found[0] != found[1]:
        raise ShapeError(f"metric: labels {found[0]} do not fit predictions {found[1]}.")
    if wrap:
        labels, preds = ([x] if hasattr(x, "asnumpy") else x for x in (labels, preds))
    return labels, preds


class EvalMetric:
    """Base of metrics: `update` adds to `sum_metric` and `num_inst`, `get` divides them.

    A subclass defines `update(labels, preds)`. With `num`, sums and counts are lists of that length and `get` gives a
    value for each. `output_names` and `label_names` choose what of a network's outputs and labels it is fed with, all
    by default. `settings` are further arguments of the constructor, for `get_config`. A subclass that is content with
    NumPy arrays sets `takes_numpy = True`; to others training hands NDArrays.
    """

    takes_numpy = False

    def __init__(self, name: str, num: int | None = None, output_names=None, label_names=None, **settings):
        self.name, self.num = name, num
        self.output_names, self.label_names = output_names, label_names
        self._settings = settings
        self._earlier: Any = None  # what was counted before the last `reset_local`
        self.reset()

    def update(self, labels, preds) -> None:
        """Add one batch; `labels` and `preds` are lists of arrays, the first axis being the batch."""
        raise NotImplementedError(f"{type(self).__name__} must define update(labels, preds).")

    def update_dict(self, label: Mapping, pred: Mapping) -> None:
        """Add one batch of arrays by the names of labels and outputs."""
        self.update(_chosen(self.name, "label", label, self.label_names),
                    _chosen(self.name, "output", pred, self.output_names))  # fmt: skip

    def reset(self) -> None:
        """Begin anew."""
        self._clear()
        self._earlier = None

    def reset_local(self) -> None:
        """Begin the local value anew; the global one goes on."""
        self._earlier = self._all()
        self._clear()

    def get(self):
        """(name, value), or two lists; the value is nan before the first batch."""
        return self._named(self._value(self._state()))

    def get_global(self):
        """`get` of all batches since `reset`."""
        if type(self).get is not EvalMetric.get:  # a subclass that says in its own way what its value is
            return self.get()
        return self._named(self._value(self._all()))

    def get_name_value(self) -> list[tuple[str, float]]:
        """[(name, value), …], always a list."""
        return _pairs(self.get())

    def get_global_name_value(self) -> list[tuple[str, float]]:
        """`get_name_value` of all batches since `reset`."""
        return _pairs(self.get_global())

    def get_config(self) -> dict[str, Any]:
        """What `create` makes an equal metric of: a dict that JSON can hold."""
        return {"metric": type(self).__name__, "name": self.name, "output_names": self.output_names,
                "label_names": self.label_names, **self._settings}  # fmt: skip

    def __str__(self):
        return f"EvalMetric: {dict(self.get_name_value())}"

    # ---- what has been counted: a value, so that the local and the global one are computed alike ----

    def _clear(self) -> None:
        self.sum_metric: Any = 0.0 if self.num is None else [0.0] * self.num
        self.num_inst: Any = 0 if self.num is None else [0] * self.num

    def _state(self) -> Any:
        return self.sum_metric, self.num_inst

    def _all(self) -> Any:
        return self._state() if self._earlier is None else self._combined(self._earlier, self._state())

    def _combined(self, a, b) -> Any:
        if self.num is None:
            return a[0] + b[0], a[1] + b[1]
        return [x + y for x, y in zip(a[0], b[0], strict=True)], [x + y for x, y in zip(a[1], b[1], strict=True)]

    def _value(self, state) -> Any:
        total, count = state
        if self.num is None:
            return _ratio(total, count)
        return [_ratio(s, n) for s, n in zip(total, count, strict=True)]

    def _named(self, value):
        return (self.name, value) if self.num is None else ([f"{self.name}_{i}" for i in range(self.num)], value)


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


class _CountingMetric(EvalMetric):
    """A metric of something that can be counted over batches: subclasses define `count`, `score` and perhaps `merge`.

    `macro` averages the scores of the updates; `micro` is the score of all that has been counted.
    """

    takes_numpy = True

    def __init__(self, name: str, output_names=None, label_names=None, average: str = "macro"):
        if average not in ("macro", "micro"):
            raise ParameterError(f"{type(self).__name__}: average must be 'macro' or 'micro', got {average!r}.")
        self.average = average
        self._counts: Any = None  # of `micro`, None = nothing yet
        super().__init__(name, None, output_names, label_names, average=average)

    def update(self, labels, preds) -> None:
        labels, preds = _lists(type(self).__name__, labels, preds)
        found = None
        for label, pred in zip(labels, preds, strict=True):
            counts = self.count(_host(label), _host(pred))
            found = counts if found is None else self.merge(found, counts)
        if found is None:
            return
        if self.average == "macro":
            self.sum_metric += self.score(found)
            self.num_inst += 1
        else:
            self._counts = found if self._counts is None else self.merge(self._counts, found)
            self.num_inst += self.size(found)
            self.sum_metric = self.score(self._counts) * self.num_inst

    def count(self, label: numpy.ndarray, pred: numpy.ndarray) -> numpy.ndarray:
        """What a pair adds."""
        raise NotImplementedError

    def score(self, counts: numpy.ndarray) -> float:
        """The value of what has been counted."""
        raise NotImplementedError

    def merge(self, a: numpy.ndarray, b: numpy.ndarray) -> numpy.ndarray:
        """Both together."""
        return a + b

    def size(self, counts: numpy.ndarray) -> int:
        """How many samples were counted."""
        return int(counts.sum())

    def _clear(self) -> None:
        super()._clear()
        self._counts = None

    def _state(self):
        return (self.sum_metric, self.num_inst) if self.average == "macro" else self._counts

    def _combined(self, a, b):
        if self.average == "macro":
            return super()._combined(a, b)
        return b if a is None else a if b is None else self.merge(a, b)

    def _value(self, state):
        if self.average == "macro":
            return super()._value(state)
        return math.nan if state is None else self.score(state)


@register("acc")
class Accuracy(_BatchMetric):
    """Part of the samples whose class is right. pred (N, C, …) is taken at its largest entry along `axis`; a pred of
    the label's shape holds classes already."""

    def __init__(self, axis: int = 1, name: str = "accuracy", output_names=None, label_names=None):
        super().__init__(name, None, output_names, label_names, axis=axis)
        self.axis = axis

    def measure(self, label, pred):
        classes = pred if pred.shape == label.shape else _argmax("Accuracy", label, pred, self.axis)
        if classes.size != label.size:
            raise _misfit("Accuracy", label, pred, "one label for each row of predictions")
        return int((classes.ravel().astype("int64") == label.ravel().astype("int64")).sum()), label.size


@register("top_k_accuracy", "top_k_acc")
class TopKAccuracy(_BatchMetric):
    """Part of the samples whose class is among the `top_k` largest entries of pred (N, C). It is called
    `<name>_<top_k>`."""

    def __init__(self, top_k: int = 1, name: str = "top_k_accuracy", output_names=None, label_names=None):
        if top_k < 2:
            raise ParameterError(f"TopKAccuracy: top_k must be at least 2, got {top_k}; for 1 use Accuracy.")
        super().__init__(f"{name}_{top_k}", None, output_names, label_names, top_k=top_k)
        self._base_name, self.top_k = name, top_k

    def measure(self, label, pred):
        if pred.ndim != 2 or label.size != len(pred):
            raise _misfit("TopKAccuracy", label, pred, "labels (N,) for predictions (N, C)")
        best = numpy.argsort(pred, axis=1, kind="stable")[:, -self.top_k :]
        hits = best == label.reshape(-1, 1).astype("int64")
        return int(hits.any(axis=1).sum()), label.size

    def get_config(self):
        return {**super().get_config(), "name": self._base_name}


class _Binary(_CountingMetric):
    """Counts (true positives, false positives, false negatives, true negatives) of class 1; labels 0 or 1, pred
    (N, 2)."""

    def count(self, label, pred):
        who = type(self).__name__
        if pred.ndim != 2 or label.size != len(pred):
            raise _misfit(who, label, pred, "labels (N,) for predictions (N, 2)")
        if pred.shape[1] != 2 or not numpy.isin(label, (0, 1)).all():
            found = ", ".join(f"{v:g}" for v in numpy.unique(label)[:5])
            raise ShapeError(f"{who}: needs two classes, labels 0 and 1 and predictions (N, 2), "
                             f"got labels {found} and predictions {pred.shape}.")
        truth, guess = label.ravel() == 1, pred.argmax(axis=1) == 1
        return numpy.array([(truth & guess).sum(), (~truth & guess).sum(), (truth & ~guess).sum(),
                            (~truth & ~guess).sum()], float)  # fmt: skip


@register
class F1(_Binary):
    """Harmonic mean of precision and recall of class 1, labels 0 or 1, pred (N, 2); averaged over updates (`macro`) or
    of all samples (`micro`)."""

    def __init__(self, name: str = "f1", output_names=None, label_names=None, average: str = "macro"):
        super().__init__(name, output_names, label_names, average)

    def score(self, counts):
        hits, false, missed, _ = counts
        return float(2.0 * hits / (2.0 * hits + false + missed)) if hits + false + missed else 0.0


@register
class MCC(_Binary):
    """Matthews' correlation coefficient of two classes, labels 0 or 1, pred (N, 2); averaged over updates (`macro`) or
    of all samples (`micro`). An empty row or column of the table counts as 1 in the denominator."""

    def __init__(self, name: str = "mcc", output_names=None, label_names=None, average: str = "macro"):
        super().__init__(name, output_names, label_names, average)

    def score(self, counts):
        tp, fp, fn, tn = counts
        sums = [s for s in (tp + fp, tp + fn, tn + fp, tn + fn) if s]
        return float((tp * tn - fp * fn) / math.sqrt(math.prod(sums)))


@register
class PCC(_CountingMetric):
    """Matthews' correlation coefficient for any number of classes: Pearson's correlation of the true and the predicted
    class. pred (N, C), or classes (N,)."""

    def __init__(self, name: str = "pcc", output_names=None, label_names=None):
        super().__init__(name, output_names, label_names, "micro")
        del self._settings["average"]

    def count(self, label, pred):
        classes = pred if pred.shape == label.shape else _argmax("PCC", label, pred, 1)
        if classes.size != label.size:
            raise _misfit("PCC", label, pred, "one label for each row of predictions")
        pairs = numpy.stack([classes.ravel(), label.ravel()]).astype("int64")
        table = numpy.zeros((int(pairs.max()) + 1,) * 2)
        numpy.add.at(table, tuple(pairs), 1)
        return table

    def merge(self, a, b):
        size = max(len(a), len(b))
        return sum(numpy.pad(x, (0, size - len(x))) for x in (a, b))

    def score(self, counts):
        n, x, y = counts.sum(), counts.sum(axis=1), counts.sum(axis=0)
        spread = (x * (n - x)).sum() * (y * (n - y)).sum()
        return float((counts.diagonal() * n - x * y).sum() / math.sqrt(spread)) if spread else math.nan


@register("pearsonr")
class PearsonCorrelation(_CountingMetric):
    """Pearson's correlation of labels and predictions of one shape; averaged over arrays (`macro`) or of all values
    (`micro`)."""

    def __init__(self, name: str = "pearsonr", output_names=None, label_names=None, average: str = "macro"):
        super().__init__(name, output_names, label_names, average)

    def update(self, labels, preds) -> None:
        labels, preds = _lists(type(self).__name__, labels, preds)
        for label, pred in zip(labels, preds, strict=True):
            super().update([label], [pred])

    def count(self, label, pred):
        """(n, means, sums of squared deviations, sum of their products)."""
        if label.shape != pred.shape:
            raise _misfit("PearsonCorrelation", label, pred, "the same shape for both")
        x, y = pred.ravel().astype(float), label.ravel().astype(float)
        dx, dy = x - x.mean(), y - y.mean()
        return numpy.array([x.size, x.mean(), y.mean(), dx @ dx, dy @ dy, dx @ dy])

    def merge(self, a, b):
        n = a[0] + b[0]
        dx, dy = b[1:3] - a[1:3]
        weight = a[0] * b[0] / n
        means = a[1:3] + (b[1:3] - a[1:3]) * b[0] / n
        return numpy.array([n, *means, *(a[3:] + b[3:] + weight * numpy.array([dx * dx, dy * dy, dx * dy]))])

    def score(self, counts):
        spread = math.sqrt(counts[3] * counts[4])
        return float(counts[5] / spread) if spread else math.nan

    def size(self, counts):
        return int(counts[0])


class _Regression(_BatchMetric):
    """label and pred of one shape, 1-D counting as one column; a value per batch, averaged over batches."""

    def __init__(self, name: str | None = None, output_names=None, label_names=None):
        super().__init__(name or type(self).__name__.lower(), None, output_names, label_names)

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


class _LogLikelihood(_BatchMetric):
    def __init__(self, eps: float, name: str, output_names=None, label_names=None):
        super().__init__(name, None, output_names, label_names, eps=eps)
        self.eps = eps

    def measure(self, label, pred):
        who, classes = type(self).__name__, label.ravel().astype("int64")
        if pred.ndim != 2 or classes.size != len(pred):
            raise _misfit(who, label, pred, "labels (N,) for predictions (N, C)")
        if classes.size and not 0 <= classes.min() <= classes.max() < pred.shape[1]:
            raise ShapeError(f"{who}: labels from {classes.min()} to {classes.max()} do not fit predictions "
                             f"{pred.shape}; expected classes 0 to {pred.shape[1] - 1}.")
        probability = pred[numpy.arange(classes.size), classes]
        return float(-numpy.log(probability + self.eps).sum()), classes.size


@register("ce", "cross-entropy")
class CrossEntropy(_LogLikelihood):
    """Mean of -log(probability of the label's class); pred (N, C) holds probabilities, `eps` guards log(0)."""

    def __init__(self, eps: float = 1e-12, name: str = "cross-entropy", output_names=None, label_names=None):
        super().__init__(eps, name, output_names, label_names)


@register("nll_loss", "nll-loss")
class NegativeLogLikelihood(_LogLikelihood):
    """As CrossEntropy, by the other name."""

    def __init__(self, eps: float = 1e-12, name: str = "nll-loss", output_names=None, label_names=None):
        super().__init__(eps, name, output_names, label_names)


@register
class Perplexity(_BatchMetric):
    """exp of the mean of -log(probability of the label's class), for labels of any shape; pred has probabilities along
    `axis`. Labels equal to `ignore_label` do not count; None counts all."""

    def __init__(self, ignore_label: int | None, axis: int = -1, name: str = "perplexity", output_names=None,
                 label_names=None):  # fmt: skip
        super().__init__(name, None, output_names, label_names, ignore_label=ignore_label, axis=axis)
        self.ignore_label, self.axis = ignore_label, axis

    def measure(self, label, pred):
        rows = numpy.moveaxis(pred, self.axis, -1).reshape(-1, pred.shape[self.axis])
        classes = label.ravel().astype("int64")
        if classes.size != len(rows):
            raise _misfit("Perplexity", label, pred, f"a label for each place, with classes along axis {self.axis}")
        if self.ignore_label is not None:
            counted = classes != int(self.ignore_label)
            rows, classes = rows[counted], classes[counted]
        if classes.size and not 0 <= classes.min() <= classes.max() < rows.shape[1]:
            raise ShapeError(f"Perplexity: labels from {classes.min()} to {classes.max()} do not fit predictions "
                             f"{pred.shape}; expected classes 0 to {rows.shape[1] - 1}.")
        probability = rows[numpy.arange(classes.size), classes]
        return float(-numpy.log(numpy.maximum(probability, numpy.float32(1e-10))).sum()), classes.size

    def _value(self, state):
        mean = _ratio(*state)
        return math.exp(mean) if mean < 700 else math.inf if mean == mean else mean


@register
class Loss(EvalMetric):
    """Mean of what the network puts out, as for MakeLoss; labels do not matter."""

    takes_numpy = True

    def __init__(self, name: str = "loss", output_names=None, label_names=None):
        super().__init__(name, None, output_names, label_names)

    def update(self, labels, preds) -> None:
        for pred in preds if isinstance(preds, (list, tuple)) else [preds]:
            values = _host(pred)
            self.sum_metric += float(values.sum())
            self.num_inst += values.size


@register
class Torch(Loss):
    """Loss by another name."""

    def __init__(self, name: str = "torch", output_names=None, label_names=None):
        super().__init__(name, output_names, label_names)


@register
class Caffe(Loss):
    """Loss by another name."""

    def __init__(self, name: str = "caffe", output_names=None, label_names=None):
        super().__init__(name, output_names, label_names)


class CustomMetric(EvalMetric):
    """A metric from `feval(label, pred)` on NumPy arrays, which returns a value for the batch, or (sum, count).

    `allow_extra_outputs` lets the network have more outputs than there are labels; the last ones are not judged.
    """

    takes_numpy = True

    def __init__(self, feval: Callable, name: str | None = None, allow_extra_outputs: bool = False, output_names=None,
                 label_names=None):  # fmt: skip
        if name is None:
            name = getattr(feval, "__name__", type(feval).__name__)
            name = f"custom({name})" if "<" in name else name
        super().__init__(name, None, output_names, label_names)
        self.feval, self.allow_extra_outputs = feval, allow_extra_outputs

    def update(self, labels, preds) -> None:
        labels, preds = _lists(f"CustomMetric {self.name!r}", labels, preds, extra=self.allow_extra_outputs)
        for label, pred in zip(labels, preds, strict=False):
            value = self.feval(_host(label), _host(pred))
            total, count = value if isinstance(value, tuple) else (value, 1)
            self.sum_metric += total
            self.num_inst += count

    def get_config(self):
        raise NotImplementedError(f"CustomMetric {self.name!r}: a function has no configuration.")


@register("composite")
class CompositeEvalMetric(EvalMetric):
    """Several metrics fed together: `get` gives a list of names and a list of values."""

    def __init__(self, metrics: Sequence | None = None, name: str = "composite", output_names=None, label_names=None):
        self.metrics = [create(m) for m in metrics or ()]
        super().__init__(name, None, output_names, label_names)

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

    def update_dict(self, label: Mapping, pred: Mapping) -> None:
        if self.label_names is not None:
            label = {name: value for name, value in label.items() if name in self.label_names}
        if self.output_names is not None:
            pred = {name: value for name, value in pred.items() if name in self.output_names}
        for metric in self.metrics:
            metric.update_dict(label, pred)

    def reset(self) -> None:
        for metric in self.metrics:
            metric.reset()

    def reset_local(self) -> None:
        for metric in self.metrics:
            metric.reset_local()

    def get(self):
        return _transposed(pair for metric in self.metrics for pair in metric.get_name_value())

    def get_global(self):
        return _transposed(pair for metric in self.metrics for pair in metric.get_global_name_value())

    def get_config(self):
        return {**super().get_config(), "metrics": [metric.get_config() for metric in self.metrics]}


def np(numpy_feval: Callable, name: str | None = None, allow_extra_outputs: bool = False) -> CustomMetric:
    """A metric from a function of two NumPy arrays; see CustomMetric."""
    return CustomMetric(numpy_feval, name, allow_extra_outputs)


def create(metric, *args, **kwargs) -> EvalMetric:
    """A metric from its name, a function of (label, pred), a list of these, a configuration (a dict or its JSON), or a
    metric, which is returned.

    Raises ParameterError for an unknown name.
    """
    if isinstance(metric, EvalMetric):
        return metric
    if isinstance(metric, str) and metric.startswith("{"):
        metric = json.loads(metric)
    if isinstance(metric, Mapping):
        settings = {key: value for key, value in metric.items() if key != "metric"}
        return _metrics.find(metric["metric"])(*args, **{**settings, **kwargs})
    if isinstance(metric, (list, tuple)):
        return CompositeEvalMetric(metric, *args, **kwargs)
    if isinstance(metric, str):
        return _metrics.find(metric)(*args, **kwargs)
    if callable(metric):
        return CustomMetric(metric, *args, **kwargs)
    raise ParameterError(f"metric.create: needs a name, a function, a list or an EvalMetric, got {metric!r}.")


def _chosen(who: str, kind: str, given: Mapping, names) -> list:
    if names is None:
        return list(given.values())
    for name in names:
        if name not in given:
            raise ParameterError(f"metric {who!r}: there is no {kind} called {name!r} ({kind}s: {', '.join(given)}).")
    return [given[name] for name in names]


def _pairs(named) -> list[tuple[str, float]]:
    names, values = named
    return list(zip(names, values, strict=True)) if isinstance(names, list) else [(names, values)]


def _transposed(pairs) -> tuple[list[str], list[float]]:
    listed = list(pairs)
    return [name for name, _ in listed], [value for _, value in listed]


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
