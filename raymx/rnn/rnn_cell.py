"""Recurrent cells: what one step of a network computes, as symbols.

    cell = mx.rnn.SequentialRNNCell()
    cell.add(mx.rnn.LSTMCell(256, prefix="l0_"))
    cell.add(mx.rnn.LSTMCell(256, prefix="l1_"))
    outputs, states = cell.unroll(35, data, layout="NTC", merge_outputs=True)

A cell makes its parameters once, as variables `<prefix><name>`, and uses them in each step. A step reads inputs (N, I)
and states, and gives outputs (N, H) and the next states; nodes of step t are called `<prefix>t<t>_…`.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from raymx import initializer as init
from raymx import ndarray as nd
from raymx import symbol
from raymx.errors import GraphError, ParameterError
from raymx.symbol import Symbol

# fmt: off
__all__ = [
    "BaseConvRNNCell", "BaseRNNCell", "BidirectionalCell", "ConvGRUCell", "ConvLSTMCell", "ConvRNNCell", "DropoutCell",
    "FusedRNNCell", "GRUCell", "LSTMCell", "ModifierCell", "RNNCell", "RNNParams", "ResidualCell", "SequentialRNNCell",
    "ZoneoutCell",
]
# fmt: on

GATES = {"rnn_relu": ("",), "rnn_tanh": ("",), "lstm": ("_i", "_f", "_c", "_o"), "gru": ("_r", "_z", "_o")}


class RNNParams:
    """Variables by name, made when first asked for: cells that share it share their parameters."""

    def __init__(self, prefix: str = ""):
        self._prefix = prefix
        self._params: dict[str, Symbol] = {}

    def get(self, name: str, **kwargs) -> Symbol:
        """The variable `<prefix><name>`; keywords are those of `Variable` and count when it is made."""
        name = self._prefix + name
        if name not in self._params:
            self._params[name] = symbol.var(name, **kwargs)
        return self._params[name]


class BaseRNNCell:
    """Base of cells. A subclass defines `state_info` and `__call__`.

    `params`: an RNNParams to share parameters with other cells; by default a new one with this prefix.
    """

    _num_hidden: int

    def __init__(self, prefix: str = "", params: RNNParams | None = None):
        self._own_params = params is None
        self._params = RNNParams(prefix) if params is None else params
        self._prefix = prefix
        self._modified = False  # whether it stands inside of a modifier, which is to be used in its place
        self._cells: list[BaseRNNCell] = []
        self.reset()

    def reset(self) -> None:
        """Count steps and first states from 0 again, to build another graph."""
        self._init_counter = -1
        self._counter = -1
        for cell in self._cells:
            cell.reset()

    def __call__(self, inputs: Symbol, states: Sequence[Symbol]) -> tuple[Symbol, list[Symbol]]:
        """One step: outputs and next states from inputs and states (`begin_state()`, or those of the step before)."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(inputs, states).")

    @property
    def params(self) -> RNNParams:
        """The parameters; from now on they may be shared."""
        self._own_params = False
        return self._params

    @property
    def state_info(self) -> list[dict[str, Any]]:
        """Shape and layout of each state; 0 in a shape is the batch."""
        raise NotImplementedError(f"{type(self).__name__} must define state_info.")

    @property
    def state_shape(self) -> list[tuple[int, ...]]:
        """The shape of each state."""
        return [info["shape"] for info in self.state_info]

    @property
    def _gate_names(self) -> Sequence[str]:
        """What the parts of packed weights are called."""
        return ()

    def begin_state(self, func: Callable = symbol.zeros, **kwargs) -> list[Symbol]:
        """The states before the first step: `func(name=…, shape=…, **kwargs)` for each.

        `func=mx.sym.Variable` makes them inputs of the network, `<prefix>begin_state_<i>`.
        """
        self._refuse_if_modified()
        return [self._first_state(func, {**kwargs, **(info or {})}) for info in self.state_info]

    def _first_state(self, func: Callable, kwargs) -> Symbol:
        self._init_counter += 1
        return func(name=f"{self._prefix}begin_state_{self._init_counter}", **kwargs)

    def _refuse_if_modified(self) -> None:
        if self._modified:
            raise GraphError(
                f"{type(self).__name__} {self._prefix!r} stands inside of a modifier (ZoneoutCell, ResidualCell, …); "
                "use the modifier in its place."
            )

    # ---- weights ----

    def unpack_weights(self, args: dict) -> dict:
        """A copy of `args` (arrays by name) with this cell's weights cut into one array for each gate."""
        args = dict(args)
        for group in ("i2h", "h2h") if self._gate_names else ():
            for kind in ("weight", "bias"):
                whole = _pop(self, args, f"{self._prefix}{group}_{kind}")
                for i, gate in enumerate(self._gate_names):
                    part = whole[i * self._num_hidden : (i + 1) * self._num_hidden]
                    args[f"{self._prefix}{group}{gate}_{kind}"] = part.copy()
        return args

    def pack_weights(self, args: dict) -> dict:
        """The reverse of `unpack_weights`."""
        args = dict(args)
        for group in ("i2h", "h2h") if self._gate_names else ():
            for kind in ("weight", "bias"):
                parts = [_pop(self, args, f"{self._prefix}{group}{gate}_{kind}") for gate in self._gate_names]
                args[f"{self._prefix}{group}_{kind}"] = nd.concatenate(parts)
        return args

    # ---- unrolling ----

    def unroll(
        self, length: int, inputs, begin_state=None, layout: str = "NTC", merge_outputs: bool | None = None
    ):  # fmt: skip
        """`length` steps as a graph: (outputs, states after the last step).

        - inputs: a symbol in the order of `layout` (`NTC` or `TNC`), or a list of a symbol (N, …) for each step.
        - begin_state: the states before the first step; by default `begin_state()`.
        - merge_outputs: True gives one symbol in the order of `layout`, False a list with one for each step, None
          what is at hand.
        """
        self.reset()
        inputs, _ = _sequence(length, inputs, layout, False)
        states = self.begin_state() if begin_state is None else begin_state
        outputs = []
        for step in range(length):
            output, states = self(inputs[step], states)
            outputs.append(output)
        outputs, _ = _sequence(length, outputs, layout, merge_outputs)
        return outputs, states

    def _get_activation(self, inputs: Symbol, activation, **kwargs) -> Symbol:
        """A function of the cell, by its name in `Activation` or as a function of symbols."""
        if isinstance(activation, str):
            return symbol.Activation(inputs, act_type=activation, **kwargs)
        return activation(inputs, **kwargs)


