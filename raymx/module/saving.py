"""Whole states of a training in files, from which it goes on as if it had never stopped.

After an epoch each worker writes its *parts*, and, when all are written, worker 0 the description of them:

- `prefix-NNNN.params`: parameters and worker 0's auxiliary states, as `Module.save_checkpoint` writes them.
- `prefix-NNNN.states`: the optimizer's states; those of each shard, where a distributed store has them, are
  `prefix-NNNN.shard0`, ….
- `prefix-NNNN.rank0`, …: what each worker has for itself: auxiliary states, random streams of its devices and of
  `numpy.random`, the iterator's position, what compressed gradients still owe.
- `prefix-NNNN.json`: sizes and hashes of all parts, the counts of the optimizer, how many workers and shards there are.

A state without its description, or whose parts are not what that says, is torn; it is never read. Nothing is unpickled
but the states of shards, whose hashes the description holds.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from raymx import checkpoint, config, faults, params, runtime, storage
from raymx import ndarray as nd
from raymx.errors import FormatError, ParameterError
from raymx.module import progress

FORMAT = 2
_COUNTS = ("num_update", "m_schedule")  # of an optimizer, where it has them
_log = logging.getLogger("raymx")


class Saved(NamedTuple):
    """A whole state, after `epoch` epochs, as worker `rank` needs it."""

    prefix: str
    epoch: int
    manifest: Mapping[str, Any]
    own: Mapping[str, np.ndarray]  # the worker's part

    def params(self) -> tuple[dict, dict]:
        """(arg_params, aux_params)."""
        return checkpoint.load_params(self.prefix, self.epoch)[0], {n: nd.array(v) for n, v in _of("aux", self.own)}

    def position(self) -> Mapping[str, np.ndarray]:
        """Where the data is; for `progress.go_to`."""
        return self.own

    def restore(self, module) -> None:
        """Give a module that has these parameters the rest. Where there are many workers, all must call it."""
        vars(module._optimizer).update(self.manifest["optimizer"])
        for lane, (_, place) in zip(module._at_step()[2], _of("stream", self.own), strict=False):
            lane.seed(place)
        store = _shared(module._at_step()[0])
        if store is None:
            module.load_optimizer_states(_path(self.prefix, self.epoch, "states"))
            return
        store.owe(dict(_of("owed", self.own)))
        mine = range(store.rank, store.num_shards, store.num_workers)
        store.load_states({shard: _read(self.prefix, self.epoch, f"shard{shard}", self.manifest) for shard in mine})
        store.barrier()


# ---- writing ----


def save(prefix, epoch: int, module, data) -> None:
    """Write the state of a module after `epoch` epochs; `data` is where the next begins. All workers call it."""
    store = _shared(module._at_step()[0])
    files = _written(prefix, epoch, module, data) if store is None else _together(prefix, epoch, module, data, store)
    if files is None:
        return
    manifest = {
        "format": FORMAT,
        "epoch": epoch,
        "job": _job(store),
        "files": files,
        "optimizer": {name: vars(module._optimizer)[name] for name in _COUNTS if name in vars(module._optimizer)},
    }
    storage.write_bytes(_path(prefix, epoch, "json"), json.dumps(manifest).encode())


def _together(prefix, epoch: int, module, data, store) -> dict[str, Any] | None:
    """Write this worker's parts while all wait; worker 0 gets the sizes and hashes of all parts, the others None.

    All of it may happen again, for a worker that was lost meanwhile: what it told is not written anew.
    """
    store.barrier()  # everybody is here, and shards have taken all that was pushed
    place, topic = (store.trainings, epoch), f"checkpoint:{store.rank}"
    told = store.told(topic)
    if told is None or told[0] != place:
        module._updates.pull()
        told = place, _written(prefix, epoch, module, data, store)
    store.tell(topic, told)
    store.barrier()  # until here nobody pushes
    faults.point("checkpoint:described")
    if store.rank != 0:
        return None
    all_told = [store.told(f"checkpoint:{rank}") for rank in range(store.num_workers)]
    absent = [rank for rank, each in enumerate(all_told) if each is None or each[0] != place]
    if absent:
        _log.warning("fit: no checkpoint after epoch %d: workers %s have ended before", epoch, absent)
        return None
    return {part: what for _, files in all_told for part, what in files.items()}


def _written(prefix, epoch: int, module, data, store=None) -> dict[str, Any]:
    """Write one worker's parts; the size and hash of each."""
    rank = 0 if store is None else store.rank
    faults.point("checkpoint:writing")
    faults.point("checkpoint:device", lambda: runtime.device_pid(module._context[0]))
    parts = {f"rank{rank}": _own(module, data, store)}
    if store is not None:
        parts |= {f"shard{s}": store.states(s) for s in range(rank, store.num_shards, store.num_workers)}
    for part, content in parts.items():
        storage.write_bytes(_path(prefix, epoch, part), content)
    if rank == 0:
        module.save_checkpoint(prefix, epoch, save_optimizer_states=store is None)
        as_usual = ("params", "states") if store is None else ("params",)
        parts |= {part: storage.read_bytes(_path(prefix, epoch, part)) for part in as_usual}
    faults.point("checkpoint:written")
    return {part: _described(content) for part, content in parts.items()}


