"""Recurrent networks over whole sequences: the operator RNN.

One layer in one direction is a `Part`. Its forward and backward are lists of small functions over fixed arrays, in
order: `Steps` collects them. They are run at once here; a special kernel collects them with products and functions of
its own, keeps them, and runs them as often as it likes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from raymx.errors import ParameterError
from raymx.ops.elementwise import sigmoid
from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.random import fill_mask
from raymx.ops.shapes import size


class Steps:
    """Functions without arguments, in order. `do` appends one; the other methods append what computes their result."""

    def __init__(self, xp):
        self.xp = xp
        self.runs: list[Callable[[], Any]] = []

    def do(self, function: Callable, *args, **kwargs) -> None:
        self.runs.append(functools.partial(function, *args, **kwargs))

    def run(self) -> None:
        for run in self.runs:
            run()

    def product(self, a, b, out, add: bool = False) -> None:
        """out = a @ b, or out += a @ b."""
        self.do(_add_product if add else self.xp.matmul, *([self.xp] if add else []), a, b, out=out)

    def affine(self, a, b, bias, out) -> None:
        """out = a @ b + bias."""
        self.product(a, b, out)
        self.do(self.xp.add, out, bias, out=out)

    def copy(self, source, out) -> None:
        """out = source, which may be turned round."""
        self.do(self.xp.copyto, out, source)

    def sigmoid(self, x) -> None:
        """x = 1 / (1 + e ** -x)."""
        self.do(sigmoid, self.xp, x, x)

    def tanh(self, x, out) -> None:
        self.do(self.xp.tanh, x, out=out)


def _add_product(xp, a, b, out) -> None:
    xp.add(out, xp.matmul(a, b), out=out)


class Weights(NamedTuple):
    """Views of the flat parameters (or of their gradient) for one part: G gates, I inputs, H units."""

    i2h: Any  # (G, H, I)
    h2h: Any  # (G, H, H)
    i2h_bias: Any  # (G, H)
    h2h_bias: Any


@dataclass
class Part:
    """One layer in one direction. Lengths: T steps, N sequences, I inputs, H units, G gates."""

    x: Any  # (T, N, I) what it reads
    weights: Weights
    turned: Any  # (G, H, H) room for the states' weights, each turned round: products of few rows are faster so
    h0: Any  # (N, H) the state before the first step
    c0: Any  # (N, H) the LSTM's cell, else None
    h: Any  # (T, N, H) the state after each step; that of a sequence that has ended stays as it is
    gates: Any  # (G, T, N, H) after their functions
    kept: Any  # (T, N, H) what the cell keeps beside them, else None
    backwards: bool  # whether it goes from the last step to the first
    over: Any  # (T, N, 1) bool: the steps at which a sequence has ended, else None

    def moments(self) -> list[int]:
        """The steps in the order in which forward takes them."""
        steps = range(len(self.h))
        return list(reversed(steps) if self.backwards else steps)

    def before(self, moment: int, states, first):
        """What `states` (T, N, H) holds before the step `moment`."""
        earlier = moment + 1 if self.backwards else moment - 1
        return states[earlier] if 0 <= earlier < len(states) else first


class Space(NamedTuple):
    """Temporary arrays of backward."""

    d_gates: Any  # (G, T, N, H)
    dh: Any  # (N, H) gradient of the state, while walking back
    dc: Any
    work: Any  # (3, N, H)


class Cell:
    """One kind of recurrent unit: what it does at each step, and its gradient."""

    gates = 1
    keeps = False  # whether it keeps an array (T, N, H) beside its gates
    plain_biases = 1  # to how many gates the states' biases are simply added
    carries = False  # whether the state before a step has a share in that after it beside the products

    def forward(self, steps: Steps, part: Part, moment: int, before) -> None:
        """The step `moment`: from `gates`, which hold the inputs' share, to `h`. `before` is the state before it."""
        raise NotImplementedError

    def backward(self, steps: Steps, part: Part, moment: int, before, space: Space) -> None:
        """The gradient of one step: from `space.dh`, of the state after it, to `d_gates[:, moment]` and, if it
        carries, to the share of the state before it that passes by the products, which is left in `dh`; `dc`
        likewise."""
        raise NotImplementedError

    def hidden_gradients(self, steps: Steps, part: Part, moment: int, space: Space) -> list:
        """The gradients (N, H) of the products with the state before the step."""
        return list(space.d_gates[:, moment])

    def to_hidden(self, steps: Steps, part: Part, space: Space, d_weights: Weights) -> None:
        """Change `d_gates` from gradients of the inputs' products to those of the states' products, and write the
        gradient of their biases."""
        steps.do(steps.xp.copyto, d_weights.h2h_bias, d_weights.i2h_bias)