def _pop(cell: BaseRNNCell, args: dict, name: str):
    if name not in args:
        raise ParameterError(f"{type(cell).__name__} {cell._prefix!r}: there are no weights called {name!r}.")
    return args.pop(name)


def _sequence(length: int | None, inputs, layout: str, merge: bool | None, in_layout: str | None = None):
    """Inputs as one symbol (`merge` true), as a list with a symbol for each step (false), or as they are (None), and
    the axis of time in `layout`."""
    if inputs is None:
        raise GraphError("unroll: inputs must be a symbol or a list of symbols, got None; make variables for them.")
    axis = layout.find("T")
    in_axis = axis if in_layout is None else in_layout.find("T")
    if isinstance(inputs, Symbol):
        if merge is False:
            if len(inputs) != 1:
                raise GraphError(f"unroll: inputs must be one output or a list of symbols, got the group {inputs!r}.")
            parts = symbol.SliceChannel(inputs, axis=in_axis, num_outputs=length, squeeze_axis=True)
            return list(parts), axis
        return (inputs if axis == in_axis else symbol.SwapAxis(inputs, dim1=axis, dim2=in_axis)), axis
    inputs = list(inputs)
    if length is not None and len(inputs) != length:
        raise GraphError(f"unroll: inputs must be {length} symbols, one for each step, got {len(inputs)}.")
    if merge:
        return symbol.Concat(*(symbol.expand_dims(each, axis=axis) for each in inputs), dim=axis), axis
    return inputs, axis


