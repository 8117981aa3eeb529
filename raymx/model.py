"""FeedForward: train, use, save and load a network with a handful of calls.

    model = mx.model.FeedForward(net, ctx=[mx.gpu(0), mx.gpu(1)], num_epoch=10, learning_rate=0.1)
    model.fit(X, y, eval_data=(X_test, y_test))
    probabilities = model.predict(X_test)
    model.save("net", 10)                       # net-symbol.json, net-0010.params
    model = mx.model.FeedForward.load("net", 10)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from raymx import io, metric, symbol, training
from raymx import ndarray as nd
from raymx import optimizer as opt
from raymx.context import Context, cpu, current_context
from raymx.errors import BindError, FormatError, MXNetError, ParameterError, ShapeError, did_you_mean
from raymx.executor_manager import DataParallelExecutorGroup, _check_arguments
from raymx.graph.node import argument_nodes, topological
from raymx.initializer import InitDesc, Initializer, Uniform
from raymx.training import BatchEndParam

__all__ = ["BatchEndParam", "FeedForward", "load_checkpoint", "save_checkpoint"]


# ---- checkpoints ----


def save_checkpoint(prefix, epoch: int, symbol, arg_params: Mapping, aux_params: Mapping) -> None:
    """Write `prefix-symbol.json` and `prefix-NNNN.params`, each all or nothing; `prefix` may be a URL."""
    symbol.save(f"{prefix}-symbol.json")
    arrays = {f"arg:{name}": value for name, value in arg_params.items()}
    arrays.update({f"aux:{name}": value for name, value in aux_params.items()})
    path = f"{prefix}-{epoch:04d}.params"
    nd.save(path, arrays)
    logging.getLogger("raymx").info("Saved checkpoint to %s", path)


def load_checkpoint(prefix, epoch: int):
    """(symbol, arg_params, aux_params) of what `save_checkpoint` or MXNet wrote, on cpu(0).

    Raises FileNotFoundError, or FormatError for a file of another kind.
    """
    path = f"{prefix}-{epoch:04d}.params"
    with cpu():
        arrays = nd.load(path)
    kinds: dict[str, dict[str, nd.NDArray]] = {"arg": {}, "aux": {}}
    for key, value in arrays.items() if isinstance(arrays, dict) else ():
        kind, _, name = key.partition(":")
        if kind not in kinds or not name:
            raise FormatError(f"{path}: no checkpoint: it has an array {key!r}; expected names that begin with arg: "
                              "or aux:.")
        kinds[kind][name] = value
    if not arrays or not isinstance(arrays, dict):
        raise FormatError(f"{path}: no checkpoint: its arrays have no names; expected arg:<name> and aux:<name>.")
    return symbol.load(f"{prefix}-symbol.json"), kinds["arg"], kinds["aux"]


# ---- the model ----


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
        self._predictor: DataParallelExecutorGroup | None = None
        if self.symbol is not None:
            self._check_params()

    # ---- training ----

    def fit(self, X, y=None, eval_data=None, eval_metric="acc", epoch_end_callback=None, batch_end_callback=None,
            kvstore="local", logger=None, work_load_list=None, monitor=None, eval_end_callback=None,
            eval_batch_end_callback=None) -> FeedForward:  # fmt: skip
        """Train. Returns the model.

        - X, y: arrays (rows are samples; X may be a list or dict of arrays) or a data iterator. Arrays are shuffled
          and rows that fill no batch come first in the next epoch.
        - eval_data: an iterator or a pair (X, y), judged after each epoch; padding does not count.
        - eval_metric: what `metric.create` takes, or None for none. It is always fed one batch late, so that reading
          it never waits for the batch that was just pushed: a batch-end callback sees all batches but the newest, an
          epoch-end callback all of them.
        - epoch_end_callback(epoch, symbol, arg_params, aux_params), batch_end_callback(BatchEndParam),
          eval_end_callback and eval_batch_end_callback(BatchEndParam): a function or a list of them.
        - kvstore: a type, a KVStore or None. One device and no `dist` uses none; `local` is `local_update_cpu`, or
          `local_allreduce_cpu` if an array has 16 M elements.
        - work_load_list: a weight for each context, by which a batch is cut. monitor: a Monitor.

        Raises ParameterError, ShapeError or BindError when data, symbol and settings do not fit together.
        """
        if self.num_epoch is None:
            raise ParameterError("FeedForward.fit: num_epoch is missing; give it to FeedForward(...).")
        logger = logger or logging.getLogger("raymx")
        data = self._training_data(X, y)
        eval_data = self._eval_data(eval_data)
        eval_metric = None if eval_metric is None else metric.create(eval_metric)
        groups, update = self._prepare(data, kvstore, work_load_list, monitor)
        logger.info("Start training with %s", self.ctx)
        data.reset()
        for epoch in range(self.begin_epoch, self.num_epoch):
            began = time.perf_counter()
            if eval_metric is not None:
                eval_metric.reset()
            training.train_epoch(groups, update, epoch, data, self.epoch_size, eval_metric, batch_end_callback, monitor)
            _log_metric(logger, epoch, "Train", eval_metric)
            logger.info("Epoch[%d] Time cost=%.3f", epoch, time.perf_counter() - began)
            if epoch_end_callback is not None or epoch + 1 == self.num_epoch:
                groups.main.get_params(self.arg_params, self.aux_params)
            training.call(epoch_end_callback, epoch, self.symbol, self.arg_params, self.aux_params)
            if eval_data is not None and eval_metric is not None:
                self._evaluate(groups, epoch, eval_data, eval_metric, eval_batch_end_callback)
                _log_metric(logger, epoch, "Validation", eval_metric)
                training.call(eval_end_callback, BatchEndParam(epoch, 0, eval_metric, locals()))
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
        group = self._bind_predictor(data.provide_data)
        found: list[list[np.ndarray]] = []
        seen: list[tuple[list[np.ndarray], list[np.ndarray]]] = []
        for batch, outputs in training.predict(group, data, num_batch):
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
        if reset:
            data.reset()
        group = self._bind_predictor(data.provide_data, data.provide_label)
        eval_metric = metric.create(eval_metric)
        training.score(lambda batch: group, 0, data, eval_metric, batch_end_callback, num_batch)
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

    def _prepare(self, data, kvstore, work_load_list, monitor) -> tuple[training.Groups, Callable[[], None]]:
        """Executors that hold the parameters, and the function that updates them."""
        symbol_of = self._choose_symbol(data)
        param_names = self._init_params(data)
        groups = training.Groups(symbol_of, self.ctx, work_load_list, param_names, monitor)
        main = groups.for_iterator(data)
        main.set_params(self.arg_params, self.aux_params)
        store, in_store = training.create_kvstore(kvstore, len(self.ctx), self.arg_params)
        optimizer = self._make_optimizer(data, param_names, store, 1 if in_store else len(self.ctx))
        return groups, training.updating(main, optimizer, store, in_store, private=store is not kvstore)

    def _evaluate(self, groups: training.Groups, epoch: int, data, eval_metric, callbacks) -> None:
        data.reset()
        default = groups.for_iterator(data, for_training=False)
        training.score(lambda batch: groups.for_batch(batch, default, for_training=False), epoch, data, eval_metric,
                       callbacks)  # fmt: skip

    def _choose_symbol(self, data) -> Callable:
        """The function from bucket key to symbol; fixes `self.symbol` for buckets."""
        if self.sym_gen is None:
            return lambda bucket_key: self.symbol
        self.symbol = self.sym_gen(getattr(data, "default_bucket_key", None))
        self._check_params()
        return self.sym_gen

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

    def _init_params(self, data) -> list[str]:
        """Give every parameter and state a value, on cpu(0); returns the parameters' names."""
        shapes = {name: tuple(shape) for name, shape in (*data.provide_data, *(data.provide_label or ()))}
        _check_names("fit", shapes, self.symbol)
        arg_shapes, _, aux_shapes = self.symbol.infer_shape(**shapes)
        if arg_shapes is None:
            given = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise ShapeError(f"FeedForward.fit: {given} do not tell the shape of "
                             f"{', '.join(_unknown(self.symbol, shapes))}; give Variable(..., shape=...) there.")
        arg_types, aux_types = self._infer_types(data)
        arguments = self.symbol.list_arguments()
        params = [(n, s, t) for n, s, t in zip(arguments, arg_shapes, arg_types, strict=True) if n not in shapes]
        states = zip(self.symbol.list_auxiliary_states(), aux_shapes, aux_types, strict=True)
        attrs = self.symbol.attr_dict()
        self.arg_params = {n: self._first_value(n, s, t, self.arg_params, attrs) for n, s, t in params}
        self.aux_params = {n: self._first_value(n, s, t, self.aux_params, attrs) for n, s, t in states}
        return [name for name, _, _ in params]

    def _infer_types(self, data):
        """dtypes of arguments and states, float32 where the data's do not tell."""
        given = {d[0]: d.dtype for d in data.provide_data if getattr(d, "dtype", np.float32) != np.float32}
        types = self.symbol.infer_type(**given) if given else (None, None, None)
        arguments, states = types[0], types[2]
        return (arguments or [np.float32] * len(self.symbol.list_arguments()),
                states or [np.float32] * len(self.symbol.list_auxiliary_states()))  # fmt: skip

    def _first_value(self, name: str, shape, dtype, given, attrs) -> nd.NDArray:
        array = nd.zeros(shape, cpu(), dtype)
        value = (given or {}).get(name)
        if value is None:
            init = self.initializer
            init(InitDesc(name, attrs.get(name), init if isinstance(init, Initializer) else None), array)
        elif value.shape != array.shape:
            raise BindError(f"FeedForward.fit: {name!r} must have shape {array.shape} for this data, the given value "
                            f"has {value.shape}.")
        else:
            value.copyto(array)
        return array

    def _make_optimizer(self, data, param_names, store, copies: int) -> opt.Optimizer:
        """The optimizer for `copies` of each parameter, with the index i * copies + k."""
        if isinstance(self.optimizer, opt.Optimizer):
            return self.optimizer
        batch_size = data.provide_data[0][1][0]
        if store is not None and "dist" in store.type and "async" not in store.type:
            batch_size *= store.num_workers
        names = {i * copies + k: name for i, name in enumerate(param_names) for k in range(copies)}
        settings = {"rescale_grad": 1.0 / batch_size, "param_idx2name": names, "sym": self.symbol, **self.kwargs}
        return opt.create(self.optimizer, **settings)

    def _bind_predictor(self, data_shapes, label_shapes=()) -> DataParallelExecutorGroup:
        """A group on the first context for these shapes, with the present parameters."""
        if self.arg_params is None or self.symbol is None:
            raise BindError("FeedForward: the model has no parameters yet; fit it, load it, or give arg_params.")
        _check_names("predict", [d[0] for d in data_shapes], self.symbol)
        arguments = self.symbol.list_arguments()
        label_shapes = list(label_shapes or ())
        inputs = [(name, tuple(shape)) for name, shape in (*data_shapes, *label_shapes) if name in arguments]
        if self._predictor is None or self._predictor.inputs != inputs:
            others = {name for name, _ in inputs}.union(n for n in _labels(self.symbol) if n not in self.arg_params)
            names = [n for n in arguments if n not in others]
            self._predictor = DataParallelExecutorGroup(self.symbol, self.ctx[:1], None, data_shapes, label_shapes,
                                                        names, for_training=False)  # fmt: skip
        self._predictor.set_params(self.arg_params, self.aux_params or {})
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


def _unknown(symbol, shapes) -> Sequence[str]:
    found = symbol.infer_shape_partial(**shapes)[0]
    return [n for n, s in zip(symbol.list_arguments(), found, strict=True) if not s or 0 in s]


def _to_host(arrays, pad: int | None) -> list[np.ndarray]:
    values = [a.asnumpy() if isinstance(a, nd.NDArray) else np.asarray(a) for a in arrays or ()]
    return [v[: len(v) - (pad or 0)] for v in values]


def _joined(batches: list[list[np.ndarray]]):
    """Per-batch lists of arrays as one array for each place; the array itself if there is one place."""
    arrays = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    return arrays[0] if len(arrays) == 1 else arrays


def _log_metric(logger, epoch: int, kind: str, eval_metric) -> None:
    for name, value in eval_metric.get_name_value() if eval_metric is not None else ():
        logger.info("Epoch[%d] %s-%s=%f", epoch, kind, name, value)