def _add_products(steps: Steps, part: Part, moment: int, before, gates: int) -> None:
    """Add the states' share to the first `gates` gates."""
    for k in range(gates):
        steps.product(before, part.turned[k], part.gates[k, moment], add=True)


class Plain(Cell):
    """h = f(W x + b + R h' + c), f being relu or tanh; h' is the state before."""

    def __init__(self, relu: bool):
        self.relu = relu

    def forward(self, steps, part, moment, before):
        now = part.gates[0, moment]
        _add_products(steps, part, moment, before, 1)
        if self.relu:
            steps.do(steps.xp.maximum, now, 0, out=now)
        else:
            steps.tanh(now, now)
        steps.do(steps.xp.copyto, part.h[moment], now)

    def backward(self, steps, part, moment, before, space):
        xp, out, d_gate = steps.xp, part.gates[0, moment], space.d_gates[0, moment]
        if self.relu:
            steps.do(xp.greater, out, 0, out=d_gate, casting="unsafe")
        else:
            steps.do(xp.multiply, out, out, out=d_gate)
            steps.do(xp.subtract, 1, d_gate, out=d_gate)
        steps.do(xp.multiply, d_gate, space.dh, out=d_gate)


class Lstm(Cell):
    """i, f, o = sigmoid, g = tanh of W x + b + R h' + c, in the order i, f, g, o; cell = f * cell' + i * g;
    h = o * tanh(cell). `clip` are bounds of the cell, and whether a NaN there becomes the lower one."""

    gates, plain_biases, keeps = 4, 4, True

    def __init__(self, clip: tuple[float, float, bool] | None):
        self.clip = clip

    def forward(self, steps, part, moment, before):
        xp, (i, f, g, o) = steps.xp, part.gates[:, moment]
        cell, h = part.kept[moment], part.h[moment]
        _add_products(steps, part, moment, before, 4)
        for gate in (i, f, o):
            steps.sigmoid(gate)
        steps.tanh(g, g)
        steps.do(xp.multiply, i, g, out=h)
        steps.do(xp.multiply, f, part.before(moment, part.kept, part.c0), out=cell)
        steps.do(xp.add, cell, h, out=cell)
        if self.clip is not None:
            low, high, drop_nan = self.clip
            steps.do(xp.fmax if drop_nan else xp.maximum, cell, low, out=cell)
            steps.do(xp.fmin if drop_nan else xp.minimum, cell, high, out=cell)
        steps.tanh(cell, h)
        steps.do(xp.multiply, h, o, out=h)

    def backward(self, steps, part, moment, before, space):
        xp, do = steps.xp, steps.do
        (i, f, g, o), (d_i, d_f, d_g, d_o) = part.gates[:, moment], space.d_gates[:, moment]
        dh, dc, cell = space.dh, space.dc, part.kept[moment]
        bent, passed, other = space.work
        steps.tanh(cell, bent)
        do(xp.multiply, dh, o, out=passed)
        do(xp.multiply, passed, bent, out=d_o)
        do(xp.subtract, 1, o, out=other)
        do(xp.multiply, d_o, other, out=d_o)  # dh * bent * o * (1 - o)
        do(xp.multiply, bent, bent, out=bent)
        do(xp.subtract, 1, bent, out=bent)
        do(xp.multiply, passed, bent, out=passed)
        do(xp.add, dc, passed, out=dc)
        self._through_clip(steps, cell, dc, other)
        do(xp.multiply, dc, i, out=other)
        do(xp.subtract, 1, i, out=d_i)
        do(xp.multiply, d_i, other, out=d_i)
        do(xp.multiply, d_i, g, out=d_i)  # dc * g * i * (1 - i)
        do(xp.multiply, g, g, out=d_g)
        do(xp.subtract, 1, d_g, out=d_g)
        do(xp.multiply, d_g, other, out=d_g)  # dc * i * (1 - g ** 2)
        do(xp.multiply, dc, f, out=dc)
        do(xp.subtract, 1, f, out=d_f)
        do(xp.multiply, d_f, dc, out=d_f)
        do(xp.multiply, d_f, part.before(moment, part.kept, part.c0), out=d_f)  # dc * cell' * f * (1 - f)

    def _through_clip(self, steps, cell, dc, other):
        """A cell at a bound hands no gradient on."""
        if self.clip is not None:
            for beyond, bound in ((steps.xp.greater, self.clip[0]), (steps.xp.less, self.clip[1])):
                steps.do(beyond, cell, bound, out=other, casting="unsafe")
                steps.do(steps.xp.multiply, dc, other, out=dc)