# ---- plain cells ----


class _GatedCell(BaseRNNCell):
    """A cell of gates: products of weights with inputs and with the first state, and functions of their sums."""

    def __init__(self, num_hidden: int, prefix: str, params: RNNParams | None, **inits):
        super().__init__(prefix=prefix, params=params)
        self._num_hidden = num_hidden
        self._iW = self.params.get("i2h_weight", init=inits.get("i2h_weight"))
        self._iB = self.params.get("i2h_bias", init=inits.get("i2h_bias"))
        self._hW = self.params.get("h2h_weight", init=inits.get("h2h_weight"))
        self._hB = self.params.get("h2h_bias", init=inits.get("h2h_bias"))

    _state_count = 1
    _activation: Any = "tanh"
    _gate_axis = 1

    @property
    def state_info(self):
        return [{"shape": (0, self._num_hidden), "__layout__": "NC"} for _ in range(self._state_count)]

    def _next_name(self) -> str:
        self._counter += 1
        return f"{self._prefix}t{self._counter}_"

    def _products(self, inputs: Symbol, state: Symbol, name: str) -> tuple[Symbol, Symbol]:
        """The products with inputs and state, called `<name>i2h` and `<name>h2h`."""
        units = self._num_hidden * len(self._gate_names)
        i2h = symbol.FullyConnected(inputs, self._iW, self._iB, num_hidden=units, name=f"{name}i2h")
        h2h = symbol.FullyConnected(state, self._hW, self._hB, num_hidden=units, name=f"{name}h2h")
        return i2h, h2h

    def _gates(self, values: Symbol, name: str) -> Symbol:
        """`values` cut into gates."""
        return symbol.SliceChannel(values, num_outputs=len(self._gate_names), axis=self._gate_axis, name=name)


class RNNCell(_GatedCell):
    """h = activation(W x + b + R h' + c); `activation` is a name in `Activation` or a function of symbols."""

    def __init__(self, num_hidden: int, activation: Any = "tanh", prefix: str = "rnn_", params=None):
        super().__init__(num_hidden, prefix, params)
        self._activation = activation

    @property
    def _gate_names(self):
        return GATES["rnn_tanh"]

    def __call__(self, inputs, states):
        name = self._next_name()
        i2h, h2h = self._products(inputs, states[0], name)
        output = self._get_activation(i2h + h2h, self._activation, name=f"{name}out")
        return output, [output]


class LSTMCell(_GatedCell):
    """Long short-term memory: gates i, f, c, o; states are the output and the cell.

    `forget_bias` is where the bias of the forget gate begins (Jozefowicz et al. 2015 recommend 1).
    """

    _state_count = 2

    def __init__(self, num_hidden: int, prefix: str = "lstm_", params=None, forget_bias: float = 1.0):
        super().__init__(num_hidden, prefix, params, i2h_bias=init.LSTMBias(forget_bias=forget_bias))

    @property
    def _gate_names(self):
        return GATES["lstm"]

    def __call__(self, inputs, states):
        name = self._next_name()
        i2h, h2h = self._products(inputs, states[0], name)
        gates = self._gates(i2h + h2h, f"{name}slice")
        in_gate = symbol.Activation(gates[0], act_type="sigmoid", name=f"{name}i")
        forget_gate = symbol.Activation(gates[1], act_type="sigmoid", name=f"{name}f")
        in_transform = self._get_activation(gates[2], self._activation, name=f"{name}c")
        out_gate = symbol.Activation(gates[3], act_type="sigmoid", name=f"{name}o")
        cell = symbol._internal._plus(forget_gate * states[1], in_gate * in_transform, name=f"{name}state")
        output = symbol._internal._mul(out_gate, self._get_activation(cell, self._activation), name=f"{name}out")
        return output, [output, cell]


