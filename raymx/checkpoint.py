"""Networks with their parameters in files: `prefix-symbol.json` and `prefix-NNNN.params`, as MXNet writes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from raymx import ndarray as nd
from raymx import symbol as sym
from raymx.context import cpu
from raymx.errors import FormatError


def params_path(prefix, epoch: int) -> str:
    """The file with the parameters of an epoch."""
    return f"{prefix}-{epoch:04d}.params"


def save_checkpoint(prefix, epoch: int, symbol, arg_params: Mapping, aux_params: Mapping,
                    remove_amp_cast: bool = True) -> None:  # fmt: skip
    """Write `prefix-symbol.json` and `prefix-NNNN.params`, each all or nothing; `prefix` may be a URL. A symbol that is
    None is left out. `remove_amp_cast` is taken for scripts that use it: there are no such casts."""
    if symbol is not None:
        symbol.save(f"{prefix}-symbol.json")
    path = params_path(prefix, epoch)
    write_params(path, arg_params, aux_params)
    logging.getLogger("raymx").info("Saved checkpoint to %s", path)


def load_checkpoint(prefix, epoch: int):
    """(symbol, arg_params, aux_params) of what `save_checkpoint` or MXNet wrote, on cpu(0).

    Raises FileNotFoundError, or FormatError for a file of another kind.
    """
    arg_params, aux_params = load_params(prefix, epoch)
    return sym.load(f"{prefix}-symbol.json"), arg_params, aux_params


def load_params(prefix, epoch: int) -> tuple[dict[str, nd.NDArray], dict[str, nd.NDArray]]:
    """(arg_params, aux_params) of a checkpoint; see `load_checkpoint`."""
    return read_params(params_path(prefix, epoch))


def write_params(path, arg_params: Mapping, aux_params: Mapping) -> None:
    """Write parameters and states as `arg:<name>` and `aux:<name>`."""
    arrays = {f"arg:{name}": value for name, value in arg_params.items()}
    arrays.update({f"aux:{name}": value for name, value in aux_params.items()})
    nd.save(path, arrays)


def read_params(path) -> tuple[dict[str, nd.NDArray], dict[str, nd.NDArray]]:
    """What `write_params` wrote, on cpu(0)."""
    with cpu():
        arrays = nd.load(path)
    kinds: dict[str, dict[str, nd.NDArray]] = {"arg": {}, "aux": {}}
    for key, value in arrays.items() if isinstance(arrays, dict) else ():
        kind, _, name = key.partition(":")
        if kind not in kinds or not name:
            raise FormatError(f"{path}: no checkpoint: it has an array {key!r}; expected names that begin with arg: "
                              "or aux:.")
        kinds[kind][name] = value
    if arrays and not isinstance(arrays, dict):
        raise FormatError(f"{path}: no checkpoint: its arrays have no names; expected arg:<name> and aux:<name>.")
    return kinds["arg"], kinds["aux"]
