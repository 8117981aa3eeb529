"""FeedForward: train, use, save and load a network with a handful of calls.

    model = mx.model.FeedForward(net, ctx=[mx.gpu(0), mx.gpu(1)], num_epoch=10, learning_rate=0.1)
    model.fit(X, y, eval_data=(X_test, y_test))
    probabilities = model.predict(X_test)
    model.save("net", 10)                       # net-symbol.json, net-0010.params
    model = mx.model.FeedForward.load("net", 10)
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from raymx import io, metric, symbol
from raymx import ndarray as nd
from raymx.checkpoint import load_checkpoint, load_params, save_checkpoint
from raymx.context import Context, current_context
from raymx.errors import BindError, MXNetError, ParameterError, ShapeError, did_you_mean
from raymx.graph.node import argument_nodes, topological
from raymx.initializer import Uniform
from raymx.module import loop, saving
from raymx.module.bucketing_module import BucketingModule
from raymx.module.executor_group import _check_arguments
from raymx.module.loop import BatchEndParam
from raymx.module.module import Module
from raymx.module.updates import opened

__all__ = ["BatchEndParam", "FeedForward", "load_checkpoint", "load_params", "save_checkpoint"]


class FeedForward:
    """A network with its parameters and the settings to train it.

    - symbol: the network; or a function from a bucket key to the network, for iterators whose batches have one.
    - ctx: a context or a list of them; a batch is cut over them by rows. The current context by default.
    - num_epoch, begin_epoch: epochs run from begin_epoch to num_epoch - 1. epoch_size: batches per epoch, if an epoch
      shall not be one pass over the data.
    - optimizer: a name, to which `optimizer_params` and `rescale_grad` = 1 / batch size go, or an Optimizer.
    - initializer: called as `f(name, array)` for parameters that have no value in arg_params or aux_params.
    - numpy_batch_size: rows of a batch where data comes as arrays.
    - allow_extra_params: drop given parameters that the symbol does not have, instead of raising BindError.

    After `fit`, `arg_params` and `aux_params` are dicts of NDArrays on cpu(0). A model pickles, and follows
    scikit-learn's `get_params` and `set_params`, so it can be cloned and searched over.
    """

    def __init__(self, symbol, ctx=None, num_epoch=None, epoch_size=None, optimizer="sgd", initializer=None,
                 numpy_batch_size=128, arg_params=None, aux_params=None, allow_extra_params=False, begin_epoch=0,
                 **optimizer_params):  # fmt: skip
        initializer = Uniform(0.01) if initializer is None else initializer
        self._given = {"symbol": symbol, "ctx": ctx, "num_epoch": num_epoch, "epoch_size": epoch_size,
                       "optimizer": optimizer, "initializer": initializer, "numpy_batch_size": numpy_batch_size,
                       "arg_params": arg_params, "aux_params": aux_params, "allow_extra_params": allow_extra_params,
                       "begin_epoch": begin_epoch, **optimizer_params}  # fmt: skip
        self.sym_gen = None if _is_symbol(symbol) else symbol
        self.symbol = symbol if self.sym_gen is None else None
        if not callable(symbol):
            raise ParameterError(f"FeedForward: symbol must be a Symbol or a function that makes one, got {symbol!r}.")
        self.ctx = _contexts(ctx)
        self.num_epoch, self.epoch_size, self.begin_epoch = num_epoch, epoch_size, begin_epoch
        self.optimizer, self.initializer, self.numpy_batch_size = optimizer, initializer, numpy_batch_size
        self.kwargs = dict(optimizer_params)
        self.arg_params, self.aux_params = arg_params, aux_params
        self.allow_extra_params = allow_extra_params
        self._predictor: Module | None = None
        self._predictor_shapes: Any = None
        if self.symbol is not None:
            self._check_params()

    # ---- training ----

    def fit(self, X, y=None, eval_data=None, eval_metric="acc", epoch_end_callback=None, batch_end_callback=None,
            kvstore="local", logger=None, work_load_list=None, monitor=None, eval_end_callback=None,
            eval_batch_end_callback=None, checkpoint=None, resume=None) -> FeedForward:  # fmt: skip
        """Train. Returns the model.

        - X, y: arrays (rows are samples; X may be a list or dict of arrays) or a data iterator. Arrays are shuffled
          and rows that fill no batch come first in the next epoch.
        - eval_data: an iterator or a pair (X, y), judged after each epoch; padding does not count.
        - eval_metric: what `metric.create` takes, or None for none. It is fed behind the device; who reads
          `param.eval_metric` in a callback waits for all batches so far.
        - epoch_end_callback(epoch, symbol, arg_params, aux_params), batch_end_callback(BatchEndParam),
          eval_end_callback and eval_batch_end_callback(BatchEndParam): a function or a list of them.
        - kvstore: a type, a KVStore or None. One device and no `dist` uses none; `local` is `local_update_cpu`, or
          `local_allreduce_cpu` if an array has 16 M elements.
        - work_load_list: a weight for each context, by which a batch is cut. monitor: a Monitor.
        - checkpoint, resume: files with the whole state after each epoch, and whether to go on from one; see
          `BaseModule.fit`.

        Raises ParameterError, ShapeError or BindError when data, symbol and settings do not fit together.
        """
        if self.num_epoch is None:
            raise ParameterError("FeedForward.fit: num_epoch is missing; give it to FeedForward(...).")
        logger = logger or logging.getLogger("raymx")
        data, eval_data = self._training_data(X, y), self._eval_data(eval_data)
        judge = None if eval_metric is None else metric.create(eval_metric)
        data.reset()
        kvstore = opened(kvstore)
        saved = saving.found(checkpoint, resume, self.begin_epoch, self.num_epoch, kvstore)
        module = self._prepare(data, kvstore, work_load_list, monitor, saved)
        if checkpoint is not None:
            module._refuse_unsaved()
        logger.info("Start training with %s", self.ctx)
        loop.train(
            module, data, self.begin_epoch, self.num_epoch, eval_metric=judge, validation_metric=judge,
            eval_data=eval_data, epoch_end_callback=epoch_end_callback, batch_end_callback=batch_end_callback,
            eval_end_callback=eval_end_callback, eval_batch_end_callback=eval_batch_end_callback, monitor=monitor,
            logger=logger, epoch_size=self.epoch_size, first_nbatch=1, symbol=self.symbol, checkpoint=checkpoint,
            saved=saved,
        )  # fmt: skip
        self.arg_params, self.aux_params = module.get_params()
        return self

    # ---- using ----

    def predict(self, X, num_batch: int | None = None, return_data: bool = False, reset: bool = True):
        """The network's outputs for X as a NumPy array, or a list if it has several; on the first context.

        X is an array, a list or dict of arrays, or an iterator, of which `num_batch` batches are taken (all by
        default) after a `reset`. Padding is cut off. With `return_data`: (outputs, data, labels). Raises BindError
        if a parameter has no value.
        """
        data = self._prediction_data(X)
        if reset:
            data.reset()
        module = self._bind_predictor(data.provide_data)
        found: list[list[np.ndarray]] = []
        seen: list[tuple[list[np.ndarray], list[np.ndarray]]] = []
        for outputs, _, batch in loop.predictions(module, data, num_batch):
            found.append(outputs)
            if return_data:
                seen.append((_to_host(batch.data, batch.pad), _to_host(batch.label, batch.pad)))
        if not found:
            raise MXNetError("FeedForward.predict: the iterator gives no batches.")
        outputs = _joined(found)
        return (outputs, *(_joined(list(part)) for part in zip(*seen, strict=True))) if return_data else outputs

    def score(self, X, eval_metric="acc", num_batch: int | None = None, batch_end_callback=None, reset: bool = True,
              y=None):  # fmt: skip
        """The metric's value for the outputs of X, padding left out; X is an iterator, or a pair or arrays with `y`.

        A list of values for a metric with several. Otherwise as `predict`.
        """
        if isinstance(X, tuple) and len(X) == 2 and y is None:
            X, y = X
        data = X if _is_iterator(X) else self._array_iter(X, y, "score", shuffle=False)
        eval_metric = metric.create(eval_metric)
        module = self._bind_predictor(data.provide_data, data.provide_label)
        loop.score(module, data, eval_metric, num_batch, batch_end_callback, reset=reset)
        return eval_metric.get()[1]

    # ---- keeping ----

    def save(self, prefix, epoch: int | None = None) -> None:
        """Write `prefix-symbol.json` and `prefix-NNNN.params`; the epoch is `num_epoch` by default."""
        epoch = self.num_epoch if epoch is None else epoch
        if epoch is None:
            raise ParameterError("FeedForward.save: epoch is missing, and the model has no num_epoch.")
        if self.symbol is None or self.arg_params is None:
            raise MXNetError("FeedForward.save: the model has no parameters yet; fit it first.")
        save_checkpoint(prefix, epoch, self.symbol, self.arg_params, self.aux_params or {})

    @staticmethod
    def load(prefix, epoch: int, ctx=None, **kwargs) -> FeedForward:
        """The model of a checkpoint; `kwargs` as in the constructor. Training goes on after `epoch`."""
        symbol, arg_params, aux_params = load_checkpoint(prefix, epoch)
        kwargs.setdefault("begin_epoch", epoch)
        return FeedForward(symbol, ctx=ctx, arg_params=arg_params, aux_params=aux_params, **kwargs)

    @staticmethod
    def create(symbol, X, y=None, ctx=None, num_epoch=None, epoch_size=None, optimizer="sgd", initializer=None,
               eval_data=None, eval_metric="acc", epoch_end_callback=None, batch_end_callback=None, kvstore="local",
               logger=None, work_load_list=None, eval_end_callback=None, eval_batch_end_callback=None,
               **kwargs) -> FeedForward:  # fmt: skip
        """A new model, trained: the constructor and `fit` in one call."""
        model = FeedForward(symbol, ctx=ctx, num_epoch=num_epoch, epoch_size=epoch_size, optimizer=optimizer,
                            initializer=initializer, **kwargs)  # fmt: skip
        return model.fit(X, y, eval_data=eval_data, eval_metric=eval_metric, epoch_end_callback=epoch_end_callback,
                         batch_end_callback=batch_end_callback, kvstore=kvstore, logger=logger,
                         work_load_list=work_load_list, eval_end_callback=eval_end_callback,
                         eval_batch_end_callback=eval_batch_end_callback)  # fmt: skip

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments, as scikit-learn's estimators have it."""
        return dict(self._given)

    def set_params(self, **params) -> FeedForward:
        """Set constructor arguments anew; what was trained is forgotten."""
        self.__init__(**{**self._given, **params})  # type: ignore[misc]
        return self

    def __sklearn_tags__(self):
        from sklearn.utils import Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=True))

    def __getstate__(self):
        return {**self.__dict__, "_predictor": None}

    # ---- data ----

    def _training_data(self, X, y):
        if _is_iterator(X):
            return X
        if y is None:
            raise ParameterError("FeedForward.fit: y is missing; it is needed when X is not a data iterator.")
        return self._array_iter(X, y, "fit", shuffle=True)

    def _eval_data(self, eval_data):
        if eval_data is None or _is_iterator(eval_data):
            return eval_data
        if isinstance(eval_data, (tuple, list)) and len(eval_data) == 2:
            return self._array_iter(*eval_data, "fit: eval_data", shuffle=False)
        raise ParameterError("FeedForward.fit: eval_data must be a data iterator or a pair (X, y), "
                             f"got {type(eval_data).__name__}.")

    def _prediction_data(self, X):
        return X if _is_iterator(X) else self._array_iter(X, None, "predict", shuffle=False)

    def _array_iter(self, X, y, who: str, shuffle: bool) -> io.NDArrayIter:
        """An iterator over arrays, whose label has the name that the symbol asks for."""
        X, y = _arrays(X), None if y is None else _label_arrays(y)
        rows, labels = _rows(X), None if y is None else _rows(y)
        if labels is not None and rows != labels:
            raise ShapeError(f"FeedForward.{who}: X has {rows} rows but y has {labels}; they must agree.")
        return io.NDArrayIter(X, y, min(rows, self.numpy_batch_size), shuffle, "roll_over" if shuffle else "pad",
                              label_name=_label_name(self.symbol))  # fmt: skip

    # ---- parameters ----

    def _prepare(self, data, kvstore, work_load_list, monitor, saved=None) -> Module | BucketingModule:
        """A module with the parameters and the optimizer, or those of a saved state."""
        names = [d[0] for d in data.provide_data]
        labels = [d[0] for d in data.provide_label or ()]
        key = getattr(data, "default_bucket_key", None)
        if self.sym_gen is not None:
            self.symbol = self.sym_gen(key)
            self._check_params()
        _check_names("fit", [*names, *labels], self.symbol)
        settings: dict[str, Any] = {"context": self.ctx, "work_load_list": work_load_list}
        if self.sym_gen is None or key is None:
            module: Any = Module(self.symbol, names, labels, **settings)
        else:
            module = BucketingModule(lambda key: (self.sym_gen(key), names, labels), key, **settings)
        module.bind(data.provide_data, data.provide_label)
        if monitor is not None:
            module.install_monitor(monitor)
        params = (self.arg_params or {}, self.aux_params or {}) if saved is None else saved.params()
        module.init_params(self.initializer, *params, allow_missing=True)
        module.init_optimizer(kvstore, self.optimizer, self.kwargs)
        if saved is not None:
            saved.restore(module)
        self.arg_params, self.aux_params = module.get_params()
        return module

    def _check_params(self) -> None:
        _check_arguments(self.symbol)
        for kind, known in (("arg_params", self.symbol.list_arguments()),
                            ("aux_params", self.symbol.list_auxiliary_states())):  # fmt: skip
            given = getattr(self, kind) or {}
            extra = [name for name in given if name not in known]
            if extra and not self.allow_extra_params:
                raise BindError(f"FeedForward: {kind} has {extra[0]!r}, which the symbol does not"
                                f"{did_you_mean(extra[0], known)}; allow_extra_params=True drops such names.")
            if extra:
                setattr(self, kind, {name: value for name, value in given.items() if name in known})

    def _bind_predictor(self, data_shapes, label_shapes=()) -> Module:
        """A module on the first context for these shapes, with the present parameters."""
        if self.arg_params is None or self.symbol is None:
            raise BindError("FeedForward: the model has no parameters yet; fit it, load it, or give arg_params.")
        _check_names("predict", [d[0] for d in data_shapes], self.symbol)
        arguments = self.symbol.list_arguments()
        data = [(d[0], tuple(d[1])) for d in data_shapes]
        labels = [(d[0], tuple(d[1])) for d in label_shapes or () if d[0] in arguments]
        shapes = data, labels
        if self._predictor is None or self._predictor_shapes != shapes:
            names = {name for name, _ in labels}.union(n for n in _labels(self.symbol) if n not in self.arg_params)
            self._predictor = Module(self.symbol, [name for name, _ in data], sorted(names), context=self.ctx[:1])
            self._predictor.bind(data_shapes, label_shapes, for_training=False)
            self._predictor_shapes = shapes
        self._predictor.set_params(self.arg_params, self.aux_params or {}, allow_extra=True)
        return self._predictor