class GRUCell(_GatedCell):
    """Gated recurrent unit in the form of cuDNN: gates r, z, o; the reset gate works on R h' + c."""

    def __init__(self, num_hidden: int, prefix: str = "gru_", params=None):
        super().__init__(num_hidden, prefix, params)

    @property
    def _gate_names(self):
        return GATES["gru"]

    def __call__(self, inputs, states):
        name = self._next_name()
        i2h, h2h = self._products(inputs, states[0], self._name_of_products(name))
        i2h_r, i2h_z, i2h = self._gates(i2h, f"{name}_i2h_slice")
        h2h_r, h2h_z, h2h = self._gates(h2h, f"{name}_h2h_slice")
        reset = symbol.Activation(i2h_r + h2h_r, act_type="sigmoid", name=f"{name}_r_act")
        update = symbol.Activation(i2h_z + h2h_z, act_type="sigmoid", name=f"{name}_z_act")
        new = self._get_activation(i2h + reset * h2h, self._activation, name=f"{name}_h_act")
        output = symbol._internal._plus((1.0 - update) * new, update * states[0], name=f"{name}out")
        return output, [output]

    def _name_of_products(self, name: str) -> str:
        return f"{name}_"


# ---- the fused cell ----


class FusedRNNCell(BaseRNNCell):
    """Layers of one kind over all steps as one operator `RNN`: the fast way, for `unroll` only.

    - mode: rnn_relu, rnn_tanh, lstm or gru.
    - dropout: share of what a layer hands to the next that is dropped in training.
    - get_next_state: let `unroll` give the states after the last step, too.
    - forget_bias: where the biases of an LSTM's forget gates begin.
    """

    def __init__(
        self, num_hidden: int, num_layers: int = 1, mode: str = "lstm", bidirectional: bool = False,
        dropout: float = 0.0, get_next_state: bool = False, forget_bias: float = 1.0, prefix: str | None = None,
        params: RNNParams | None = None,
    ):  # fmt: skip
        if mode not in GATES:
            raise ParameterError(f"FusedRNNCell: mode must be one of {', '.join(map(repr, GATES))}, got {mode!r}.")
        super().__init__(prefix=f"{mode}_" if prefix is None else prefix, params=params)
        self._num_hidden, self._num_layers, self._mode = num_hidden, num_layers, mode
        self._bidirectional, self._dropout = bidirectional, dropout
        self._get_next_state, self._forget_bias = get_next_state, forget_bias
        self._directions = ["l", "r"] if bidirectional else ["l"]
        first = init.FusedRNN(None, num_hidden, num_layers, mode, bidirectional, forget_bias)
        self._parameter = self.params.get("parameters", init=first)

    @property
    def state_info(self):
        shape = (len(self._directions) * self._num_layers, 0, self._num_hidden)
        return [{"shape": shape, "__layout__": "LNC"} for _ in range(2 if self._mode == "lstm" else 1)]

    @property
    def _gate_names(self):
        return GATES[self._mode]

    @property
    def _num_gates(self) -> int:
        return len(self._gate_names)

    # ---- weights ----

    def _slice_weights(self, flat, num_input: int, num_hidden: int) -> dict:
        """Views of the flat parameters by the names that the cells of `unfuse` would give them."""
        views, start = {}, 0
        for kind in ("weight", "bias"):
            for layer in range(self._num_layers):
                wide = len(self._directions) * num_hidden if layer else num_input
                for direction in self._directions:
                    for group, columns in (("i2h", wide), ("h2h", num_hidden)):
                        shape = (num_hidden, columns) if kind == "weight" else (num_hidden,)
                        for gate in self._gate_names:
                            stop = start + num_hidden * (columns if kind == "weight" else 1)
                            name = f"{self._prefix}{direction}{layer}_{group}{gate}_{kind}"
                            views[name] = flat[start:stop].reshape(shape)
                            start = stop
        return views

    def _size(self, num_input: int) -> int:
        """How many parameters there are."""
        h, b = self._num_hidden, len(self._directions)
        later = (self._num_layers - 1) * (b * h + h + 2)
        return b * h * self._num_gates * (num_input + h + 2 + later)

    def unpack_weights(self, args):
        args = dict(args)
        flat = _pop(self, args, self._parameter.name)
        h, b = self._num_hidden, len(self._directions)
        num_input, rest = divmod(flat.size - self._size(0), b * h * self._num_gates)
        if num_input < 1 or rest:
            raise ParameterError(
                f"FusedRNNCell {self._prefix!r}: {flat.size} parameters fit no number of inputs; expected "
                f"{self._size(0)} and {b * h * self._num_gates} for each input."
            )
        args.update({name: view.copy() for name, view in self._slice_weights(flat, num_input, h).items()})
        return args

    def pack_weights(self, args):
        args = dict(args)
        first = f"{self._prefix}l0_i2h{self._gate_names[0]}_weight"
        if first not in args:
            raise ParameterError(f"FusedRNNCell {self._prefix!r}: there are no weights called {first!r}.")
        num_input = args[first].shape[1]
        flat = nd.zeros((self._size(num_input),), args[first].context, args[first].dtype)
        for name, view in self._slice_weights(flat, num_input, self._num_hidden).items():
            view[:] = _pop(self, args, name)
        args[self._parameter.name] = flat
        return args

    # ---- use ----

    def __call__(self, inputs, states):
        raise GraphError("FusedRNNCell cannot go step by step; use unroll, or the cells of unfuse().")

    def unroll(self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None):
        self.reset()
        inputs, axis = _sequence(length, inputs, layout, True)
        if axis == 1:
            warnings.warn("FusedRNNCell: layout NTC is turned to TNC and back; TNC is faster.", stacklevel=2)
            inputs = symbol.SwapAxis(inputs, dim1=0, dim2=1)
        elif axis != 0:
            raise ParameterError(f"FusedRNNCell: layout must be 'NTC' or 'TNC', got {layout!r}.")
        states = self.begin_state() if begin_state is None else begin_state
        rnn = symbol.RNN(
            inputs, self._parameter, **dict(zip(("state", "state_cell"), states, strict=False)),
            state_size=self._num_hidden, num_layers=self._num_layers, bidirectional=self._bidirectional,
            p=self._dropout, state_outputs=self._get_next_state, mode=self._mode, name=f"{self._prefix}rnn",
        )  # fmt: skip
        outputs, *states = rnn
        if states:
            rnn._set_attr(__layout__="LNC")
        if axis == 1:
            outputs = symbol.SwapAxis(outputs, dim1=0, dim2=1)
        outputs, _ = _sequence(length, outputs, layout, merge_outputs)
        return outputs, states

    def unfuse(self) -> SequentialRNNCell:
        """The same network as a stack of cells; `unpack_weights` of this one and `pack_weights` of the stack carry
        parameters over."""
        stack = SequentialRNNCell()
        for layer in range(self._num_layers):
            cells = [self._cell(f"{self._prefix}{direction}{layer}_") for direction in self._directions]
            if self._bidirectional:
                stack.add(BidirectionalCell(cells[0], cells[1], output_prefix=f"{self._prefix}bi_l{layer}_"))
            else:
                stack.add(cells[0])
            if self._dropout > 0 and layer < self._num_layers - 1:
                stack.add(DropoutCell(self._dropout, prefix=f"{self._prefix}_dropout{layer}_"))
        return stack

    def _cell(self, prefix: str) -> BaseRNNCell:
        if self._mode == "lstm":
            return LSTMCell(self._num_hidden, prefix=prefix, forget_bias=self._forget_bias)
        if self._mode == "gru":
            return GRUCell(self._num_hidden, prefix=prefix)
        return RNNCell(self._num_hidden, activation=self._mode.removeprefix("rnn_"), prefix=prefix)


