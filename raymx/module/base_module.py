"""What every module is: something that computes on batches, has parameters, and can be trained."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from raymx import checkpoint as files
from raymx import metric
from raymx import ndarray as nd
from raymx.context import cpu
from raymx.errors import BindError, MXNetError, ParameterError, did_you_mean
from raymx.initializer import Uniform
from raymx.io.base import DataBatch, DataDesc
from raymx.module import loop, saving
from raymx.module.executor_group import described
from raymx.module.updates import opened

BEHIND = 8


class BaseModule:
    """Base of modules. A module goes through states: `bind` gives it memory for batches of some shapes, `init_params`
    parameters, `init_optimizer` a rule to learn by; then `forward`, `backward` and `update` may be called. `fit` does
    all of that.

    A subclass defines bind, init_params, init_optimizer, forward, backward, update, get_outputs, get_input_grads,
    update_metric, get_params and the properties. Calls return at once; whoever reads an array waits.
    """

    def __init__(self, logger=None):
        self.logger = logger or logging.getLogger("raymx")
        self.binded = self.for_training = self.inputs_need_grad = False
        self.params_initialized = self.optimizer_initialized = False
        self._symbol: Any = None

    # ---- training and using, in one call ----

    def fit(self, train_data, eval_data=None, eval_metric="acc", epoch_end_callback=None, batch_end_callback=None,
            kvstore="local", optimizer="sgd", optimizer_params=(("learning_rate", 0.01),), eval_end_callback=None,
            eval_batch_end_callback=None, initializer=Uniform(0.01), arg_params=None, aux_params=None,  # noqa: B008
            allow_missing=False, force_rebind=False, force_init=False, begin_epoch=0, num_epoch=None,
            validation_metric=None, monitor=None, sparse_row_id_fn=None, checkpoint=None,
            resume=None) -> None:  # fmt: skip
        """Bind, initialise what is not yet, and train with the batches of `train_data` from epoch `begin_epoch` to
        `num_epoch` - 1.

        - eval_data: an iterator, scored by `validation_metric` (`eval_metric` by default) after each epoch.
        - eval_metric: what `metric.create` takes; None for none. It is fed behind the device; who reads
          `param.eval_metric` in a callback waits for all batches so far.
        - epoch_end_callback(epoch, symbol, arg_params, aux_params); batch_end_callback, eval_end_callback and
          eval_batch_end_callback(BatchEndParam): a function or a list of them.
        - arg_params, aux_params, allow_missing, force_init: see `init_params`. They have no effect on a module that has
          parameters, unless `force_init`.
        - sparse_row_id_fn: taken for scripts that use it, not called: all parameters are dense.
        - checkpoint: a prefix or URL for files with the whole state of the training after each epoch; a Module's. With
          a distributed store, all workers must give the same one and have equally many batches. See
          `raymx.module.saving`.
        - resume: "auto" goes on from the newest whole state of `checkpoint`, if there is one; a number from that
          after so many epochs. There must be as many workers and shards as before. An iterator without `position` and
          `go_to` is brought to its place by `pass_over` or `reset`; seed `numpy.random` as before if it is shuffled.

        A worker of a distributed store that is started anew goes on with the step that was under way. What it does not
        know: the metric counts the batches since; callbacks are those of the script's start, and those of epochs that
        are done are not called again; with `2bit` compression it owes nothing.
        """
        if num_epoch is None:
            raise ParameterError("fit: num_epoch is missing; say how many epochs to train.")
        self.bind(data_shapes=train_data.provide_data, label_shapes=train_data.provide_label, for_training=True,
                  force_rebind=force_rebind)  # fmt: skip
        if monitor is not None:
            self.install_monitor(monitor)
        kvstore = opened(kvstore)
        saved = saving.found(checkpoint, resume, begin_epoch, num_epoch, kvstore)
        if saved is not None:
            self.init_params(None, *saved.params(), force_init=True)
        else:
            self.init_params(initializer, arg_params, aux_params, allow_missing, force_init)
        self.init_optimizer(kvstore, optimizer, optimizer_params, **({"force_init": True} if saved else {}))
        if checkpoint is not None:
            self._refuse_unsaved()
        if saved is not None:
            saved.restore(self)
        if validation_metric is None:
            validation_metric = eval_metric
        loop.train(
            self, train_data, begin_epoch, num_epoch, eval_metric=_metric(eval_metric), eval_data=eval_data,
            validation_metric=_metric(validation_metric), epoch_end_callback=epoch_end_callback,
            batch_end_callback=batch_end_callback, eval_end_callback=eval_end_callback,
            eval_batch_end_callback=eval_batch_end_callback, monitor=monitor, logger=self.logger,
            checkpoint=checkpoint, saved=saved,
        )  # fmt: skip

    def score(self, eval_data, eval_metric, num_batch=None, batch_end_callback=None, score_end_callback=None,
              reset=True, epoch=0, sparse_row_id_fn=None) -> list[tuple[str, float]]:  # fmt: skip
        """[(name, value)] of the metric over `eval_data`, or the first `num_batch` batches of it. Padding is left out
        where outputs and labels have a row per sample."""
        self._need("score", params=True)
        eval_metric = _metric(eval_metric)
        loop.score(self, eval_data, eval_metric, num_batch, batch_end_callback, score_end_callback, reset, epoch)
        return eval_metric.get_name_value()

    def iter_predict(self, eval_data, num_batch=None, reset=True, sparse_row_id_fn=None) -> Iterator[tuple]:
        """(outputs, number of the batch, batch) for each batch; outputs are NDArrays on cpu(0) without padding."""
        self._need("iter_predict", params=True)
        if reset:
            eval_data.reset()
        for outputs, nbatch, batch in loop.predictions(self, eval_data, num_batch):
            yield [nd.array(value, cpu(), value.dtype) for value in outputs], nbatch, batch

    def predict(self, eval_data, num_batch=None, merge_batches=True, reset=True, always_output_list=False,
                sparse_row_id_fn=None):  # fmt: skip
        """The outputs for `eval_data`, an iterator or an array, without padding, on cpu(0).

        Batches are joined to one NDArray, or a list of them if there are several outputs (or `always_output_list`);
        without `merge_batches` it is a list of each batch's outputs.
        """
        self._need("predict", params=True)
        if isinstance(eval_data, (nd.NDArray, np.ndarray)):
            data = eval_data if isinstance(eval_data, nd.NDArray) else nd.array(eval_data)
            self.forward(DataBatch([data]), is_train=False)
            return self.get_outputs()[0]
        if not hasattr(eval_data, "provide_data"):
            raise ParameterError(f"predict: eval_data must be a data iterator or an array, got {eval_data!r}.")
        if reset:
            eval_data.reset()
        found = [outputs for outputs, _, _ in loop.predictions(self, eval_data, num_batch)]
        if not merge_batches:
            return [[nd.array(value, cpu(), value.dtype) for value in outputs] for outputs in found]
        if len({len(outputs) for outputs in found}) > 1:
            raise MXNetError("predict: batches have different numbers of outputs, as with buckets; say "
                             "merge_batches=False.")
        joined = [np.concatenate(parts) for parts in zip(*found, strict=True)]
        merged = [nd.array(value, cpu(), value.dtype) for value in joined]
        return merged[0] if len(merged) == 1 and not always_output_list else merged

    def forward_backward(self, data_batch) -> None:
        """`forward` for training and `backward`."""
        self.forward(data_batch, is_train=True)
        self.backward()

    # ---- parameters ----

    def set_params(self, arg_params, aux_params, allow_missing=False, force_init=True, allow_extra=False) -> None:
        """Assign parameters and states; see `init_params`."""
        self.init_params(None, arg_params, aux_params, allow_missing, force_init, allow_extra)

    def save_params(self, fname) -> None:
        """Write parameters and states to a path or URL, as `arg:<name>` and `aux:<name>`."""
        arg_params, aux_params = self.get_params()
        files.write_params(fname, arg_params, aux_params)

    def load_params(self, fname) -> None:
        """Read what `save_params` or a checkpoint wrote. Raises FormatError for a file of another kind."""
        self.set_params(*files.read_params(fname))

    # ---- what a subclass defines ----

    def prepare(self, data_batch, sparse_row_id_fn=None) -> None:
        """Get ready for a batch that comes next."""

    def bind(self, data_shapes, label_shapes=None, for_training=True, inputs_need_grad=False, force_rebind=False,
             shared_module=None, grad_req="write") -> None:  # fmt: skip
        """Make memory for batches of these shapes."""
        raise self._undefined("bind")

    def init_params(self, initializer=Uniform(0.01), arg_params=None, aux_params=None,  # noqa: B008
                    allow_missing=False, force_init=False, allow_extra=False) -> None:  # fmt: skip
        """Give parameters and states their first values."""
        raise self._undefined("init_params")

    def init_optimizer(self, kvstore="local", optimizer="sgd", optimizer_params=(("learning_rate", 0.01),),
                       force_init=False) -> None:  # fmt: skip
        """Choose how parameters are updated."""
        raise self._undefined("init_optimizer")

    def forward(self, data_batch, is_train=None) -> None:
        """Compute the outputs for a batch; `is_train` is `for_training` by default."""
        raise self._undefined("forward")

    def backward(self, out_grads=None) -> None:
        """Compute the gradients; `out_grads` are those at the outputs, which losses need not."""
        raise self._undefined("backward")

    def update(self) -> None:
        """Update the parameters by the gradients."""
        raise self._undefined("update")

    def update_metric(self, eval_metric, labels, pre_sliced=False) -> None:
        """Feed the metric with the outputs and these labels."""
        raise self._undefined("update_metric")

    def get_outputs(self, merge_multi_context=True) -> list:
        """Outputs of the last forward."""
        raise self._undefined("get_outputs")

    def get_input_grads(self, merge_multi_context=True) -> list:
        """Gradients of the data in the last backward."""
        raise self._undefined("get_input_grads")

    def get_params(self) -> tuple[dict, dict]:
        """(arg_params, aux_params), dicts of NDArrays on cpu(0)."""
        raise self._undefined("get_params")

    def get_states(self, merge_multi_context=True) -> list:
        """Values of the states; there are none here."""
        return []

    def set_states(self, states=None, value=None) -> None:
        """Set the states; there are none here."""
        if states:
            raise ParameterError(f"{type(self).__name__} has no states.")

    def install_monitor(self, mon) -> None:
        """Let a Monitor watch the executors."""
        raise self._undefined("install_monitor")

    @property
    def symbol(self):
        """The symbol, if the module has one."""
        return self._symbol

    @property
    def data_names(self) -> Sequence[str]:
        """Names of the data in a batch."""
        raise self._undefined("data_names")

    @property
    def output_names(self) -> Sequence[str]:
        """Names of the outputs."""
        raise self._undefined("output_names")

    @property
    def data_shapes(self) -> Sequence:
        """[(name, shape)] of a batch's data."""
        raise self._undefined("data_shapes")

    @property
    def label_shapes(self) -> Sequence:
        """[(name, shape)] of a batch's labels, empty if it needs none."""
        raise self._undefined("label_shapes")

    @property
    def output_shapes(self) -> Sequence:
        """[(name, shape)] of the outputs."""
        raise self._undefined("output_shapes")

    # ---- for the loop ----

    def _watch(self, eval_metric, batch, pad: int = 0) -> Callable[[], Any] | None:
        """What feeds the metric with this batch, once it is called; or None, and the metric was fed at once."""
        self.update_metric(eval_metric, *_labels(batch))
        return None

    def _ahead(self, batches: Iterable) -> Iterable:
        """The same batches, perhaps taken from the iterator some way ahead."""
        return batches

    def _lag(self) -> int:
        """How many batches a metric may be fed behind the device."""
        return BEHIND

    def _fetch_outputs(self, batch) -> Callable[[], list[np.ndarray]]:
        """The outputs as they are now, on their way to this process; calling it waits for them."""
        values = nd.fetch(self.get_outputs())
        return lambda: [value.result() for value in values]

    def _refuse_unsaved(self) -> None:
        """Raise ParameterError if `fit` cannot keep the whole state of a training."""
        raise ParameterError(f"fit: checkpoint needs a Module, this is a {type(self).__name__}; use callbacks.")

    def _at_step(self) -> tuple[Any, Sequence, Sequence]:
        """For `Progress`: the store, the states that each step changes, the lanes whose random streams count."""
        return None, (), ()

    def _end_epoch(self) -> None:
        """The batches of an epoch are done."""

    # ---- for subclasses ----

    def _need(self, who: str, params: bool = False, optimizer: bool = False) -> None:
        """Raise BindError if the module is not ready for what is asked of it."""
        if not self.binded:
            raise BindError(f"{who}: the module has no memory yet; call bind() first.")
        if params and not self.params_initialized:
            raise BindError(f"{who}: the module has no parameters yet; call init_params() or set_params() first.")
        if optimizer and not self.optimizer_initialized:
            raise BindError(f"{who}: the module has no optimizer yet; call init_optimizer() first.")

    def _undefined(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} must define {what}.")


