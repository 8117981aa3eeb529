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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from raymx import io, metric, symbol
from raymx import kvstore as kvs
from raymx import ndarray as nd
from raymx import optimizer as opt
from raymx.context import Context, cpu, current_context
from raymx.errors import BindError, FormatError, MXNetError, ParameterError, ShapeError, did_you_mean
from raymx.executor_manager import DataParallelExecutorGroup, Snapshot, Stretch, _check_arguments
from raymx.initializer import InitDesc, Initializer, Uniform

_SMALL_MODEL = 16 * 1024 * 1024  # elements of the largest array up to which `local` updates in the store


class BatchEndParam(NamedTuple):
    """What a batch-end callback gets: the epoch, how many batches of it are done, the metric (which lacks the newest
    batch) and the loop's variables."""

    epoch: int
    nbatch: int
    eval_metric: metric.EvalMetric | None
    locals: Any


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


# ---- updating parameters, with and without a store ----


def _create_kvstore(kvstore, num_device: int, arg_params: Mapping) -> tuple[kvs.KVStore | None, bool]:
    """The store that `kvstore` (a store, a type or None) means, and whether it keeps the weights and updates them."""
    if isinstance(kvstore, str):
        if num_device == 1 and "dist" not in kvstore:
            return None, False
        if kvstore == "local":
            largest = max((array.size for array in arg_params.values()), default=0)
            kvstore = "local_update_cpu" if largest < _SMALL_MODEL else "local_allreduce_cpu"
        kvstore = kvs.create(kvstore)
    elif kvstore is not None and not isinstance(kvstore, kvs.KVStore):
        raise ParameterError(f"kvstore must be a KVStore, the name of a type, or None, got {kvstore!r}.")
    if kvstore is None:
        return None, False
    return kvstore, "allreduce" not in kvstore.type and kvstore.type != "device"


def _initialize_kvstore(kvstore, stretches: Sequence[Stretch], update_on_kvstore: bool) -> None:
    """Give the store each stretch's value, under its index."""
    for index, values, _ in stretches:
        kvstore.init(index, values[0])
        if update_on_kvstore:
            kvstore.pull(index, values, priority=-index)


def _update_params_on_kvstore(stretches: Sequence[Stretch], kvstore) -> None:
    """Push gradients and pull the weights that the store made of them."""
    for index, values, grads in stretches:
        kvstore.push(index, grads, priority=-index)
        kvstore.pull(index, values, priority=-index)


def _update_params(stretches: Sequence[Stretch], updater, num_device: int, kvstore=None) -> None:
    """Sum gradients through the store, if there is one, and update every device's weights by them. What has index i
    has i * num_device + k on device k, so that each device has its own state."""
    for index, values, grads in stretches:
        if kvstore is not None:
            kvstore.push(index, grads, priority=-index)
            kvstore.pull(index, grads, priority=-index)
        for k, (weight, grad) in enumerate(zip(values, grads, strict=True)):
            updater(index * num_device + k, grad, weight)


# ---- the training loop ----


class _Groups:
    """Executors for each symbol and shape that training meets; all use the parameters of the first."""

    def __init__(self, symbol_of: Callable, contexts, work_load_list, param_names):
        self._symbol_of, self._contexts, self._work_load_list = symbol_of, contexts, work_load_list
        self._param_names = param_names
        self._groups: dict[Any, DataParallelExecutorGroup] = {}
        self.main: DataParallelExecutorGroup | None = None
        self.monitor = None

    def find(self, data_shapes, label_shapes, bucket_key=None, for_training=True) -> DataParallelExecutorGroup:
        shapes = tuple((name, tuple(shape)) for name, shape in (*data_shapes, *label_shapes))
        key = bucket_key, shapes
        if key not in self._groups:
            symbol = self._symbol_of(bucket_key)
            arguments = set(symbol.list_arguments())
            names = [name for name in self._param_names if name in arguments]
            group = DataParallelExecutorGroup(symbol, self._contexts, self._work_load_list, data_shapes, label_shapes,
                                              names, for_training, self.main)  # fmt: skip
            if self.monitor is not None:
                group.install_monitor(self.monitor)
            self._groups[key] = group
            self.main = self.main or group
        return self._groups[key]

    def of(self, batch, default: DataParallelExecutorGroup, for_training=True) -> DataParallelExecutorGroup:
        """The group for a batch: `default` unless it names a bucket or shapes of its own."""
        if getattr(batch, "provide_data", None) is None:
            return default
        return self.find(batch.provide_data, batch.provide_label or (), batch.bucket_key, for_training)


