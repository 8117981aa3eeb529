"""The one tree of errors. Every message says who, what came, what was expected, what to do."""

from __future__ import annotations


class MXNetError(RuntimeError):
    """Base of every error that raymx raises on purpose."""


class ParameterError(MXNetError, ValueError):
    """An operator, optimizer or iterator got a parameter that is unknown, missing or out of range."""


class ShapeError(MXNetError, ValueError):
    """Shapes contradict each other or the operator's rule."""


class DTypeError(MXNetError, TypeError):
    """Element types contradict each other, or an operator does not take them."""


class ContextError(MXNetError, ValueError):
    """A device that does not exist, or arrays of several devices where one is needed."""


class BindError(MXNetError, ValueError):
    """Arguments, gradients or states handed to bind do not fit the symbol."""


class GraphError(MXNetError, ValueError):
    """A symbol that cannot be composed, found, or run."""


class FormatError(MXNetError, ValueError):
    """A file or JSON text that is damaged, truncated or of another kind."""


class DependencyError(MXNetError, ValueError):
    """A task names a variable twice, or a variable that was deleted."""


class KVStoreError(MXNetError):
    """A key that is unknown or set twice, or a store that cannot do what was asked."""


class KVStoreTimeoutError(KVStoreError, TimeoutError):
    """A store waited too long for a worker or shard; the message names it."""


class ShardLostError(KVStoreError):
    """The process of a shard is gone, and no replica has its state."""


class PlacementError(MXNetError):
    """A launched job asks for more than the cluster has to give."""


class WorkerLostError(MXNetError):
    """A worker of a launched job is gone or failed, and was not or could not be started anew."""


class TaskError(MXNetError):
    """A task failed on its device after the call that pushed it had returned."""


class DeviceError(MXNetError):
    """Something is wrong with a device as a whole."""


class DeviceStartError(DeviceError):
    """A device actor could not be started within its deadline."""


class DeviceLostError(DeviceError):
    """The process behind a device ended or stopped answering; its arrays are gone."""


class DeviceTimeoutError(DeviceError, TimeoutError):
    """A wait on another process passed its deadline."""


def did_you_mean(word: str, known) -> str:
    """`; did you mean 'x'?` for the nearest known word, else an empty string."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
