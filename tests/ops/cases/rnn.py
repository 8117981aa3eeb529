"""Rows: recurrent networks, against one sequence at a time, one step at a time, one gate at a time."""

import itertools

import numpy as np

from tests.ops.cases.reference import sigmoid
from tests.ops.cases.table import case, classes

GATES = {"rnn_relu": 1, "rnn_tanh": 1, "lstm": 4, "gru": 3}


def _step(mode, wx, rh, h, c, clip):
    """The next state and cell of one sequence; `wx` and `rh` (G, H) are the products with their biases."""
    if mode == "lstm":
        i, f, o = (sigmoid(wx[k] + rh[k]) for k in (0, 1, 3))
        c = f * c + i * np.tanh(wx[2] + rh[2])
        c = np.clip(c, *clip) if clip else c
        return o * np.tanh(c), c
    if mode == "gru":
        r, z = (sigmoid(wx[k] + rh[k]) for k in (0, 1))
        return (1 - z) * np.tanh(wx[2] + r * rh[2]) + z * h, c
    total = (wx + rh)[0]
    return np.tanh(total) if mode == "rnn_tanh" else np.maximum(total, 0), c


def _sequence(mode, x, parts, h, c, backwards, clip):
    """The states after each step of one sequence (T, I), and the last cell."""
    w, r, b, d = parts
    states = []
    for each in x[::-1] if backwards else x:
        wx, rh = (w @ each + b).reshape(GATES[mode], -1), (r @ h + d).reshape(GATES[mode], -1)
        h, c = _step(mode, wx, rh, h, c, clip)
        states.append(h)
    return (states[::-1] if backwards else states), h, c


def _unpack(flat, mode, inputs, units, layers, ways):
    rows, numbers = GATES[mode] * units, iter(flat)

    def take(*shape):
        return np.array(list(itertools.islice(numbers, int(np.prod(shape))))).reshape(shape)

    weights = [
        (take(rows, ways * units if layer else inputs), take(rows, units))
        for layer in range(layers) for _ in range(ways)
    ]  # fmt: skip
    return [(*pair, take(rows), take(rows)) for pair in weights]


def _mask(rng, p, shape):
    return (rng.random(shape, dtype=np.float32) >= p) / (1 - p)


def rnn(mode, layers=1, ways=1, clip=None, ends=False):
    """The reference for a case of these parameters."""

    def ref(x, flat, state, *more, rng=None, p=0):
        cells = more[0] if mode == "lstm" else np.zeros_like(state)
        steps, n, inputs = x.shape
        units = state.shape[2]
        lengths = more[-1] if ends else [steps] * n
        parts = _unpack(flat, mode, inputs, units, layers, ways)
        last, last_cells = np.zeros_like(state), np.zeros_like(state)
        masks = [_mask(rng, p, (steps, n, ways * units)) for _ in range(layers - 1)] if p else []
        for layer in range(layers):
            out = np.zeros((steps, n, ways * units))
            for way, k in itertools.product(range(ways), range(n)):
                place, length = layer * ways + way, int(lengths[k])
                begin = state[place, k], cells[place, k]
                states, *end = _sequence(mode, x[:length, k], parts[place], *begin, way == 1, clip)
                out[:length, k, way * units : (way + 1) * units] = np.reshape(states, (length, units))
                last[place, k], last_cells[place, k] = end
            x = out * masks[layer] if p and layer < layers - 1 else out
        return {"out": out, "state_out": last, "cell_out": last_cells}

    return ref


def _size(mode, inputs, units, layers=1, ways=1):
    rows = GATES[mode] * units
    return ways * rows * (inputs + units + 2 + (layers - 1) * (ways * units + units + 2))


def _row(mode, shape, units, layers=1, bidirectional=False, clip=None, ends=False, p=0.0, **params):
    ways = 2 if bidirectional else 1
    steps, n, inputs = shape
    reference = rnn(mode, layers, ways, clip, ends)
    wanted = ["out"] + (["state_out"] + ["cell_out"] * (mode == "lstm")) * bool(params.get("state_outputs"))

    def ref(*ins):
        return {name: value for name, value in reference(*ins).items() if name in wanted}

    def dropping(*ins, rng):
        return {name: value for name, value in reference(*ins, rng=rng, p=p).items() if name in wanted}

    states = [(layers * ways, n, units)] * (2 if mode == "lstm" else 1)
    lengths = [classes(n, steps + 1)] if ends else []
    gpu_only = ends or "lstm_state_clip_min" in params
    case("RNN", shape, (_size(mode, inputs, units, layers, ways),), *states, *lengths, mode=mode, state_size=units,
         num_layers=layers, bidirectional=bidirectional, use_sequence_length=ends, p=p, ref=dropping if p else ref,
         train=p > 0, between=(-0.8, 0.8), dtypes=("float32",) if p else ("float32", "float64"),
         mxnet="its CPU kernel ignores lengths and the clipping of states" if gpu_only else "", **params)  # fmt: skip


for _mode in GATES:
    _row(_mode, (3, 2, 4), 3)
    _row(_mode, (4, 3, 2), 5, layers=2, bidirectional=True, state_outputs=True)
    _row(_mode, (4, 3, 5), 4, layers=3, state_outputs=True)
    _row(_mode, (1, 2, 3), 2, layers=3, bidirectional=True)
    _row(_mode, (4, 3, 5), 4, layers=2, bidirectional=True, state_outputs=True, ends=True)
    _row(_mode, (4, 3, 5), 4, layers=3, p=0.4, state_outputs=True)
_row("lstm", (4, 3, 5), 4, layers=2, ends=True, p=0.4, state_outputs=True)
_row("lstm", (5, 2, 3), 4, clip=(-0.2, 0.3), lstm_state_clip_min=-0.2, lstm_state_clip_max=0.3, state_outputs=True)
_row("lstm", (9, 16, 40), 48, layers=2, state_outputs=True)
_row("gru", (9, 16, 40), 48, layers=2)
