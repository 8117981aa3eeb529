"""A module for each bucket of batches, all with one set of parameters and one memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raymx import checkpoint
from raymx.errors import BindError, ParameterError
from raymx.initializer import Uniform
from raymx.module.base_module import BaseModule
from raymx.module.module import Module


class BucketingModule(BaseModule):
    """Training where the network depends on the batch, as with sequences of several lengths.

    - sym_gen: a function from a bucket key to (symbol, data names, label names).
    - default_bucket_key: the key of the largest network; it is bound first, and the others use its memory.
    - The rest as for `Module`.

    Each batch says its `bucket_key`, `provide_data` and `provide_label`; a network is bound when its key comes first.
    """

    _buckets: dict[Any, Module]
    _curr_module: Any
    _curr_bucket_key: Any

    def __init__(self, sym_gen: Callable, default_bucket_key=None, logger=None, context=None, work_load_list=None,
                 fixed_param_names=None, state_names=None, group2ctxs=None, compression_params=None):  # fmt: skip
        super().__init__(logger)
        if default_bucket_key is None:
            raise ParameterError("BucketingModule: default_bucket_key is missing; give the key of the largest network.")
        self._sym_gen, self._default_bucket_key = sym_gen, default_bucket_key
        self._settings = {"logger": logger, "context": context, "work_load_list": work_load_list,
                          "fixed_param_names": fixed_param_names, "state_names": state_names,
                          "group2ctxs": group2ctxs}  # fmt: skip
        self._given: tuple[dict, dict] | None = None  # parameters of a checkpoint, for when there is memory
        self._states_file: str | None = None
        self._monitors: list = []
        self._reset_bind()

    # ---- keeping ----

    @staticmethod
    def load(prefix, epoch: int, sym_gen: Callable, default_bucket_key=None, load_optimizer_states: bool = False,
             **kwargs) -> BucketingModule:  # fmt: skip
        """The module of a checkpoint, to be bound; networks come from `sym_gen`, parameters from the file."""
        module = BucketingModule.load_dict(None, *checkpoint.load_params(prefix, epoch), sym_gen=sym_gen,
                                           default_bucket_key=default_bucket_key, **kwargs)  # fmt: skip
        if load_optimizer_states:
            module._states_file = f"{prefix}-{epoch:04d}.states"
        return module

    @staticmethod
    def load_dict(sym_dict=None, arg_params=None, aux_params=None, sym_gen=None, default_bucket_key=None,
                  **kwargs) -> BucketingModule:  # fmt: skip
        """A module with these parameters, to be bound."""
        module = BucketingModule(sym_gen, default_bucket_key, **kwargs)
        module._given = dict(arg_params or {}), dict(aux_params or {})
        module.params_initialized = True
        return module

    def save_checkpoint(self, prefix, epoch: int, save_optimizer_states: bool = False,
                        remove_amp_cast: bool = True) -> None:  # fmt: skip
        """Write the default network, the parameters and, if asked for, the optimizer's states; see `Module`."""
        self._need("save_checkpoint", params=True)
        default = self._buckets[self._default_bucket_key]
        checkpoint.save_checkpoint(prefix, epoch, default.symbol, *self.get_params())
        if save_optimizer_states:
            default.save_optimizer_states(f"{prefix}-{epoch:04d}.states")

    # ---- what it looks like ----

    @property
    def symbol(self):
        self._need("symbol")
        return self._curr_module.symbol

    @property
    def data_names(self):
        return self._curr_module.data_names if self.binded else list(self._generate(self._default_bucket_key)[1])

    @property
    def output_names(self):
        if self.binded:
            return self._curr_module.output_names
        return self._generate(self._default_bucket_key)[0].list_outputs()

    @property
    def data_shapes(self):
        self._need("data_shapes")
        return self._curr_module.data_shapes

    @property
    def label_shapes(self):
        self._need("label_shapes")
        return self._curr_module.label_shapes

    @property
    def output_shapes(self):
        self._need("output_shapes")
        return self._curr_module.output_shapes

    # ---- memory ----

    def bind(self, data_shapes, label_shapes=None, for_training=True, inputs_need_grad=False, force_rebind=False,
             shared_module=None, grad_req="write") -> None:  # fmt: skip
        """Bind the network of the default bucket key; the others follow when they are met. See `Module.bind`."""
        if shared_module is not None:
            raise BindError("bind: a BucketingModule cannot share another module's memory.")
        if self.binded and not force_rebind:
            self.logger.warning("bind: the module is bound already; force_rebind=True binds it anew.")
            return
        given = self.get_params() if self.binded and self.params_initialized else self._given
        self._reset_bind()
        self.for_training, self.inputs_need_grad, self._grad_req = for_training, inputs_need_grad, grad_req
        module = self._new_module(self._default_bucket_key)
        module.bind(data_shapes, label_shapes, for_training, inputs_need_grad, grad_req=grad_req)
        self._curr_module, self._curr_bucket_key, self.binded = module, self._default_bucket_key, True
        self._buckets[self._default_bucket_key] = module
        if given is not None:
            self.set_params(*given)
            self._given = None

    def switch_bucket(self, bucket_key, data_shapes, label_shapes=None) -> None:
        """Go over to the network of a key, which is bound to these shapes if it is new."""
        self._need("switch_bucket")
        if bucket_key not in self._buckets:
            module = self._new_module(bucket_key)
            default = self._buckets[self._default_bucket_key]
            shared = default if default.params_initialized else None
            if shared is None:
                raise BindError("switch_bucket: call init_params() first; networks share the parameters.")
            module.bind(data_shapes, label_shapes, default.for_training, default.inputs_need_grad, False, shared,
                        self._grad_req)  # fmt: skip
            for monitor in self._monitors:
                module.install_monitor(monitor)
            self._buckets[bucket_key] = module
        self._curr_module, self._curr_bucket_key = self._buckets[bucket_key], bucket_key

    def prepare(self, data_batch, sparse_row_id_fn=None) -> None:
        """Bind the network for a batch that comes next, and stay at the present one."""
        self._need("prepare")
        key = self._curr_bucket_key
        self._switch_for(data_batch)
        self._curr_module, self._curr_bucket_key = self._buckets[key], key

    def _switch_for(self, batch) -> None:
        key = batch.bucket_key if batch.bucket_key is not None else self._default_bucket_key
        if key in self._buckets:
            self._curr_module, self._curr_bucket_key = self._buckets[key], key
        else:
            self.switch_bucket(key, batch.provide_data, batch.provide_label)

    def _new_module(self, key) -> Module:
        symbol, data_names, label_names = self._generate(key)
        return Module(symbol, data_names, label_names, **self._settings)

    def _generate(self, key):
        made = self._sym_gen(key)
        if not isinstance(made, tuple) or len(made) != 3:
            raise ParameterError("BucketingModule: sym_gen must return (symbol, data names, label names), got "
                                 f"{made!r} for the key {key!r}.")
        return made

    def _reset_bind(self) -> None:
        self.binded = False
        self._buckets, self._curr_module, self._curr_bucket_key = {}, None, None

    # ---- parameters and optimizer ----

    def get_params(self):
        self._need("get_params", params=True)
        return self._buckets[self._default_bucket_key].get_params()

    def init_params(self, initializer=Uniform(0.01), arg_params=None, aux_params=None,  # noqa: B008
                    allow_missing=False, force_init=False, allow_extra=False) -> None:  # fmt: skip
        if self.params_initialized and not force_init:
            return
        self._need("init_params")
        default = self._buckets[self._default_bucket_key]
        default.init_params(initializer, arg_params, aux_params, allow_missing, force_init, allow_extra)
        self.params_initialized = True

    def init_optimizer(self, kvstore="local", optimizer="sgd", optimizer_params=(("learning_rate", 0.01),),
                       force_init=False) -> None:  # fmt: skip
        self._need("init_optimizer", params=True)
        default = self._buckets[self._default_bucket_key]
        default._states_file, self._states_file = self._states_file, None
        default.init_optimizer(kvstore, optimizer, optimizer_params, force_init)
        for module in self._buckets.values():
            if module is not default:
                module.borrow_optimizer(default)
        self.optimizer_initialized = True

    def get_states(self, merge_multi_context=True):
        self._need("get_states", params=True)
        return self._curr_module.get_states(merge_multi_context)

    def set_states(self, states=None, value=None) -> None:
        self._need("set_states", params=True)
        self._curr_module.set_states(states, value)

    # ---- running ----

    def forward(self, data_batch, is_train=None) -> None:
        self._need("forward", params=True)
        self._switch_for(data_batch)
        self._curr_module.forward(data_batch, is_train)

    def backward(self, out_grads=None) -> None:
        self._need("backward", params=True)
        self._curr_module.backward(out_grads)

    def update(self) -> None:
        self._need("update", params=True, optimizer=True)
        self._curr_module.update()

    def get_outputs(self, merge_multi_context=True):
        self._need("get_outputs", params=True)
        return self._curr_module.get_outputs(merge_multi_context)

    def get_input_grads(self, merge_multi_context=True):
        self._need("get_input_grads", params=True)
        return self._curr_module.get_input_grads(merge_multi_context)

    def update_metric(self, eval_metric, labels, pre_sliced=False) -> None:
        self._need("update_metric", params=True)
        self._curr_module.update_metric(eval_metric, labels, pre_sliced)

    def install_monitor(self, mon) -> None:
        self._need("install_monitor")
        self._monitors.append(mon)
        for module in self._buckets.values():
            module.install_monitor(mon)

    def _at_step(self):
        return self._buckets[self._default_bucket_key]._at_step()

    def _watch(self, eval_metric, batch, pad: int = 0):
        return self._curr_module._watch(eval_metric, batch, pad)

    def _end_epoch(self) -> None:
        self._buckets[self._default_bucket_key]._end_epoch()
