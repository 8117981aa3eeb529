"""The names of 2015 for what is now in `raymx.module`."""

from raymx.module.executor_group import DataParallelExecutorGroup, _check_arguments, _split_input_slice

__all__ = ["DataParallelExecutorGroup", "_check_arguments", "_split_input_slice"]
