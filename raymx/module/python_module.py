"""Modules written in Python: no symbol, no parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raymx import ndarray as nd
from raymx.errors import BindError, ParameterError
from raymx.initializer import Uniform
from raymx.module.base_module import BaseModule, parse_shapes
from raymx.module.executor_group import described


class PythonModule(BaseModule):
    """Base of modules without parameters. A subclass defines forward, backward, get_outputs, get_input_grads and
    `_compute_output_shapes`."""

    def __init__(self, data_names, label_names, output_names, logger=None):
        super().__init__(logger)
        self._data_names, self._label_names = list(data_names), list(label_names or ())
        self._output_names = list(output_names)
        self._data_shapes: Any = None
        self._label_shapes: Any = None
        self._output_shapes: Any = None

    @property
    def data_names(self):
        return self._data_names

    @property
    def output_names(self):
        return self._output_names

    @property
    def data_shapes(self):
        return self._data_shapes

    @property
    def label_shapes(self):
        return self._label_shapes

    @property
    def output_shapes(self):
        return self._output_shapes

    def bind(self, data_shapes, label_shapes=None, for_training=True, inputs_need_grad=False, force_rebind=False,
             shared_module=None, grad_req="write") -> None:  # fmt: skip
        """Note the shapes; there is no memory to be made."""
        if self.binded and not force_rebind:
            self.logger.warning("bind: the module is bound already; force_rebind=True binds it anew.")
            return
        if grad_req != "write":
            raise BindError(f"bind: a PythonModule writes gradients, so grad_req must be 'write', got {grad_req!r}.")
        self.for_training, self.inputs_need_grad = for_training, inputs_need_grad
        self._data_shapes = parse_shapes("bind: data_shapes", self._data_names, data_shapes)
        self._label_shapes = described(label_shapes) if label_shapes is not None else None
        if self._label_shapes:
            parse_shapes("bind: label_shapes", self._label_names, self._label_shapes)
        self._output_shapes = self._compute_output_shapes()
        self.binded = True

    def get_params(self):
        return {}, {}

    def init_params(self, initializer=Uniform(0.01), arg_params=None, aux_params=None,  # noqa: B008
                    allow_missing=False, force_init=False, allow_extra=False) -> None:  # fmt: skip
        self.params_initialized = True

    def init_optimizer(self, kvstore="local", optimizer="sgd", optimizer_params=(("learning_rate", 0.01),),
                       force_init=False) -> None:  # fmt: skip
        self.optimizer_initialized = True

    def update(self) -> None:
        """Nothing: there are no parameters."""

    def update_metric(self, eval_metric, labels, pre_sliced=False) -> None:
        """Feed the metric with the outputs, if the module was bound with labels."""
        if self._label_shapes is None:
            return
        if pre_sliced:
            raise ParameterError(f"{type(self).__name__} takes labels of the whole batch only.")
        eval_metric.update(labels, self.get_outputs())

    def install_monitor(self, mon) -> None:
        """Nothing: there is no executor."""

    def _compute_output_shapes(self):
        """[(name, shape)] of the outputs, from `data_shapes` and `label_shapes`."""
        raise self._undefined("_compute_output_shapes")


class PythonLossModule(PythonModule):
    """A loss at the end of a chain: its output is its data, and `grad_func(scores, labels)` gives the gradient as an
    NDArray or NumPy array. A subclass may define `_backward_impl` instead, which sets `_scores_grad`."""

    def __init__(self, name="pyloss", data_names=("data",), label_names=("softmax_label",), logger=None,
                 grad_func: Callable | None = None):  # fmt: skip
        super().__init__(data_names, label_names, [f"{name}_output"], logger)
        if len(self._data_names) != 1 or len(self._label_names) != 1:
            raise ParameterError("PythonLossModule: needs one data name and one label name, got "
                                 f"{self._data_names} and {self._label_names}.")
        if grad_func is not None and not callable(grad_func):
            raise ParameterError(f"PythonLossModule: grad_func must be a function, got {grad_func!r}.")
        self._name, self._grad_func = name, grad_func
        self._scores: Any = None
        self._labels: Any = None
        self._scores_grad: Any = None

    def forward(self, data_batch, is_train=None) -> None:
        self._scores = data_batch.data[0]
        if self.for_training if is_train is None else is_train:
            self._labels = data_batch.label[0]

    def backward(self, out_grads=None) -> None:
        if out_grads is not None:
            raise ParameterError("PythonLossModule.backward: a loss takes no out_grads.")
        if not self.for_training:
            raise BindError("backward: the module was bound with for_training=False.")
        self._backward_impl()

    def get_outputs(self, merge_multi_context=True):
        self._refuse_unmerged(merge_multi_context)
        return [self._scores]

    def get_input_grads(self, merge_multi_context=True):
        self._refuse_unmerged(merge_multi_context)
        return [self._scores_grad]

    def _backward_impl(self) -> None:
        if self._grad_func is None:
            raise self._undefined("_backward_impl, or be given grad_func")
        grad = self._grad_func(self._scores, self._labels)
        self._scores_grad = grad if isinstance(grad, nd.NDArray) else nd.array(grad)

    def _compute_output_shapes(self):
        return [(f"{self._name}_output", self._data_shapes[0].shape)]

    @staticmethod
    def _refuse_unmerged(merge_multi_context: bool) -> None:
        if not merge_multi_context:
            raise ParameterError("PythonLossModule has one output for all devices: merge_multi_context must be True.")