def _metric(given):
    return None if given is None else metric.create(given)


def _labels(batch) -> tuple[Any, bool]:
    """A batch's labels, and whether they come cut up for each device."""
    if isinstance(batch, list):
        return [each.label for each in batch], True
    return batch.label, False


def parse_shapes(who: str, names: Sequence[str], shapes) -> list[DataDesc]:
    """`shapes` as DataDesc, in the order in which they came; raises BindError unless they bear just these names."""
    found = described(shapes)
    given = [desc.name for desc in found]
    for name in given:
        if name not in names:
            raise BindError(f"{who} has {name!r}, which is not among the module's {', '.join(names) or '(none)'}"
                            f"{did_you_mean(name, names)}.")
    for name in names:
        if name not in given:
            raise BindError(f"{who} lacks {name!r}; got {', '.join(given) or 'nothing'}.")
    return found


def check_names(symbol, kind: str, names: Sequence[str]) -> None:
    """Raise BindError for a name that is no argument of the symbol."""
    arguments = symbol.list_arguments()
    for name in names:
        if name not in arguments:
            raise BindError(f"Module: {kind} has {name!r}, which is no argument of the symbol"
                            f"{did_you_mean(name, arguments)} (its arguments: {', '.join(arguments)}).")


def as_mapping(params) -> Mapping:
    """Optimizer parameters, which may be pairs."""
    return dict(params or ())
