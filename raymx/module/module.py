"""One symbol on one or several devices, with parameters and an optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from raymx import checkpoint
from raymx import ndarray as nd
from raymx.context import Context, cpu, current_context
from raymx.errors import BindError, did_you_mean
from raymx.initializer import InitDesc, Initializer, Uniform
from raymx.io.base import DataDesc
from raymx.module.ahead import Convoy, SentBatch, together
from raymx.module.base_module import BaseModule, as_mapping, check_names, parse_shapes
from raymx.module.executor_group import DataParallelExecutorGroup, Snapshot, described
from raymx.module.updates import Updates, create_kvstore, make_optimizer

_SHAPES_KEPT = 32  # executors for so many shapes of batches


class Module(BaseModule):
    """A symbol, bound on every context, that shares each batch.

    - data_names, label_names: the arguments that a batch brings; None for none. Labels that the symbol does not have
      are left out.
    - context: a context or a list of them, the current one by default. work_load_list: a weight for each, by which a
      batch is cut.
    - fixed_param_names: parameters that are not learnt. state_names: arguments that are neither given with a batch nor
      learnt, see `set_states`.
    - group2ctxs: contexts by `ctx_group` for each context.
    - compression_params: taken for scripts that use it; gradients travel as they are.

    Batches of other shapes than were bound get executors of their own, on the same memory, which are kept. Raises
    BindError for names that the symbol does not have.
    """

    _groups: dict[tuple, DataParallelExecutorGroup]  # by the shapes of a batch
    _main: Any  # the first of them, whose arrays are updated
    _group: Any  # the one in use
    _data_shapes: list[DataDesc]
    _label_shapes: list[DataDesc]
    _params_owner: Module  # whose `_params_dirty` counts

    def __init__(self, symbol, data_names=("data",), label_names=("softmax_label",), logger=None, context=None,
                 work_load_list=None, fixed_param_names=None, state_names=None, group2ctxs=None,
                 compression_params=None):  # fmt: skip
        super().__init__(logger)
        self._symbol, self._context = symbol, _contexts(context)
        self._work_load_list, self._group2ctxs = work_load_list, group2ctxs
        arguments = symbol.list_arguments()
        self._data_names = list(data_names or ())
        self._label_names = [name for name in label_names or () if name in arguments]
        self._state_names, self._fixed_param_names = list(state_names or ()), list(fixed_param_names or ())
        check_names(symbol, "data_names", self._data_names)
        check_names(symbol, "state_names", self._state_names)
        check_names(symbol, "fixed_param_names", self._fixed_param_names)
        given = {*self._data_names, *self._label_names, *self._state_names}
        self._param_names = [name for name in arguments if name not in given]
        self._aux_names, self._output_names = symbol.list_auxiliary_states(), symbol.list_outputs()
        self._arg_params: Any = None  # dicts of arrays on cpu(0), None = no values yet
        self._aux_params: Any = None
        self._params_dirty = False  # whether the devices have newer ones
        self._updates: Updates | None = None
        self._kvstore: Any = None
        self._update_on_kvstore = False
        self._states_file = None  # optimizer states to be read when there is an optimizer
        self._monitors: list = []
        self._convoy: Convoy | None = None
        self._reset_bind()

    # ---- keeping ----

    @staticmethod
    def load(prefix, epoch: int, load_optimizer_states: bool = False, **kwargs) -> Module:
        """The module of a checkpoint, to be bound; `kwargs` as in the constructor. Its parameters are those of the
        file, and so are the optimizer's states with `load_optimizer_states`."""
        symbol, arg_params, aux_params = checkpoint.load_checkpoint(prefix, epoch)
        module = Module.load_dict(symbol, arg_params, aux_params, **kwargs)
        if load_optimizer_states:
            module._states_file = f"{prefix}-{epoch:04d}.states"
        return module

    @staticmethod
    def load_dict(sym_dict, arg_params, aux_params, **kwargs) -> Module:
        """A module of a symbol and its parameters, to be bound."""
        module = Module(sym_dict, **kwargs)
        module._arg_params, module._aux_params = dict(arg_params or {}), dict(aux_params or {})
        module.params_initialized = True
        return module

    def save_checkpoint(self, prefix, epoch: int, save_optimizer_states: bool = False,
                        remove_amp_cast: bool = True) -> None:  # fmt: skip
        """Write `prefix-symbol.json`, `prefix-NNNN.params` and, if asked for, `prefix-NNNN.states`."""
        checkpoint.save_checkpoint(prefix, epoch, self._symbol, *self.get_params())
        if save_optimizer_states:
            self.save_optimizer_states(f"{prefix}-{epoch:04d}.states")

    def save_optimizer_states(self, fname) -> None:
        """Write the optimizer's states to a path or URL; any number of devices and any store can go on from them."""
        self._need("save_optimizer_states", optimizer=True)
        self._updates.save_states(fname)  # type: ignore[union-attr]

    def load_optimizer_states(self, fname) -> None:
        """Read what `save_optimizer_states` wrote. Raises FormatError for a file of another kind."""
        self._need("load_optimizer_states", optimizer=True)
        self._updates.load_states(fname)  # type: ignore[union-attr]

    # ---- what it looks like ----

    @property
    def data_names(self):
        return self._data_names

    @property
    def label_names(self):
        """Names of the labels in a batch."""
        return self._label_names

    @property
    def output_names(self):
        return self._output_names

    @property
    def data_shapes(self):
        self._need("data_shapes")
        return self._data_shapes

    @property
    def label_shapes(self):
        self._need("label_shapes")
        return self._label_shapes

    @property
    def output_shapes(self):
        self._need("output_shapes")
        return self._group.output_shapes()

    # ---- memory ----

    def bind(self, data_shapes, label_shapes=None, for_training=True, inputs_need_grad=False, force_rebind=False,
             shared_module=None, grad_req="write") -> None:  # fmt: skip
        """Make executors for batches of these shapes.

        - data_shapes, label_shapes: lists of (name, shape) or DataDesc, whose layout says which axis is the batch.
        - for_training: whether there will be gradients of the parameters; inputs_need_grad: also of the data.
        - shared_module: a bound module whose memory, parameters included, is used as well.
        - grad_req: "write", "add" or "null", as a word, a list or a dict.

        A module that is bound stays as it is, unless `force_rebind`; its parameters and optimizer stay in any case.
        """
        if self.binded and not force_rebind:
            self.logger.warning("bind: the module is bound already; force_rebind=True binds it anew.")
            return
        if inputs_need_grad and not for_training:
            raise BindError("bind: inputs_need_grad=True needs for_training=True.")
        if self.binded and self.params_initialized:
            self._sync_params()
        self._reset_bind()
        self.for_training, self.inputs_need_grad, self._grad_req = for_training, inputs_need_grad, grad_req
        data, labels = self._parsed(data_shapes, label_shapes)
        shared = None
        if shared_module is not None:
            shared_module._need("bind: shared_module", params=True)
            shared = shared_module._group
        self._main = self._group_for(data, labels, shared)
        self._use(self._main)
        self.binded = True
        if shared_module is not None:
            self.params_initialized = True
            self._arg_params, self._aux_params = shared_module._arg_params, shared_module._aux_params
            self._params_owner = shared_module._params_owner
        elif self.params_initialized:
            self._main.set_params(self._arg_params or {}, self._aux_params or {}, allow_extra=True)
        if self._updates is not None and shared_module is None:
            self._updates.move_to(self._main)
        if shared_module is not None and shared_module.optimizer_initialized:
            self.borrow_optimizer(shared_module)

    def reshape(self, data_shapes, label_shapes=None) -> None:
        """Go on with batches of other shapes, on the same memory; parameters and optimizer stay."""
        self._need("reshape")
        self._use(self._group_for(*self._parsed(data_shapes, label_shapes), self._main))

    def _parsed(self, data_shapes, label_shapes) -> tuple[list[DataDesc], list[DataDesc]]:
        data = parse_shapes("bind: data_shapes", self._data_names, data_shapes)
        labels = described(label_shapes)
        if labels and self.for_training:
            names = [desc.name for desc in labels]
            missing = [name for name in self._label_names if name not in names]
            if missing:
                raise BindError(f"bind: label_shapes lacks {missing[0]!r}; got {', '.join(names)}. An iterator's "
                                "label_name and the module's label_names must agree.")
        return data, labels

    def _group_for(self, data, labels, shared) -> DataParallelExecutorGroup:
        key = tuple((d.name, d.shape, np.dtype(d.dtype).name, d.layout) for d in (*data, *labels))
        if key not in self._groups:
            if len(self._groups) >= _SHAPES_KEPT:
                self._groups = {k: g for k, g in self._groups.items() if g is self._main}
            self._groups[key] = group = DataParallelExecutorGroup(
                self._symbol, self._context, self._work_load_list, data, labels, self._param_names, self.for_training,
                self.inputs_need_grad, shared, self.logger, self._fixed_param_names, self._grad_req, self._state_names,
                self._group2ctxs,
            )  # fmt: skip
            for monitor in self._monitors:
                group.install_monitor(monitor)
        return self._groups[key]

    def _use(self, group: DataParallelExecutorGroup) -> None:
        self._group = group
        self._data_shapes, self._label_shapes = group.data_shapes, group.label_shapes
        self._expected = [desc.shape for desc in self._data_shapes], [desc.shape for desc in self._label_shapes]

    def _reset_bind(self) -> None:
        self.binded = False
        self._groups, self._main, self._group = {}, None, None
        self._data_shapes, self._label_shapes = [], []
        self._params_owner = self

    @property
    def _exec_group(self) -> DataParallelExecutorGroup:
        return self._group

    @property
    def _total_exec_bytes(self) -> int:
        return sum(group.nbytes for group in self._groups.values())

    # ---- parameters ----

    def get_params(self) -> tuple[dict[str, nd.NDArray], dict[str, nd.NDArray]]:
        """(arg_params, aux_params) on cpu(0), as they are now."""
        self._need("get_params", params=True)
        self._sync_params()
        return self._arg_params or {}, self._aux_params or {}

    def init_params(self, initializer=Uniform(0.01), arg_params=None, aux_params=None,  # noqa: B008
                    allow_missing=False, force_init=False, allow_extra=False) -> None:  # fmt: skip
        """Give parameters and states their first values, or new ones with `force_init`.

        - arg_params, aux_params: values by name. Where they are given, a name that they lack is an error unless
          `allow_missing`; it then gets a value from the initializer, or keeps what it has if that is None.
        - initializer: called as `f(InitDesc(name, attributes), array)`; a variable's own `init` comes first.
        - allow_extra: pass over names that the symbol does not have.

        Raises BindError for names that are missing or unknown and for values of another shape.
        """
        if self.params_initialized and not force_init:
            return
        if not self.binded:
            raise BindError("init_params: call bind() first.")
        if self.params_initialized:
            self._sync_params()
        elif self._arg_params is None:
            self._arg_params = _zeros(self._param_names, self._main.param_arrays)
            self._aux_params = _zeros(self._aux_names, self._main.aux_arrays)
        attrs = self._symbol.attr_dict()
        for kind, own, given in (
            ("parameter", self._arg_params, arg_params),
            ("auxiliary state", self._aux_params, aux_params),
        ):
            if not allow_extra:
                _check_known(kind, given or {}, own or {})
            for name, array in sorted((own or {}).items()):
                _first_value(kind, name, array, given, initializer, allow_missing, attrs.get(name))
        self._main.set_params(self._arg_params or {}, self._aux_params or {})
        self.params_initialized = True
        self._params_owner._params_dirty = False

    def _sync_params(self) -> None:
        """Take over what the devices have learnt."""
        if self.binded and self._params_owner._params_dirty:
            self._main.get_params(self._arg_params, self._aux_params)
            self._params_owner._params_dirty = False

    def _refuse_unsaved(self) -> None:
        """Nothing is refused."""

    def _at_step(self) -> tuple[Any, Sequence, Sequence]:
        states = [array for arrays in self._main.aux_arrays for array in arrays]
        return self._kvstore, states, self._main.random_lanes

    def _end_epoch(self) -> None:
        """States of several devices become their average."""
        if len(self._context) > 1 and self._aux_names:
            self._main.set_params(*self.get_params())

    # ---- the optimizer ----

    def init_optimizer(self, kvstore="local", optimizer="sgd", optimizer_params=(("learning_rate", 0.01),),
                       force_init=False) -> None:  # fmt: skip
        """Choose how parameters are updated.

        - kvstore: a type, a KVStore or None. One device and no `dist` uses none; `local` is `local_update_cpu`, or
          `local_allreduce_cpu` if an array has 16 M elements.
        - optimizer: a name, to which `optimizer_params` and `rescale_grad` = 1 / batch size go, or an Optimizer.
        """
        self._need("init_optimizer", params=True)
        if self.optimizer_initialized and not force_init:
            self.logger.warning("init_optimizer: there is an optimizer already; force_init=True takes a new one.")
            return
        self._sync_params()
        store, in_store = create_kvstore(kvstore, len(self._context), self._arg_params or {})
        copies = 1 if in_store else len(self._context)
        rule = make_optimizer(optimizer, self._main, store, copies, as_mapping(optimizer_params))
        self._optimizer, self._kvstore, self._update_on_kvstore = rule, store, in_store
        self._updates = Updates(self._main, rule, store, in_store, private=store is not kvstore)
        self._params_owner._params_dirty |= in_store  # a store of several workers has the first one's
        self.optimizer_initialized = True
        if self._states_file is not None:
            self.load_optimizer_states(self._states_file)
            self._states_file = None

    def borrow_optimizer(self, shared_module: Module) -> None:
        """Update with another module's optimizer, which shares this one's parameters."""
        shared_module._need("borrow_optimizer", optimizer=True)
        self._optimizer, self._updates = shared_module._optimizer, shared_module._updates
        self._kvstore, self._update_on_kvstore = shared_module._kvstore, shared_module._update_on_kvstore
        self.optimizer_initialized = True

    @property
    def _updater(self):
        return None if self._updates is None or self._update_on_kvstore else self._updates.updater

    # ---- running ----

    def forward(self, data_batch, is_train=None) -> None:
        """Compute the outputs, without waiting.

        - data_batch: a DataBatch, or anything with a list `data` and perhaps one of labels, `label`; or a list with one
          for each device.

        Batches of other shapes are taken; the next ones may have any shape again.
        """
        self._need("forward", params=True)
        if isinstance(data_batch, list):
            self._fit_shapes(_whole(data_batch, [d.shape for d in self._data_shapes]), None, data_batch[0])
            self._group.load_slices(data_batch)
        elif isinstance(data_batch, SentBatch) and data_batch.trip.group is self._main:
            self._use(self._main)
            self._group.load_slices(data_batch.parts)
        else:
            labels = getattr(data_batch, "label", None)
            self._fit_shapes([x.shape for x in data_batch.data], [x.shape for x in labels or ()], data_batch)
            self._group.load(data_batch.data, labels if self._label_shapes else None)
        is_train = self.for_training if is_train is None else is_train
        if is_train and self._aux_names:
            self._params_owner._params_dirty = True
        self._group.forward(is_train)

    def backward(self, out_grads=None) -> None:
        self._need("backward", params=True)
        if not self.for_training:
            raise BindError("backward: the module was bound with for_training=False.")
        self._group.backward(out_grads)

    def update(self) -> None:
        """Push one update of the parameters by the gradients of the last backward."""
        self._need("update", params=True, optimizer=True)
        self._params_owner._params_dirty = True
        self._updates()  # type: ignore[misc]

    def get_outputs(self, merge_multi_context=True) -> list:
        """Outputs of the last forward: NDArrays of the whole batch, on the first context; without
        `merge_multi_context` a list of each device's for every output."""
        self._need("get_outputs", params=True)
        return self._group.get_outputs(merge_multi_context)

    def get_input_grads(self, merge_multi_context=True) -> list:
        """Gradients of the data, in the order of `data_shapes`; as `get_outputs`."""
        self._need("get_input_grads", params=True)
        return self._group.get_input_grads(merge_multi_context)

    def get_states(self, merge_multi_context=True) -> list:
        """The values of `state_names`, as `get_outputs`."""
        self._need("get_states", params=True)
        return self._group.get_states(merge_multi_context)

    def set_states(self, states=None, value=None) -> None:
        """Set the states: as `get_states` or `get_outputs` gave them, not merged; or all to a number."""
        self._need("set_states", params=True)
        self._group.set_states(states, value)

    def update_metric(self, eval_metric, labels, pre_sliced=False) -> None:
        """Feed the metric with the outputs and these labels; waits for them."""
        self._group.snapshot(labels, pre_sliced).feed(eval_metric)

    def _watch(self, eval_metric, batch, pad: int = 0) -> Callable[[], Any] | None:
        if type(self).update_metric is not Module.update_metric:
            return super()._watch(eval_metric, batch, pad)
        if isinstance(batch, list):
            snapshot = self._group.snapshot([each.label for each in batch], pre_sliced=True)
        elif isinstance(batch, SentBatch):
            snapshot = Snapshot(self._group, batch.host_label, batch.outputs())
        else:
            snapshot = self._group.snapshot(batch.label)
        return partial(snapshot.feed, eval_metric, pad)

    def _ahead(self, batches: Iterable) -> Iterable:
        count = together(self._main)
        if count < 2:
            return batches
        if self._convoy is None or self._convoy.group is not self._main:
            self._convoy = Convoy(self._main, count)
        return self._convoy(batches)

    def _lag(self) -> int:
        return super()._lag() if self._convoy is None else 2 * self._convoy.count

    def _fetch_outputs(self, batch) -> Callable[[], list[np.ndarray]]:
        if isinstance(batch, SentBatch):
            return batch.outputs().result
        return self._group.snapshot(None).outputs

    def install_monitor(self, mon) -> None:
        """Let a Monitor watch every executor, those for shapes to come as well."""
        self._need("install_monitor")
        self._monitors.append(mon)
        for group in self._groups.values():
            group.install_monitor(mon)

    def _fit_shapes(self, data: Sequence, labels: Sequence | None, batch) -> None:
        """Go over to executors for a batch of these shapes, if it has others than the last."""
        expected, expected_labels = self._expected
        if len(data) != len(expected):
            return  # refused when it is loaded
        if data == expected and (not labels or labels == expected_labels or len(labels) != len(expected_labels)):
            return
        if getattr(batch, "provide_data", None):
            self.reshape(batch.provide_data, getattr(batch, "provide_label", None))
            return
        described_data = _with_shapes(self._data_shapes, data)
        if labels and len(labels) == len(self._label_shapes):
            described_labels = _with_shapes(self._label_shapes, labels)
        else:
            described_labels = self._resized_labels(data)
        self.reshape(described_data, described_labels)

    def _resized_labels(self, data: Sequence) -> list[DataDesc]:
        """Label shapes for a batch without labels: as before, with as many samples as the data has."""
        axis = max(0, DataDesc.get_batch_axis(self._data_shapes[0].layout))
        found = []
        for desc in self._label_shapes:
            shape = list(desc.shape)
            shape[max(0, DataDesc.get_batch_axis(desc.layout))] = data[0][axis]
            found.append(tuple(shape))
        return _with_shapes(self._label_shapes, found)