def _own(module, data, store) -> bytes:
    streams = [nd.HostValue(lane, lane.stream()) for lane in module._at_step()[2]]
    kinds: dict[str, Mapping[Any, np.ndarray]] = {
        "aux": {name: value.asnumpy() for name, value in module.get_params()[1].items()},
        "stream": {i: value.result() for i, value in enumerate(streams)},
        "owed": {} if store is None else store.owed(),
    }
    named = {f"{kind}:{name}": value for kind, each in kinds.items() for name, value in each.items()}
    return params.dumps({**named, **progress.position(data)})


# ---- reading ----


def found(prefix, resume, begin_epoch: int, num_epoch: int, store=None) -> Saved | None:
    """The state that `fit` shall go on from; None where a note of the store says it. Where there are many workers,
    worker 0 decides. Raises ParameterError for a `resume` that cannot be, or a state of another number of workers."""
    if resume is None or resume is False:
        return None
    if prefix is None:
        raise ParameterError(f"fit: resume={resume!r} needs checkpoint, the prefix of the files to go on from.")
    number = isinstance(resume, int) and not isinstance(resume, bool)
    if not number and resume != "auto":
        raise ParameterError(f"fit: resume must be 'auto', a number of epochs or None, got {resume!r}.")
    store = _shared(store)

    def chosen() -> int | None:
        whole = read(prefix, resume) if number else newest(prefix, begin_epoch + 1, num_epoch)
        return None if whole is None else whole.epoch

    if store is None:
        epoch = chosen()
    elif progress.is_noted(store):
        return None
    else:
        epoch = store.agree(f"resume:{store.trainings}", chosen)
    if epoch is None:
        return None
    manifest = _manifest(prefix, epoch)
    _check_job(_path(prefix, epoch, "json"), manifest["job"], _job(store))
    return _saved(prefix, epoch, manifest, 0 if store is None else store.rank)


def newest(prefix, first: int, last: int) -> Saved | None:
    """The state after most epochs, at least `first` and at most `last`, that is whole; as worker 0 needs it."""
    for epoch in range(last, first - 1, -1):
        if not storage.exists(_path(prefix, epoch, "json")):
            continue
        try:
            return read(prefix, epoch)
        except (FormatError, FileNotFoundError) as error:
            _log.warning("fit: passing over a torn checkpoint: %s", error)
    return None


def read(prefix, epoch: int) -> Saved:
    """The state after `epoch` epochs, of which every part is looked at. Raises FileNotFoundError, or FormatError if it
    is torn."""
    manifest = _manifest(prefix, epoch)
    for part in manifest["files"]:
        _read(prefix, epoch, part, manifest)
    return _saved(prefix, epoch, manifest, 0)


def _saved(prefix, epoch: int, manifest: Mapping, rank: int) -> Saved:
    own: Any = params.loads(_read(prefix, epoch, f"rank{rank}", manifest), _path(prefix, epoch, f"rank{rank}"))
    return Saved(prefix, epoch, manifest, dict(own))


def _manifest(prefix, epoch: int) -> dict[str, Any]:
    path = _path(prefix, epoch, "json")
    try:
        manifest = json.loads(storage.read_bytes(path))
        if manifest["format"] != FORMAT:
            raise FormatError(f"{path}: expected format {FORMAT}, got {manifest['format']!r}.")
        if not {"rank0", "params"} <= manifest["files"].keys() or manifest["epoch"] != epoch:
            raise KeyError("files")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path}: no description of a checkpoint ({type(error).__name__}: {error}).") from error
    return manifest


def _read(prefix, epoch: int, part: str, manifest: Mapping) -> bytes:
    """A part. Raises FormatError if it is not what the description says."""
    content = storage.read_bytes(_path(prefix, epoch, part))
    expected, got = manifest["files"].get(part), _described(content)
    if got != expected:
        raise FormatError(
            f"{_path(prefix, epoch, part)}: must be {expected}, got {got}; it is torn or was written anew."
        )
    return content


# ---- the job ----


def _shared(store) -> Any:
    """The store, if there are many workers at it."""
    return store if hasattr(store, "note") else None


def _job(store) -> dict[str, int] | None:
    """What must be the same for a state to be read, where there is a distributed store."""
    if store is None:
        return None
    bound = config.get("kvstore_bigarray_bound")
    return {"workers": store.num_workers, "shards": store.num_shards, "kvstore_bigarray_bound": bound}


def _check_job(path: str, saved: Mapping | None, here: Mapping | None) -> None:
    if saved != here:
        words = [_words(each) for each in (saved, here)]
        raise ParameterError(
            f"{path}: this state is of {words[0]}, but here is {words[1]}; each worker and shard has a part of its "
            "own, so launch as many as before, or load only the parameters (Module.load)."
        )


def _words(job: Mapping | None) -> str:
    if job is None:
        return "a training without a distributed store"
    return (f"{job['workers']} workers and {job['shards']} shards (kvstore_bigarray_bound "
            f"{job['kvstore_bigarray_bound']})")  # fmt: skip


def _of(kind: str, arrays: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """(name, array) of the arrays of a kind."""
    return [(name.removeprefix(f"{kind}:"), v) for name, v in arrays.items() if name.startswith(f"{kind}:")]


def _path(prefix, epoch: int, part: str) -> str:
    return f"{prefix}-{epoch:04d}.{part}"


def _described(data: bytes) -> dict[str, Any]:
    return {"nbytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