# ---- cells of cells ----


class _CellOfCells(BaseRNNCell):
    """A cell made of others, whose states stand one after the other."""

    def __init__(self, params: RNNParams | None):
        super().__init__(prefix="", params=params)
        self._override_cell_params = params is not None

    def _adopt(self, cell: BaseRNNCell) -> None:
        """Take one more cell; parameters are shared from above, or gathered from below."""
        if self._override_cell_params:
            if not cell._own_params:
                raise ParameterError(
                    f"{type(self).__name__}: params are given for it and for a cell inside of it; give one of them."
                )
            cell.params._params.update(self.params._params)
        self.params._params.update(cell.params._params)
        self._cells.append(cell)

    @property
    def state_info(self):
        return [info for cell in self._cells for info in cell.state_info]

    def begin_state(self, func=symbol.zeros, **kwargs):
        self._refuse_if_modified()
        return [state for cell in self._cells for state in cell.begin_state(func=func, **kwargs)]

    def unpack_weights(self, args):
        return functools.reduce(lambda found, cell: cell.unpack_weights(found), self._cells, args)

    def pack_weights(self, args):
        return functools.reduce(lambda found, cell: cell.pack_weights(found), self._cells, args)

    def _shares(self, states: Sequence) -> list[Sequence]:
        """`states` cut into each cell's own."""
        shares, start = [], 0
        for cell in self._cells:
            stop = start + len(cell.state_info)
            shares.append(states[start:stop])
            start = stop
        return shares