class _Trainer:
    """Runs batches: forward, backward, update, and the metric one batch behind."""

    def __init__(self, groups: _Groups, data, optimizer: opt.Optimizer, kvstore, update_on_kvstore: bool, arg_params,
                 aux_params, monitor=None, merge: bool = False):  # fmt: skip
        self._groups, self._monitor = groups, monitor
        groups.monitor = monitor
        self.main = groups.find(data.provide_data, data.provide_label, getattr(data, "default_bucket_key", None))
        self.main.set_params(arg_params, aux_params)
        self._kvstore, self._update_on_kvstore = kvstore, update_on_kvstore
        self._stretches = self.main.stretches(_multipliers_of(optimizer) if merge else None)
        if kvstore is not None:
            _initialize_kvstore(kvstore, self._stretches, update_on_kvstore)
        if update_on_kvstore:
            kvstore.set_optimizer(optimizer)
        else:
            self._updater = opt.get_updater(optimizer)

    def step(self, batch) -> DataParallelExecutorGroup:
        """Push one batch's work; returns the group that holds its outputs, waits for nothing."""
        group = self._groups.of(batch, self.main)
        group.load(batch.data, batch.label)
        if self._monitor is not None:
            self._monitor.tic()
        group.forward(is_train=True)
        group.backward()
        self._update()
        if self._monitor is not None:
            self._monitor.toc_print()
        return group

    def _update(self) -> None:
        if self._update_on_kvstore:
            _update_params_on_kvstore(self._stretches, self._kvstore)
        else:
            _update_params(self._stretches, self._updater, len(self.main.execs), self._kvstore)

    def train_epoch(self, epoch: int, data, epoch_size, eval_metric, callbacks) -> int:
        """One pass over `data`; returns how many batches it had. At the end the metric knows them all."""
        pending: Snapshot | None = None
        nbatch = 0
        for batch in _epoch(data, epoch_size):
            group = self.step(batch)
            if eval_metric is not None:
                newest = group.snapshot(batch.label)
                if pending is not None:
                    pending.feed(eval_metric)
                pending = newest
            nbatch += 1
            if callbacks:
                _call(callbacks, BatchEndParam(epoch, nbatch, eval_metric, locals()))
        if pending is not None:
            pending.feed(eval_metric)
        return nbatch

    def evaluate(self, epoch: int, data, eval_metric, callbacks) -> None:
        """Feed the metric with the outputs for `data`, padding left out."""
        eval_metric.reset()
        data.reset()
        default = self._groups.find(data.provide_data, data.provide_label or (),
                                    getattr(data, "default_bucket_key", None), for_training=False)  # fmt: skip
        _score(data, lambda batch: self._groups.of(batch, default, for_training=False), eval_metric, callbacks, epoch)


def _multipliers_of(optimizer: opt.Optimizer) -> Callable[[str], Any]:
    """What decides whether two parameters can be updated as one: their multipliers."""
    decays = optimizer.wd != 0
    return lambda name: (optimizer.lr_mult.get(name, 1.0), decays and optimizer.wd_mult.get(name, 1.0))


def _epoch(data, epoch_size: int | None) -> Iterator:
    """Batches until `data` ends, which is then reset; or exactly `epoch_size` of them, over resets."""
    count = 0
    while True:
        before = count
        for batch in data:
            yield batch
            count += 1
            if count == epoch_size:
                return
        data.reset()
        if count == 0 and before == 0 and epoch_size is None:
            raise MXNetError("fit: the training iterator gives no batches.")
        if epoch_size is None:
            return


def _score(data, group_of: Callable, eval_metric, callbacks, epoch: int, num_batch: int | None = None) -> None:
    """Run forward over `data` and feed the metric, one batch behind."""
    pending: tuple[Snapshot, int] | None = None
    for nbatch, batch in enumerate(data):
        if nbatch == num_batch:
            break
        group = group_of(batch)
        group.load(batch.data, batch.label)
        group.forward(is_train=False)
        newest = group.snapshot(batch.label), batch.pad or 0
        if pending is not None:
            pending[0].feed(eval_metric, pending[1])
        pending = newest
        _call(callbacks, BatchEndParam(epoch, nbatch, eval_metric, locals()))
    if pending is not None:
        pending[0].feed(eval_metric, pending[1])


