"""Checkpoints of networks with cells: weights are written one array for each gate, whatever form the cells use."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable

from raymx.model import load_checkpoint, save_checkpoint
from raymx.rnn.rnn_cell import BaseRNNCell

__all__ = ["do_rnn_checkpoint", "load_rnn_checkpoint", "rnn_unroll", "save_rnn_checkpoint"]

Cells = BaseRNNCell | Iterable[BaseRNNCell]


def rnn_unroll(cell, length: int, inputs=None, begin_state=None, input_prefix: str = "", layout: str = "NTC"):
    """The older form of `cell.unroll`; `input_prefix` has no use any more."""
    warnings.warn("rnn_unroll is an older form; call cell.unroll.", stacklevel=2)
    return cell.unroll(length, inputs, begin_state=begin_state, layout=layout)


def save_rnn_checkpoint(cells: Cells, prefix, epoch: int, symbol, arg_params: dict, aux_params: dict) -> None:
    """As `model.save_checkpoint`, with the weights of `cells` (one or several) unpacked."""
    unpacked = functools.reduce(lambda args, cell: cell.unpack_weights(args), _all(cells), arg_params)
    save_checkpoint(prefix, epoch, symbol, unpacked, aux_params)


def load_rnn_checkpoint(cells: Cells, prefix, epoch: int):
    """(symbol, arg_params, aux_params) of what `save_rnn_checkpoint` wrote, with the weights of `cells` packed."""
    symbol, args, aux = load_checkpoint(prefix, epoch)
    return symbol, functools.reduce(lambda args, cell: cell.pack_weights(args), _all(cells), args), aux


def do_rnn_checkpoint(cells: Cells, prefix, period: int = 1):
    """An epoch-end callback that calls `save_rnn_checkpoint` every `period` epochs."""
    period = max(1, int(period))

    def save(epoch, symbol=None, arg_params=None, aux_params=None):
        if (epoch + 1) % period == 0:
            save_rnn_checkpoint(cells, prefix, epoch + 1, symbol, arg_params, aux_params)

    return save


def _all(cells: Cells) -> list[BaseRNNCell]:
    return [cells] if isinstance(cells, BaseRNNCell) else list(cells)
