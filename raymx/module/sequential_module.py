"""Modules one after the other: what one puts out is the next one's data."""

from __future__ import annotations

from typing import Any

from raymx.errors import BindError, ParameterError, did_you_mean
from raymx.initializer import Uniform
from raymx.io.base import DataBatch
from raymx.module.base_module import BaseModule, _labels
from raymx.module.executor_group import described


class SequentialModule(BaseModule):
    """A chain of modules, made by `add`; parameters need different names in each."""

    META_TAKE_LABELS = "take_labels"
    META_AUTO_WIRING = "auto_wiring"

    def __init__(self, logger=None):
        super().__init__(logger)
        self._modules: list[BaseModule] = []
        self._metas: list[dict[str, Any]] = []
        self._label_shapes: Any = None

    def add(self, module: BaseModule, **kwargs) -> SequentialModule:
        """Put a module at the end; returns the chain. It must not have been bound yet.

        - take_labels: it gets the batch's labels, and is asked for metrics.
        - auto_wiring: what the module before puts out gets this one's data names.
        """
        known = (self.META_TAKE_LABELS, self.META_AUTO_WIRING)
        for key in kwargs:
            if key not in known:
                raise ParameterError(f"SequentialModule.add: unknown keyword {key!r}{did_you_mean(key, known)} "
                                     f"(known: {', '.join(known)}).")
        self._modules.append(module)
        self._metas.append(kwargs)
        self.binded = self.params_initialized = self.optimizer_initialized = False
        return self

    # ---- what it looks like ----

    @property
    def data_names(self):
        return self._modules[0].data_names if self._modules else []

    @property
    def output_names(self):
        return self._modules[-1].output_names if self._modules else []

    @property
    def data_shapes(self):
        self._need("data_shapes")
        return self._modules[0].data_shapes

    @property
    def label_shapes(self):
        self._need("label_shapes")
        return self._label_shapes

    @property
    def output_shapes(self):
        self._need("output_shapes")
        return self._modules[-1].output_shapes

    # ---- memory, parameters, optimizer ----

    def bind(self, data_shapes, label_shapes=None, for_training=True, inputs_need_grad=False, force_rebind=False,
             shared_module=None, grad_req="write") -> None:  # fmt: skip
        """Bind each module to what the one before puts out; see `Module.bind`. `label_shapes` goes to those that take
        labels."""
        if self.binded and not force_rebind:
            self.logger.warning("bind: the module is bound already; force_rebind=True binds it anew.")
            return
        if shared_module is not None:
            raise BindError("bind: a SequentialModule cannot share another module's memory.")
        if not self._modules:
            raise BindError("bind: the SequentialModule is empty; add() modules first.")
        self.for_training, self.inputs_need_grad, self._label_shapes = for_training, inputs_need_grad, None
        shapes: list = list(data_shapes)
        for number, (module, meta) in enumerate(zip(self._modules, self._metas, strict=True)):
            takes_labels = bool(meta.get(self.META_TAKE_LABELS))
            if takes_labels:
                self._label_shapes = label_shapes
            if meta.get(self.META_AUTO_WIRING):
                shapes = self._renamed(number, shapes, module.data_names)
            module.bind(shapes, label_shapes if takes_labels else None, for_training,
                        inputs_need_grad or (for_training and number > 0), force_rebind, None, grad_req)  # fmt: skip
            shapes = list(module.output_shapes)
        self.binded = True

    @staticmethod
    def _renamed(number: int, shapes, names) -> list:
        if len(shapes) != len(names):
            raise BindError(f"bind: module {number} takes {len(names)} arrays ({', '.join(names)}), "
                            f"but the one before puts out {len(shapes)}.")
        return [(name, desc.shape) for name, desc in zip(names, described(shapes), strict=True)]

    def get_params(self):
        self._need("get_params", params=True)
        arg_params: dict = {}
        aux_params: dict = {}
        for module in self._modules:
            args, auxes = module.get_params()
            arg_params.update(args)
            aux_params.update(auxes)
        return arg_params, aux_params

    def init_params(self, initializer=Uniform(0.01), arg_params=None, aux_params=None,  # noqa: B008
                    allow_missing=False, force_init=False, allow_extra=False) -> None:  # fmt: skip
        if self.params_initialized and not force_init:
            return
        self._need("init_params")
        for module in self._modules:
            module.init_params(initializer, arg_params, aux_params, allow_missing, force_init, True)
        self._check_names(arg_params, aux_params, allow_extra)
        self.params_initialized = True

    def _check_names(self, arg_params, aux_params, allow_extra: bool) -> None:
        owner: dict[str, int] = {}
        for number, module in enumerate(self._modules):
            for name in (name for params in module.get_params() for name in params):
                if name in owner:
                    raise BindError(f"init_params: modules {owner[name]} and {number} both have a parameter called "
                                    f"{name!r}; names must differ.")
                owner[name] = number
        for name in () if allow_extra else (*(arg_params or ()), *(aux_params or ())):
            if name not in owner:
                raise BindError(f"init_params: no module has a parameter called {name!r}{did_you_mean(name, owner)}; "
                                "allow_extra=True passes over such names.")

    def init_optimizer(self, kvstore="local", optimizer="sgd", optimizer_params=(("learning_rate", 0.01),),
                       force_init=False) -> None:  # fmt: skip
        self._need("init_optimizer", params=True)
        for module in self._modules:
            module.init_optimizer(kvstore, optimizer, optimizer_params, force_init)
        self.optimizer_initialized = True

    # ---- running ----

    def forward(self, data_batch, is_train=None) -> None:
        self._need("forward", params=True)
        batch = data_batch
        for module in self._modules:
            module.forward(batch, is_train)
            if module is not self._modules[-1]:
                batch = DataBatch(module.get_outputs(), getattr(data_batch, "label", None))

    def backward(self, out_grads=None) -> None:
        self._need("backward", params=True)
        for module in reversed(self._modules):
            module.backward(out_grads)
            if module is not self._modules[0]:
                out_grads = module.get_input_grads()

    def update(self) -> None:
        self._need("update", params=True, optimizer=True)
        for module in self._modules:
            module.update()

    def get_outputs(self, merge_multi_context=True):
        self._need("get_outputs", params=True)
        return self._modules[-1].get_outputs(merge_multi_context)

    def get_input_grads(self, merge_multi_context=True):
        self._need("get_input_grads", params=True)
        return self._modules[0].get_input_grads(merge_multi_context)

    def update_metric(self, eval_metric, labels, pre_sliced=False) -> None:
        self._need("update_metric", params=True)
        for module in self._judged():
            module.update_metric(eval_metric, labels, pre_sliced)

    def install_monitor(self, mon) -> None:
        self._need("install_monitor")
        for module in self._modules:
            module.install_monitor(mon)

    def _watch(self, eval_metric, batch, pad: int = 0):
        if type(self).update_metric is not SequentialModule.update_metric:
            self.update_metric(eval_metric, *_labels(batch))
            return None
        feeds = [feed for module in self._judged() if (feed := module._watch(eval_metric, batch, pad))]
        return (lambda: [feed() for feed in feeds]) if feeds else None

    def _end_epoch(self) -> None:
        for module in self._modules:
            module._end_epoch()

    def _judged(self) -> list[BaseModule]:
        """The modules that take labels."""
        pairs = zip(self._modules, self._metas, strict=True)
        return [module for module, meta in pairs if meta.get(self.META_TAKE_LABELS)]