class SequentialRNNCell(_CellOfCells):
    """Cells one upon the other: each reads what the one before gives."""

    def __init__(self, params: RNNParams | None = None):
        super().__init__(params)

    def add(self, cell: BaseRNNCell) -> None:
        """Put one more cell on top."""
        self._adopt(cell)

    def __call__(self, inputs, states):
        self._counter += 1
        next_states: list[Symbol] = []
        for cell, own in zip(self._cells, self._shares(states), strict=True):
            inputs, own = cell(inputs, own)
            next_states += own
        return inputs, next_states

    def unroll(self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None):
        self.reset()
        states = self.begin_state() if begin_state is None else begin_state
        next_states: list = []
        for number, (cell, own) in enumerate(zip(self._cells, self._shares(states), strict=True), 1):
            merge = merge_outputs if number == len(self._cells) else None
            inputs, own = cell.unroll(length, inputs, begin_state=own, layout=layout, merge_outputs=merge)
            next_states += own
        return inputs, next_states


class BidirectionalCell(_CellOfCells):
    """Two cells, of which one goes through the steps from the last to the first; their outputs stand side by side.

    Only for `unroll`, which gives the states as [those of `l_cell`, those of `r_cell`].
    """

    def __init__(self, l_cell: BaseRNNCell, r_cell: BaseRNNCell, params=None, output_prefix: str = "bi_"):
        super().__init__(params)
        self._output_prefix = output_prefix
        for cell in (l_cell, r_cell):
            self._adopt(cell)

    def __call__(self, inputs, states):
        raise GraphError("BidirectionalCell cannot go step by step; use unroll.")

    def unroll(self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None):
        self.reset()
        inputs, axis = _sequence(length, inputs, layout, False)
        states = self.begin_state() if begin_state is None else begin_state
        found = [
            cell.unroll(length, steps, begin_state=own, layout=layout, merge_outputs=merge_outputs)
            for cell, steps, own in zip(self._cells, (inputs, inputs[::-1]), self._shares(states), strict=True)
        ]
        (left, left_states), (right, right_states) = found
        if merge_outputs is None:
            merge_outputs = isinstance(left, Symbol) and isinstance(right, Symbol)
            left, right = (_sequence(length, each, layout, merge_outputs)[0] for each in (left, right))
        if merge_outputs:
            right = symbol.reverse(right, axis=axis)
            outputs: Any = symbol.Concat(left, right, dim=2, name=f"{self._output_prefix}out")
        else:
            outputs = [
                symbol.Concat(one, other, dim=1, name=f"{self._output_prefix}t{step}")
                for step, (one, other) in enumerate(zip(left, right[::-1], strict=True))
            ]
        return outputs, [left_states, right_states]


# ---- modifiers ----