class Gru(Cell):
    """r, z = sigmoid of W x + b + R h' + c; n = tanh(W x + b + r * (R h' + c)); h = (1 - z) * n + z * h'.

    The gates are in the order r, z, n. Kept is R h' + c of n.
    """

    gates, plain_biases, keeps, carries = 3, 2, True, True

    def forward(self, steps, part, moment, before):
        xp, do, (r, z, n) = steps.xp, steps.do, part.gates[:, moment]
        h, inner = part.h[moment], part.kept[moment]
        _add_products(steps, part, moment, before, 2)
        steps.product(before, part.turned[2], inner)
        do(xp.add, inner, part.weights.h2h_bias[2], out=inner)
        steps.sigmoid(r)
        steps.sigmoid(z)
        do(xp.multiply, r, inner, out=h)
        do(xp.add, n, h, out=n)
        steps.tanh(n, n)
        do(xp.subtract, before, n, out=h)
        do(xp.multiply, h, z, out=h)
        do(xp.add, h, n, out=h)

    def backward(self, steps, part, moment, before, space):
        xp, do, dh = steps.xp, steps.do, space.dh
        (r, z, n), (d_r, d_z, d_n) = part.gates[:, moment], space.d_gates[:, moment]
        work = space.work[0]
        do(xp.multiply, n, n, out=d_n)
        do(xp.subtract, 1, d_n, out=d_n)
        do(xp.multiply, d_n, dh, out=d_n)
        do(xp.subtract, 1, z, out=work)
        do(xp.multiply, d_n, work, out=d_n)  # dh * (1 - z) * (1 - n ** 2)
        do(xp.multiply, dh, z, out=dh)
        do(xp.multiply, work, dh, out=d_z)
        do(xp.subtract, before, n, out=work)
        do(xp.multiply, d_z, work, out=d_z)  # dh * (h' - n) * z * (1 - z)
        do(xp.subtract, 1, r, out=d_r)
        do(xp.multiply, d_r, r, out=d_r)
        do(xp.multiply, d_r, part.kept[moment], out=d_r)
        do(xp.multiply, d_r, d_n, out=d_r)

    def hidden_gradients(self, steps, part, moment, space):
        d_r, d_z, d_n = space.d_gates[:, moment]
        steps.do(steps.xp.multiply, d_n, part.gates[0, moment], out=space.work[0])
        return [d_r, d_z, space.work[0]]

    def to_hidden(self, steps, part, space, d_weights):
        steps.do(steps.xp.multiply, space.d_gates[2], part.gates[0], out=space.d_gates[2])
        steps.do(steps.xp.sum, space.d_gates, axis=(1, 2), out=d_weights.h2h_bias)


