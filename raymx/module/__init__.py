"""Modules: symbols with memory, parameters and an optimizer, to train and to use."""

from raymx.module.base_module import BaseModule
from raymx.module.bucketing_module import BucketingModule
from raymx.module.executor_group import DataParallelExecutorGroup
from raymx.module.module import Module
from raymx.module.python_module import PythonLossModule, PythonModule
from raymx.module.sequential_module import SequentialModule

__all__ = [
    "BaseModule", "BucketingModule", "DataParallelExecutorGroup", "Module", "PythonLossModule", "PythonModule",
    "SequentialModule",
]  # fmt: skip