class DropoutCell(BaseRNNCell):
    """Drops a share of its inputs in training; it has no state."""

    def __init__(self, dropout: float, prefix: str = "dropout_", params: RNNParams | None = None):
        super().__init__(prefix, params)
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)):
            raise ParameterError(f"DropoutCell: dropout must be a number, got {dropout!r}.")
        self.dropout = dropout

    @property
    def state_info(self):
        return []

    def __call__(self, inputs, states):
        return (symbol.Dropout(inputs, p=self.dropout) if self.dropout > 0 else inputs), states

    def unroll(self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None):
        self.reset()
        inputs, _ = _sequence(length, inputs, layout, merge_outputs)
        if isinstance(inputs, Symbol):
            return self(inputs, [])
        return super().unroll(length, inputs, begin_state, layout, merge_outputs)


class ModifierCell(BaseRNNCell):
    """Base of cells that change what another one does. From then on that one is used only through its modifier."""

    def __init__(self, base_cell: BaseRNNCell):
        super().__init__()
        base_cell._modified = True
        self.base_cell = base_cell
        self._cells = [base_cell]

    @property
    def params(self):
        self._own_params = False
        return self.base_cell.params

    @property
    def state_info(self):
        return self.base_cell.state_info

    def begin_state(self, init_sym: Callable = symbol.zeros, **kwargs):  # type: ignore[override]  # MXNet's name
        self._refuse_if_modified()
        func = kwargs.pop("func", init_sym)
        return self._with_base(lambda: self.base_cell.begin_state(func=func, **kwargs))

    def _with_base(self, use: Callable):
        """What `use` gives while the base cell may be used by itself."""
        self.base_cell._modified = False
        try:
            return use()
        finally:
            self.base_cell._modified = True

    def unpack_weights(self, args):
        return self.base_cell.unpack_weights(args)

    def pack_weights(self, args):
        return self.base_cell.pack_weights(args)


class ZoneoutCell(ModifierCell):
    """In training, shares of the outputs and of the states stay what they were in the step before (Krueger et al.
    2016)."""

    def __init__(self, base_cell: BaseRNNCell, zoneout_outputs: float = 0.0, zoneout_states: float = 0.0):
        if isinstance(base_cell, (FusedRNNCell, BidirectionalCell)):
            way = "unfuse it first" if isinstance(base_cell, FusedRNNCell) else "put one around each cell inside"
            raise ParameterError(f"ZoneoutCell: a {type(base_cell).__name__} cannot go step by step; {way}.")
        super().__init__(base_cell)
        self.zoneout_outputs, self.zoneout_states = zoneout_outputs, zoneout_states
        self.prev_output: Symbol | None = None

    def reset(self):
        super().reset()
        self.prev_output = None

    def __call__(self, inputs, states):
        output, next_states = self.base_cell(inputs, states)
        before = symbol.zeros((0, 0)) if self.prev_output is None else self.prev_output
        if self.zoneout_outputs != 0:
            output = _mixed(self.zoneout_outputs, output, before)
        if self.zoneout_states != 0:
            pairs = zip(next_states, states, strict=True)
            next_states = [_mixed(self.zoneout_states, new, old) for new, old in pairs]
        self.prev_output = output
        return output, next_states


def _mixed(p: float, new: Symbol, old: Symbol) -> Symbol:
    """`new`, but in training `old` with probability `p`, element by element."""
    return symbol.where(symbol.Dropout(symbol.ones_like(new), p=p), new, old)


class ResidualCell(ModifierCell):
    """Adds the inputs to the outputs (Wu et al. 2016); both have one width."""

    def __call__(self, inputs, states):
        output, states = self.base_cell(inputs, states)
        return _added(output, inputs), states

    def unroll(self, length, inputs, begin_state=None, layout="NTC", merge_outputs=None):
        self.reset()
        outputs, states = self._with_base(
            lambda: self.base_cell.unroll(length, inputs, begin_state, layout=layout, merge_outputs=merge_outputs)
        )
        inputs, _ = _sequence(length, inputs, layout, isinstance(outputs, Symbol))
        if isinstance(outputs, Symbol):
            return _added(outputs, inputs), states
        return [_added(output, each) for output, each in zip(outputs, inputs, strict=True)], states


