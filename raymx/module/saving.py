"""Whole states of a training in files, from which it goes on as if it had never stopped.

After an epoch: `prefix-NNNN.params` and `prefix-NNNN.states`, as `Module.save_checkpoint` writes them, and last
`prefix-NNNN.json` with the sizes and hashes of both, the counts of the optimizer and the random streams of the devices.
A state without that file, or whose parts are not what it says, is torn; it is never read.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from raymx import checkpoint, storage
from raymx import ndarray as nd
from raymx.errors import FormatError, ParameterError

FORMAT = 1
_PARTS = ("params", "states")
_COUNTS = ("num_update", "m_schedule")  # of an optimizer, where it has them


class Saved(NamedTuple):
    """A whole state, after `epoch` epochs."""

    prefix: str
    epoch: int
    manifest: Mapping[str, Any]

    def params(self) -> tuple[dict, dict]:
        """(arg_params, aux_params)."""
        return checkpoint.load_params(self.prefix, self.epoch)

    def restore(self, module) -> None:
        """Give a module that has these parameters the rest."""
        module.load_optimizer_states(_path(self.prefix, self.epoch, "states"))
        vars(module._optimizer).update(self.manifest["optimizer"])
        lanes = module._at_step()[2]
        for lane, place in zip(lanes, self.manifest["streams"], strict=False):
            lane.seed(np.frombuffer(place.encode(), np.uint8))


def save(prefix, epoch: int, module) -> None:
    """Write the state of a module after `epoch` epochs."""
    module.save_checkpoint(prefix, epoch, save_optimizer_states=True)
    streams = [nd.HostValue(lane, lane.stream()) for lane in module._at_step()[2]]
    manifest = {
        "format": FORMAT,
        "epoch": epoch,
        "files": {part: _described(storage.read_bytes(_path(prefix, epoch, part))) for part in _PARTS},
        "optimizer": {name: vars(module._optimizer)[name] for name in _COUNTS if name in vars(module._optimizer)},
        "streams": [place.result().tobytes().decode() for place in streams],
    }
    storage.write_bytes(_path(prefix, epoch, "json"), json.dumps(manifest).encode())


def newest(prefix, first: int, last: int) -> Saved | None:
    """The state after most epochs, at least `first` and at most `last`, that is whole."""
    for epoch in range(last, first - 1, -1):
        if not storage.exists(_path(prefix, epoch, "json")):
            continue
        try:
            return read(prefix, epoch)
        except (FormatError, FileNotFoundError) as error:
            logging.getLogger("raymx").warning("fit: passing over a torn checkpoint: %s", error)
    return None


def read(prefix, epoch: int) -> Saved:
    """The state after `epoch` epochs. Raises FileNotFoundError, or FormatError if it is torn."""
    path = _path(prefix, epoch, "json")
    try:
        manifest = json.loads(storage.read_bytes(path))
        if manifest["format"] != FORMAT:
            raise FormatError(f"{path}: expected format {FORMAT}, got {manifest['format']!r}.")
        files = manifest["files"]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path}: no description of a checkpoint ({type(error).__name__}: {error}).") from error
    for part in _PARTS:
        found = _described(storage.read_bytes(_path(prefix, epoch, part)))
        if found != files.get(part):
            raise FormatError(
                f"{_path(prefix, epoch, part)}: must be {files.get(part)}, got {found}; it is torn or was written anew."
            )
    return Saved(prefix, epoch, manifest)


def found(checkpoint, resume, begin_epoch: int, num_epoch: int) -> Saved | None:
    """The state that `fit` shall go on from. Raises ParameterError for a `resume` that cannot be."""
    if resume is None or resume is False:
        return None
    if checkpoint is None:
        raise ParameterError(f"fit: resume={resume!r} needs checkpoint, the prefix of the files to go on from.")
    if resume == "auto":
        return newest(checkpoint, begin_epoch + 1, num_epoch)
    if isinstance(resume, int) and not isinstance(resume, bool):
        return read(checkpoint, resume)
    raise ParameterError(f"fit: resume must be 'auto', a number of epochs or None, got {resume!r}.")


def _path(prefix, epoch: int, part: str) -> str:
    return f"{prefix}-{epoch:04d}.{part}"


def _described(data: bytes) -> dict[str, Any]:
    return {"nbytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
