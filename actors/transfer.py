"""How values travel between devices: today through the host, as object refs. The one place that resolves a ref."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from raymx.engine.segment import Segment, lost


class Remote(NamedTuple):
    """A value that leaves an actor: its ref, and the device that makes it."""

    device: str
    ref: Any


def resolve(awaited: Remote, callback: Callable) -> None:
    """Call `callback(value or Failure)` once when the value is here; the thread goes on meanwhile.

    If its device was lost before, the Failure says so: the arrays that wait for the value fail with that cause.
    """

    def arrived(future):
        error = future.exception()
        if error is None:
            callback(future.result())
        else:
            callback(lost(f"{awaited.device} was lost before its value was copied ({type(error).__name__})"))

    awaited.ref.future().add_done_callback(arrived)


def pack(segments: Sequence[Segment]) -> tuple[bytes, list, list]:
    """Segments as bytes, the host arrays in them as buffers that need no copy, and the refs that they await.

    Plain pickle is a third of the cost of handing nested tuples to Ray.
    """
    refs: list[Any] = []
    plain = [s._replace(awaits=_numbered(s.awaits, refs)) if isinstance(s.awaits, Remote) else s for s in segments]
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(plain, protocol=5, buffer_callback=buffers.append)
    return data, buffers, refs


def _numbered(awaited: Remote, refs: list) -> Remote:
    """The place in `refs` instead of the ref: Ray has to see refs, and plain pickle must not."""
    refs.append(awaited.ref)
    return awaited._replace(ref=len(refs) - 1)


def unpack(data: bytes, buffers, refs) -> list[Segment]:
    """The inverse of `pack`, on the device's side."""
    segments = pickle.loads(data, buffers=buffers)
    return [
        s._replace(awaits=s.awaits._replace(ref=refs[s.awaits.ref])) if isinstance(s.awaits, Remote) else s
        for s in segments
    ]
