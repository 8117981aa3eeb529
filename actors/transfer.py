"""How values travel between devices: today through the host, as object refs. The one place that resolves a ref."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence

from raymx.engine.segment import Failure, Segment
from raymx.errors import DeviceLostError


def resolve(ref, callback: Callable) -> None:
    """Call `callback(value or Failure)` once when the ref's value is here; the thread goes on meanwhile.

    A ref whose process was lost gives a Failure that says so: the arrays that wait for it fail with that cause.
    """

    def arrived(future):
        error = future.exception()
        callback(future.result() if error is None else _lost(error))

    ref.future().add_done_callback(arrived)


def _lost(error: BaseException) -> Failure:
    words = f"the device that held the value was lost before the copy was done ({type(error).__name__})"
    return Failure("", -1, (0, 0), words, DeviceLostError(words + "."))


def pack(segments: Sequence[Segment]) -> tuple[bytes, list, list]:
    """Segments as bytes, the host arrays in them as buffers that need no copy, and the refs that they await.

    Plain pickle is a third of the cost of handing nested tuples to Ray.
    """
    refs = [s.awaits for s in segments if s.awaits is not None and not isinstance(s.awaits, int)]
    numbers = iter(range(len(refs)))
    plain = [
        s if s.awaits is None or isinstance(s.awaits, int) else s._replace(awaits=("ref", next(numbers)))
        for s in segments
    ]
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(plain, protocol=5, buffer_callback=buffers.append)
    return data, [b.raw() for b in buffers], refs


def unpack(data: bytes, buffers, refs) -> list[Segment]:
    """The inverse of `pack`, on the device's side."""
    segments = pickle.loads(data, buffers=buffers)
    return [s._replace(awaits=refs[s.awaits[1]]) if isinstance(s.awaits, tuple) else s for s in segments]