@operator("RNN")
class RNN(Op):
    """Layers of recurrent units over data (T, N, I): T steps of N sequences, I inputs each.

    out (T, N, D * H) is the last layer's state at each step, D = 2 if `bidirectional` (forward, then backward), else 1.
    state, and for LSTM state_cell, (L * D, N, H) are the states before the first step, layer by layer; with
    `state_outputs` those after the last one are outputs, too. parameters (flat): for each layer and direction the
    weights of the inputs (G * H, I) and of the states (G * H, H), then, in the same order, the biases of both (G * H).
    Gates: LSTM i, f, g, o; GRU r, z, n. sequence_length (N): the steps of each sequence; what comes after is 0.
    """

    heavy = True
    kinds = "f"
    state_size: int = param(doc="H, units in a layer and direction", low=1)
    num_layers: int = param(doc="L, layers", low=1)
    bidirectional: bool = param(False, doc="go through the steps in both directions")
    mode: str = param(doc="kind of unit", choices=("rnn_relu", "rnn_tanh", "lstm", "gru"))
    p: float = param(0.0, doc="probability that what a layer hands to the next is dropped in training", low=0, high=1)
    state_outputs: bool = param(False, doc="make the states after the last step outputs, too")
    projection_size: int | None = param(None, doc="size to which states are projected; not supported")
    lstm_state_clip_min: float | None = param(None, doc="lower bound of an LSTM's cells")
    lstm_state_clip_max: float | None = param(None, doc="upper bound of an LSTM's cells")
    lstm_state_clip_nan: bool = param(False, doc="a NaN in a bounded cell becomes the lower bound")
    use_sequence_length: bool = param(False, doc="take the input sequence_length")

    def setup(self):
        if self.projection_size is not None:
            raise ParameterError(
                f"RNN: projection_size is not supported, got {self.projection_size}; put a FullyConnected behind it."
            )
        bounds = self.lstm_state_clip_min, self.lstm_state_clip_max
        if (bounds[0] is None) != (bounds[1] is None):
            raise ParameterError(
                "RNN: lstm_state_clip_min and lstm_state_clip_max belong together, got "
                f"{bounds[0]} and {bounds[1]}; give both or none."
            )
        clip = None if bounds[0] is None else (*bounds, self.lstm_state_clip_nan)
        kinds = {"lstm": functools.partial(Lstm, clip), "gru": Gru, "rnn_relu": functools.partial(Plain, relu=True)}
        self.cell: Cell = kinds.get(self.mode, functools.partial(Plain, relu=False))()
        self.directions = 2 if self.bidirectional else 1
        self.kinds = "fiub" if self.use_sequence_length else "f"

    def inputs(self):
        names = ["data", "parameters", "state"]
        names += ["state_cell"] if self.mode == "lstm" else []
        return (*names, "sequence_length") if self.use_sequence_length else tuple(names)

    def outputs(self):
        return ("out", *self._states(), "reserve")

    def counted_outputs(self):
        return self.visible_outputs()

    def visible_outputs(self):
        return 1 + len(self._states())

    def output_labels(self):
        labels = {"out": "output", "state_out": "state_output", "cell_out": "statecell_output"}
        return tuple(labels.get(n, n) for n in self.outputs())

    def _states(self) -> tuple[str, ...]:
        if not self.state_outputs:
            return ()
        return ("state_out", "cell_out") if self.mode == "lstm" else ("state_out",)

    # ---- shapes ----

    def infer_shape(self, data):
        if len(data) != 3:
            raise ValueError("data must be (steps, sequences, inputs)")
        steps, n, inputs = data
        states = (self.num_layers * self.directions, n, self.state_size)
        named = dict.fromkeys(("state", "state_cell", "state_out", "cell_out"), states)
        named |= {
            "parameters": (sum(size(shape) for shape in self._parameter_shapes(inputs)),),
            "sequence_length": (n,),
            "out": (steps, n, self.directions * self.state_size),
            "reserve": (sum(size(shape) for shape in self._reserve_shapes(steps, n).values()),),
        }
        return {name: named[name] for name in self.inputs()[1:] + self.outputs()}

    def infer_type(self, known):
        first = next((t for n, t in known.items() if t is not None and n != "sequence_length"), None)
        return dict.fromkeys(known, first) | {"sequence_length": known.get("sequence_length") or first}

    def _parts(self) -> Iterator[tuple[int, int]]:
        """Layer and direction of each part, in the order of parameters and states."""
        return ((layer, way) for layer in range(self.num_layers) for way in range(self.directions))

    def _parameter_shapes(self, inputs: int) -> list[Shape]:
        """Of weights and then biases, in their order."""
        rows, wide = (self.cell.gates, self.state_size), self.directions * self.state_size
        weights = [
            (*rows, columns) for layer, _ in self._parts() for columns in (wide if layer else inputs, self.state_size)
        ]
        return weights + [rows] * len(weights)

    def _reserve_shapes(self, steps: int, n: int) -> dict[Any, Shape]:
        """What backward wants to know, by name and layer: `h`, `fed` and `mask` of a layer, `gates` and `kept` of a
        part. The last layer's `fed`, or its `h` if nothing is masked, is `out`."""
        wide = (steps, n, self.directions * self.state_size)
        shapes: dict[Any, Shape] = {}
        for layer in range(self.num_layers):
            last = layer == self.num_layers - 1
            if not last or self._masked(layer):
                shapes["h", layer] = wide
            if not last and self._masked(layer):
                shapes["fed", layer] = wide
            if not last and self.p:
                shapes["mask", layer] = wide
        for part in self._parts():
            shapes["gates", part] = (self.cell.gates, steps, n, self.state_size)
            if self.cell.keeps:
                shapes["kept", part] = (steps, n, self.state_size)
        return shapes

    def _masked(self, layer: int) -> bool:
        """Whether a layer's states are multiplied by something before they go on."""
        return self.use_sequence_length or (self.p > 0 and layer < self.num_layers - 1)

    # ---- running ----

    def scratch(self, shapes, dtype):
        return {"turned": ((self.cell.gates, self.state_size, self.state_size), dtype)}

    def forward(self, xp, *inputs, out, reserve, state_out=None, cell_out=None, is_train=False, rng, turned):
        steps = Steps(xp)
        outs = {"out": out, "reserve": reserve, "state_out": state_out, "cell_out": cell_out}
        self.plan_forward(steps, dict(zip(self.inputs(), inputs, strict=True)), outs, is_train, rng, turned)
        steps.run()

    def backward(
        self, xp, gs, out, reserve, *inputs, d_data=None, d_parameters=None, d_state=None, d_state_cell=None, space
    ):
        steps = Steps(xp)
        wanted = {"data": d_data, "parameters": d_parameters, "state": d_state, "state_cell": d_state_cell}
        self.plan_backward(steps, gs, out, reserve, dict(zip(self.inputs(), inputs, strict=True)), wanted, space)
        steps.run()

    def plan_forward(self, steps: Steps, ins, outs, is_train: bool, rng, turned) -> None:
        """Append what computes `outs`, which hold `out` and `reserve`, from `ins`; both are arrays by name."""
        store = self._store(ins, outs["out"], outs["reserve"])
        self._prepare_masks(steps, ins, store, is_train, rng)
        for layer in range(self.num_layers):
            for way in range(self.directions):
                part = self._part(ins, store, layer, way, turned)
                self._part_forward(steps, part)
                place, last = layer * self.directions + way, part.moments()[-1]
                if outs.get("state_out") is not None:
                    steps.do(steps.xp.copyto, outs["state_out"][place], part.h[last])
                if outs.get("cell_out") is not None:
                    steps.do(steps.xp.copyto, outs["cell_out"][place], part.kept[last])
            if self._masked(layer):
                steps.do(steps.xp.multiply, store["h", layer], store["factor", layer], out=store["fed", layer])

    def _part_forward(self, steps: Steps, part: Part) -> None:
        xp, w = steps.xp, part.weights
        for weight, room in zip(w.h2h, part.turned, strict=True):
            steps.copy(weight.T, room)
        biases = xp.empty_like(w.i2h_bias)
        steps.do(xp.copyto, biases, w.i2h_bias)
        simple = slice(self.cell.plain_biases)
        steps.do(xp.add, biases[simple], w.h2h_bias[simple], out=biases[simple])
        for gate, weight, bias in zip(part.gates, w.i2h, biases, strict=True):
            steps.affine(_rows(part.x), weight.T, bias, _rows(gate))
        for moment in part.moments():
            before = part.before(moment, part.h, part.h0)
            self.cell.forward(steps, part, moment, before)
            if part.over is not None:
                steps.do(steps.xp.copyto, part.h[moment], before, where=part.over[moment])
                if self.mode == "lstm":
                    cell = part.before(moment, part.kept, part.c0)
                    steps.do(steps.xp.copyto, part.kept[moment], cell, where=part.over[moment])

    def plan_backward(self, steps: Steps, gs: Sequence, out, reserve, ins, wanted, space) -> None:
        """Append what computes the gradients `wanted` (by input; None = not wanted) from those of the outputs, `gs`."""
        xp, store = steps.xp, self._store(ins, out, reserve)
        if self.use_sequence_length:
            self._note_ends(steps, ins, store)
        temporary = self._carve(space, self._space_shapes(*ins["data"].shape))
        d_weights = None
        if wanted["parameters"] is not None:
            d_weights = self._weights(wanted["parameters"], ins["data"].shape[2])
        d_output = gs[0]
        for layer in reversed(range(self.num_layers)):
            d_h = self._through_mask(steps, store, layer, d_output, temporary)
            d_input = temporary["d_input", layer % self.directions] if layer else wanted["data"]
            for way in range(self.directions):
                part = self._part(ins, store, layer, way)
                place = layer * self.directions + way
                local = Space(temporary["d_gates"], temporary["dh"], temporary["dc"], temporary["work"])
                for running, head in ((local.dh, 1), (local.dc, 2)):
                    steps.do(*(xp.copyto, running, gs[head][place]) if len(gs) > head else (running.fill, 0))
                self._part_backward(steps, part, self._columns(d_h, way), local)
                for name, running in (("state", local.dh), ("state_cell", local.dc)):
                    if wanted.get(name) is not None:
                        steps.do(xp.copyto, wanted[name][place], running)
                self._part_products(steps, part, local, d_input, way > 0, d_weights and d_weights[place])
            d_output = d_input

    def _through_mask(self, steps: Steps, store, layer: int, d_output, temporary):
        """The gradient of a layer's states from that of what it hands on."""
        if not self._masked(layer):
            return d_output
        d_h = temporary["d_h"]
        steps.do(steps.xp.multiply, d_output, store["factor", layer], out=d_h)
        return d_h

    def _part_backward(self, steps: Steps, part: Part, d_h, space: Space) -> None:
        xp, do = steps.xp, steps.do
        for moment in reversed(part.moments()):
            before = part.before(moment, part.h, part.h0)
            do(xp.add, space.dh, d_h[moment], out=space.dh)
            if part.over is None:
                self._moment_backward(steps, part, moment, before, space)
            else:
                self._ended_backward(steps, part, moment, before, space)

    def _moment_backward(self, steps: Steps, part: Part, moment: int, before, space: Space) -> None:
        self.cell.backward(steps, part, moment, before, space)
        gradients = self.cell.hidden_gradients(steps, part, moment, space)
        for k, (gradient, weight) in enumerate(zip(gradients, part.weights.h2h, strict=True)):
            steps.product(gradient, weight, space.dh, add=self.cell.carries or k > 0)

    def _ended_backward(self, steps: Steps, part: Part, moment: int, before, space: Space) -> None:
        """One step where some sequences are over: their gradients wait as they are."""
        xp, do, over = steps.xp, steps.do, part.over[moment]
        waiting = [(running, running.copy()) for running in (space.dh, space.dc)]
        for running, copy in waiting:
            do(xp.copyto, copy, running)
            do(xp.copyto, running, 0, where=over)
        self._moment_backward(steps, part, moment, before, space)
        for running, copy in waiting:
            do(xp.copyto, running, copy, where=over)

    def _part_products(self, steps: Steps, part: Part, space: Space, d_input, add: bool, d_weights) -> None:
        """The gradients of what the part reads and of its weights, in products over all steps."""
        d_gates = space.d_gates
        for k in range(self.cell.gates if d_input is not None else 0):
            steps.product(_rows(d_gates[k]), part.weights.i2h[k], _rows(d_input), add=add or k > 0)
        if d_weights is None:
            return
        for k in range(self.cell.gates):
            steps.product(_rows(d_gates[k]).T, _rows(part.x), d_weights.i2h[k])
        steps.do(steps.xp.sum, d_gates, axis=(1, 2), out=d_weights.i2h_bias)
        self.cell.to_hidden(steps, part, space, d_weights)
        first, *_ = part.moments()
        later, earlier = (slice(None, -1), slice(1, None)) if part.backwards else (slice(1, None), slice(None, -1))
        for k in range(self.cell.gates):
            steps.product(d_gates[k, first].T, part.h0, d_weights.h2h[k])
            if len(part.h) > 1:
                steps.product(_rows(d_gates[k, later]).T, _rows(part.h[earlier]), d_weights.h2h[k], add=True)

    # ---- arrays ----

    def scratch_backward(self, shapes, dtype):
        wanted = self._space_shapes(*shapes["data"])
        return {"space": ((sum(size(shape) for shape in wanted.values()),), dtype)}

    def _space_shapes(self, steps: int, n: int, inputs: int) -> dict[Any, Shape]:
        wide, states = (steps, n, self.directions * self.state_size), (n, self.state_size)
        shapes: dict[Any, Shape] = {
            "d_gates": (self.cell.gates, steps, n, self.state_size), "dh": states, "dc": states, "work": (3, *states),
        }  # fmt: skip
        for layer in range(1, self.num_layers):  # where both directions read what one writes, two take turns
            shapes["d_input", layer % self.directions] = wide
        if any(map(self._masked, range(self.num_layers))):
            shapes["d_h"] = wide
        return shapes

    def _carve(self, flat, shapes: dict[Any, Shape]) -> dict[Any, Any]:
        """Views of a flat array, one after the other."""
        found, start = {}, 0
        for name, shape in shapes.items():
            found[name] = flat[start : start + size(shape)].reshape(shape)
            start += size(shape)
        return found

    def _store(self, ins, out, reserve) -> dict[Any, Any]:
        """What forward leaves for backward, by name and layer or part, with `out`, `factor` and `weights` at hand."""
        store = self._carve(reserve, self._reserve_shapes(*ins["data"].shape[:2]))
        last = self.num_layers - 1
        store["fed" if self._masked(last) else "h", last] = out
        for layer in range(last):
            store.setdefault(("fed", layer), store["h", layer])
            if ("mask", layer) in store:
                store["factor", layer] = store["mask", layer]
        store["weights"] = self._weights(ins["parameters"], ins["data"].shape[2])
        store["over"] = None
        return store

    def _prepare_masks(self, steps: Steps, ins, store, is_train: bool, rng) -> None:
        xp = steps.xp
        if self.use_sequence_length:
            self._note_ends(steps, ins, store)
        for layer in range(self.num_layers - 1 if self.p else 0):
            mask = store["mask", layer]
            steps.do(fill_mask, xp, rng, mask, self.p if is_train else 0)
            if self.use_sequence_length:
                steps.do(xp.copyto, mask, 0, where=store["over"])

    def _note_ends(self, steps: Steps, ins, store) -> None:
        """Tell `store` which steps of which sequences are over."""
        xp, (count, n) = steps.xp, ins["data"].shape[:2]
        over, alive = xp.empty((count, n, 1), "bool"), xp.empty((count, n, 1), ins["data"].dtype)
        moments = xp.arange(count).reshape(-1, 1, 1)
        steps.do(_compare, xp, moments, ins["sequence_length"], over, alive)
        store["over"] = over
        for layer in range(self.num_layers):
            store.setdefault(("factor", layer), alive)

    def _part(self, ins, store, layer: int, way: int, turned=None) -> Part:
        place = layer * self.directions + way
        return Part(
            ins["data"] if layer == 0 else store["fed", layer - 1],
            store["weights"][place],
            turned,
            ins["state"][place],
            ins["state_cell"][place] if self.mode == "lstm" else None,
            self._columns(store["h", layer], way),
            store["gates", (layer, way)],
            store.get(("kept", (layer, way))),
            way == 1,
            store["over"],
        )

    def _columns(self, wide, way: int):
        """One direction's part of (T, N, D * H)."""
        return wide[..., way * self.state_size : (way + 1) * self.state_size]

    def _weights(self, flat, inputs: int) -> list[Weights]:
        views = list(self._carve(flat, dict(enumerate(self._parameter_shapes(inputs)))).values())
        weights, biases = views[: len(views) // 2], views[len(views) // 2 :]
        return [Weights(*weights[i : i + 2], *biases[i : i + 2]) for i in range(0, len(weights), 2)]


def _compare(xp, moments, lengths, over, alive) -> None:
    xp.greater_equal(moments, lengths.reshape(-1, 1), out=over)
    xp.logical_not(over, out=alive, casting="unsafe")


def _rows(array):
    """(T, N, I) as a matrix (T * N, I)."""
    return array.reshape(-1, array.shape[-1])