def _is_symbol(thing) -> bool:
    return isinstance(thing, symbol.Symbol)


def _is_iterator(thing) -> bool:
    return hasattr(thing, "provide_data") and hasattr(thing, "reset")


def _contexts(ctx) -> list[Context]:
    if ctx is None:
        return [current_context()]
    return [ctx] if isinstance(ctx, Context) else list(ctx)


def _arrays(X):
    """X as NDArrayIter takes it: an array, or a list or dict of arrays."""
    if isinstance(X, (np.ndarray, nd.NDArray, Mapping)):
        return X
    if isinstance(X, (list, tuple)) and X and all(isinstance(x, (np.ndarray, nd.NDArray)) for x in X):
        return list(X)
    return np.asarray(X, dtype=np.float32)


def _label_arrays(y):
    y = _arrays(y)
    if isinstance(y, (np.ndarray, nd.NDArray)) and len(y.shape) == 2 and y.shape[1] == 1:
        return y.reshape(-1)
    return y


def _rows(arrays) -> int:
    each = list(arrays.values()) if isinstance(arrays, Mapping) else arrays
    first = each[0] if isinstance(each, list) else each
    return first.shape[0] if first.shape else 0


def _labels(symbol) -> list[str]:
    """Arguments that are labels: they go into an operator's input `label`, or are called so."""
    order = topological(symbol.heads)
    at_label = [entry.node for node in order for name, entry in zip(node.input_names(), node.inputs, strict=True)
                if name == "label"]  # fmt: skip
    return [node.name for node in argument_nodes(order) if node.name.endswith("label") or node in at_label]


def _label_name(symbol) -> str:
    """The symbol's label, if it has just one, else `softmax_label`."""
    names = _labels(symbol) if symbol is not None else []
    return names[0] if len(names) == 1 else "softmax_label"


def _check_names(who: str, given: Iterable[str], symbol) -> None:
    arguments = symbol.list_arguments()
    for name in given:
        if name not in arguments:
            raise BindError(f"FeedForward.{who}: the data has {name!r}, which is no argument of the symbol"
                            f"{did_you_mean(name, arguments)} (its arguments: {', '.join(arguments)}).")


def _to_host(arrays, pad: int | None) -> list[np.ndarray]:
    values = [a.asnumpy() if isinstance(a, nd.NDArray) else np.asarray(a) for a in arrays or ()]
    return [v[: len(v) - (pad or 0)] for v in values]


def _joined(batches: list[list[np.ndarray]]):
    """Per-batch lists of arrays as one array for each place; the array itself if there is one place."""
    arrays = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    return arrays[0] if len(arrays) == 1 else arrays