def _added(output: Symbol, inputs: Symbol) -> Symbol:
    return symbol.elemwise_add(output, inputs, name=f"{output.name}_plus_residual")


# ---- cells of convolutions ----


def _leaky(inputs: Symbol, **kwargs) -> Symbol:
    """The activation of convolutional cells unless one is given."""
    return symbol.LeakyReLU(inputs, act_type="leaky", slope=0.2, **kwargs)


class BaseConvRNNCell(_GatedCell):
    """Base of cells whose products are convolutions: inputs (N, C, H, W) of `input_shape`, states of as many channels
    as `num_hidden`. Convolutions of states keep their size, so `h2h_kernel` is odd."""

    _usual_prefix = ""

    def __init__(
        self, input_shape, num_hidden: int, h2h_kernel=(3, 3), h2h_dilate=(1, 1), i2h_kernel=(3, 3), i2h_stride=(1, 1),
        i2h_pad=(1, 1), i2h_dilate=(1, 1), i2h_weight_initializer=None, h2h_weight_initializer=None,
        i2h_bias_initializer: Any = "zeros", h2h_bias_initializer: Any = "zeros", activation: Any = _leaky,
        prefix: str | None = None, params: RNNParams | None = None, conv_layout: str = "NCHW",
    ):  # fmt: skip
        if any(k % 2 == 0 for k in h2h_kernel):
            raise ParameterError(f"{type(self).__name__}: h2h_kernel must hold odd numbers, got {h2h_kernel}.")
        inits = {
            "i2h_weight": i2h_weight_initializer, "h2h_weight": h2h_weight_initializer,
            "i2h_bias": i2h_bias_initializer, "h2h_bias": h2h_bias_initializer,
        }  # fmt: skip
        made = {name: init.create(each) for name, each in inits.items()}
        _GatedCell.__init__(self, num_hidden, self._usual_prefix if prefix is None else prefix, params, **made)
        self._activation, self._conv_layout = activation, conv_layout
        self._gate_axis = conv_layout.find("C")
        self._i2h = {"kernel": i2h_kernel, "stride": i2h_stride, "pad": i2h_pad, "dilate": i2h_dilate}
        pad = tuple(d * (k - 1) // 2 for k, d in zip(h2h_kernel, h2h_dilate, strict=True))
        self._h2h = {"kernel": h2h_kernel, "stride": (1, 1), "pad": pad, "dilate": h2h_dilate}
        inputs = symbol.var("data")
        state = symbol.Convolution(inputs, num_filter=num_hidden, layout=conv_layout, **self._i2h)
        self._state_shape = (0, *state.infer_shape(data=input_shape)[1][0][1:])

    @property
    def state_info(self):
        return [{"shape": self._state_shape, "__layout__": self._conv_layout} for _ in range(self._state_count)]

    @property
    def _num_gates(self) -> int:
        return len(self._gate_names)

    def _products(self, inputs, state, name):
        filters = {"num_filter": self._num_hidden * self._num_gates, "layout": self._conv_layout}
        i2h = symbol.Convolution(inputs, self._iW, self._iB, name=f"{name}i2h", **filters, **self._i2h)
        h2h = symbol.Convolution(state, self._hW, self._hB, name=f"{name}h2h", **filters, **self._h2h)
        return i2h, h2h


class ConvRNNCell(BaseConvRNNCell, RNNCell):
    """RNNCell with convolutions in the place of products."""

    _usual_prefix = "ConvRNN_"


class ConvLSTMCell(BaseConvRNNCell, LSTMCell):
    """LSTMCell with convolutions in the place of products (Shi et al. 2015)."""

    _usual_prefix = "ConvLSTM_"


class ConvGRUCell(BaseConvRNNCell, GRUCell):
    """GRUCell with convolutions in the place of products."""

    _usual_prefix = "ConvGRU_"

    def _name_of_products(self, name):
        return name

