"""The names of 2015 for what is in `raymx.module`, for scripts with a training loop of their own."""

from __future__ import annotations

from typing import Any

from raymx.module.bucketing_module import BucketingModule
from raymx.module.executor_group import DataParallelExecutorGroup, _check_arguments, _split_input_slice
from raymx.module.module import Module

__all__ = ["DataParallelExecutorGroup", "DataParallelExecutorManager", "_check_arguments", "_split_input_slice"]


class DataParallelExecutorManager:
    """A symbol on several devices that share the batches of `train_data`.

    - sym_gen: a function from a bucket key to the symbol, for iterators whose batches have one; `symbol` is then that
      of the default key.
    - The names of arguments, parameters and states follow from the symbol; `arg_names`, `param_names` and `aux_names`
      are taken for scripts that give them.

    For each batch: `load_data_batch`, `forward`, `backward`, an update of `param_arrays` by `grad_arrays` (for each
    parameter a list with the array of every device), `update_metric`.
    """

    def __init__(self, symbol, ctx, train_data, arg_names=None, param_names=None, aux_names=None, work_load_list=None,
                 logger=None, sym_gen=None):  # fmt: skip
        names = [d[0] for d in train_data.provide_data]
        labels = [d[0] for d in train_data.provide_label or ()]
        settings: dict[str, Any] = {"logger": logger, "context": ctx, "work_load_list": work_load_list}
        if sym_gen is None:
            self._module: Any = Module(symbol, names, labels, **settings)
        else:
            key = train_data.default_bucket_key
            self._module = BucketingModule(lambda key: (sym_gen(key), names, labels), key, **settings)
        self._module.bind(train_data.provide_data, train_data.provide_label)
        self._batch: Any = None

    def install_monitor(self, monitor) -> None:
        """Let a Monitor watch the executors."""
        self._module.install_monitor(monitor)

    def set_params(self, arg_params, aux_params) -> None:
        """Copy values to every device; names that the symbol does not have are passed over."""
        self._module.set_params(arg_params, aux_params, allow_extra=True)

    def copy_to(self, arg_params: dict, aux_params: dict) -> None:
        """Copy values out, into the arrays of these dicts; states averaged over devices."""
        self._main.get_params(arg_params, aux_params)

    @property
    def param_arrays(self) -> list:
        """The parameters, each a list with the array of every device."""
        return self._main.param_arrays

    @property
    def grad_arrays(self) -> list:
        """Their gradients, likewise."""
        return self._main.grad_arrays

    @property
    def aux_arrays(self) -> list:
        """The states, likewise."""
        return self._main.aux_arrays

    def load_data_batch(self, data_batch) -> None:
        """Say which batch comes next."""
        self._batch = data_batch

    def forward(self, is_train: bool = False) -> None:
        """Compute the outputs for the batch."""
        self._module.forward(self._batch, is_train)

    def backward(self) -> None:
        """Compute the gradients."""
        self._module.backward()

    def update_metric(self, metric, labels) -> None:
        """Feed the metric with the outputs and these labels."""
        self._module.update_metric(metric, labels)

    @property
    def _main(self) -> DataParallelExecutorGroup:
        if isinstance(self._module, BucketingModule):
            return self._module._buckets[self._module._default_bucket_key]._main
        return self._module._main