def _contexts(context) -> list[Context]:
    if context is None:
        return [current_context()]
    return [context] if isinstance(context, Context) else list(context)


def _zeros(names: Sequence[str], arrays: Sequence) -> dict[str, nd.NDArray]:
    return {n: nd.zeros(each[0].shape, cpu(), each[0].dtype) for n, each in zip(names, arrays, strict=True)}


def _first_value(kind: str, name: str, array, given: Mapping | None, initializer, allow_missing: bool, attrs) -> None:
    value = None if given is None else given.get(name)
    if value is not None:
        if value.shape != array.shape:
            raise BindError(f"the {kind} {name!r} must have shape {array.shape} here, the given value has "
                            f"{value.shape}.")
        if value is not array:
            value.copyto(array)
    elif given is not None and not allow_missing:
        raise BindError(f"no value for the {kind} {name!r}{did_you_mean(name, given)}; give one, or say "
                        "allow_missing=True to have it initialized.")
    elif initializer is not None:
        initializer(InitDesc(name, attrs, initializer if isinstance(initializer, Initializer) else None), array)


def _check_known(kind: str, given: Mapping, known: Mapping) -> None:
    for name in given:
        if name not in known:
            raise BindError(f"{name!r} is no {kind} of the symbol{did_you_mean(name, known)}; allow_extra=True passes "
                            "over such names.")


def _with_shapes(descs: Sequence[DataDesc], shapes: Sequence) -> list[DataDesc]:
    return [DataDesc(desc.name, shape, desc.dtype, desc.layout) for desc, shape in zip(descs, shapes, strict=True)]


def _whole(batches: list, expected: Sequence) -> list:
    """Shapes of the batch that comes in these parts, of equal sizes."""
    first = [x.shape for x in batches[0].data]
    for batch in batches:
        if [x.shape for x in batch.data] != first:
            raise BindError("forward: the parts of a batch for several devices must have equal shapes.")
    return [(len(batches) * shape[0], *shape[1:]) for shape in first]