def _call(callbacks, *args) -> None:
    if callbacks is None:
        return
    for callback in callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]:
        callback(*args)


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
        symbol_of = self._choose_symbol(data)
        param_names = self._init_params(data)
        store, update_on_kvstore = _create_kvstore(kvstore, len(self.ctx), self.arg_params or {})
        optimizer = self._make_optimizer(data, param_names, store, update_on_kvstore)
        ours = optimizer is not self.optimizer and (store is None or store is not kvstore)
        merge = ours and opt.is_elementwise(optimizer) and (store is None or store.type.startswith("local"))
        trainer = _Trainer(_Groups(symbol_of, self.ctx, work_load_list, param_names), data, optimizer, store,
                           update_on_kvstore, self.arg_params, self.aux_params, monitor, merge)  # fmt: skip
        logger.info("Start training with %s", self.ctx)
        data.reset()
        for epoch in range(self.begin_epoch, self.num_epoch):
            began = time.perf_counter()
            if eval_metric is not None:
                eval_metric.reset()
            trainer.train_epoch(epoch, data, self.epoch_size, eval_metric, batch_end_callback)
            _log_metric(logger, epoch, "Train", eval_metric)
            if epoch_end_callback is not None or epoch + 1 == self.num_epoch:
                trainer.main.get_params(self.arg_params, self.aux_params)
            logger.info("Epoch[%d] Time cost=%.3f", epoch, time.perf_counter() - began)
            _call(epoch_end_callback, epoch, self.symbol, self.arg_params, self.aux_params)
            if eval_data is not None and eval_metric is not None:
                trainer.evaluate(epoch, eval_data, eval_metric, eval_batch_end_callback)
                _log_metric(logger, epoch, "Validation", eval_metric)
                _call(eval_end_callback, BatchEndParam(epoch, 0, eval_metric, locals()))
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
        pending: tuple[Snapshot, int] | None = None
        for nbatch, batch in enumerate(data):
            if nbatch == num_batch:
                break
            group.load(batch.data)
            group.forward(is_train=False)
            newest = group.snapshot(None), batch.pad or 0
            if return_data:
                seen.append((_to_host(batch.data, newest[1]), _to_host(batch.label, newest[1])))
            if pending is not None:
                found.append(pending[0].outputs(pending[1]))
            pending = newest
        if pending is None:
            raise MXNetError("FeedForward.predict: the iterator gives no batches.")
        found.append(pending[0].outputs(pending[1]))
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
        eval_metric.reset()
        _score(data, lambda batch: group, eval_metric, batch_end_callback, 0, num_batch)
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

    def _make_optimizer(self, data, param_names, store, update_on_kvstore: bool) -> opt.Optimizer:
        if isinstance(self.optimizer, opt.Optimizer):
            return self.optimizer
        batch_size = data.provide_data[0][1][0]
        if store is not None and "dist" in store.type and "async" not in store.type:
            batch_size *= store.num_workers
        copies = 1 if update_on_kvstore else len(self.ctx)
        names = {i * copies + k: name for i, name in enumerate(param_names) for k in range(copies)}
        settings = {"rescale_grad": 1.0 / batch_size, "param_idx2name": names, "sym": self.symbol, **self.kwargs}
        return opt.create(self.optimizer, **settings)

    def _bind_predictor(self, data_shapes, label_shapes=()) -> DataParallelExecutorGroup:
        """A group on the first context for these shapes, with the present parameters."""
        if self.arg_params is None or self.symbol is None:
            raise BindError("FeedForward: the model has no parameters yet; fit it, load it, or give arg_params.")
        data = {name: tuple(shape) for name, shape in data_shapes}
        _check_names("predict", data, self.symbol)
        labels = [n for n in self.symbol.list_arguments() if n not in data and n not in self.arg_params]
        label_shapes = [d for d in label_shapes or () if d[0] in labels]
        wanted = [(name, tuple(shape)) for name, shape in (*data_shapes, *label_shapes)]
        if self._predictor is None or self._predictor.inputs != wanted:
            names = [n for n in self.symbol.list_arguments() if n not in data and n not in labels]
            missing = [n for n in labels if not n.endswith("label")]
            self._predictor = DataParallelExecutorGroup(self.symbol, self.ctx[:1], None, data_shapes, label_shapes,
                                                        names + missing, for_training=False)  # fmt: skip
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


def _label_name(symbol) -> str:
    """The symbol's only argument that ends in `label`, else `softmax_label`."""
    names = [n for n in symbol.list_arguments() if n.endswith("label")] if symbol is not None else []
    return names[0] if len(names) == 1 else "softmax_label"


def _check_names(who: str, given, symbol) -> None:
    arguments = symbol.list_arguments()
    for name in given:
        if name not in arguments:
            raise BindError(f"FeedForward.{who}: the data has {name!r}, which is no argument of the symbol"
                            f"{did_you_mean(name, arguments)} (its arguments: {', '.join(arguments)}).")


def _unknown(symbol, shapes) -> Sequence[str]:
    found = symbol.infer_shape_partial(**shapes)[0]
    return [n for n, s in zip(symbol.list_arguments(), found, strict=True) if not s or 0 in s]


def _to_host(arrays, pad: int) -> list[np.ndarray]:
    values = [a.asnumpy() if isinstance(a, nd.NDArray) else np.asarray(a) for a in arrays or ()]
    return [v[: len(v) - pad] for v in values]


def _joined(batches: list[list[np.ndarray]]):
    """Per-batch lists of arrays as one array for each place; the array itself if there is one place."""
    arrays = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    return arrays[0] if len(arrays) == 1 else arrays


def _log_metric(logger, epoch: int, kind: str, eval_metric) -> None:
    for name, value in eval_metric.get_name_value() if eval_metric is not None else ():
        logger.info("Epoch[%d] %s-%s=%f", epoch, kind, name, value)
