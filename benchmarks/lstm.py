"""Training step of an LSTM of 2 layers with 256 units, 35 steps, batch 32, and a head of 65 classes, plain SGD.

Two forms: layers as one operator (`RNN`, `nn.LSTM`), and cells step by step (`LSTMCell.unroll`, `nn.LSTMCell` in a
loop). The MXNet form and raymx's are one function: the module is its argument.
"""

from __future__ import annotations

import sys

from harness import Bar, Benchmark, main, seconds

FUSED, UNROLLED = "fused", "unrolled"
CLASSES, RATE, DISTINCT_BATCHES = 65, 0.1, 4


def batches(options):
    """Synthetic inputs (T, N, H) and classes (T, N), float32."""
    import numpy as np

    random, shape = np.random.RandomState(0), (options.steps, options.batch, options.hidden)
    return [
        (random.randn(*shape).astype("float32"), random.randint(0, CLASSES, shape[:2]).astype("float32"))
        for _ in range(DISTINCT_BATCHES)
    ]


def network(mx, form, options):
    cell = mx.rnn.FusedRNNCell(options.hidden, num_layers=options.layers, mode="lstm", prefix="lstm_")
    cell = cell if form == FUSED else cell.unfuse()
    out, _ = cell.unroll(options.steps, mx.sym.Variable("data"), layout="TNC", merge_outputs=True)
    out = mx.sym.Reshape(out, shape=(-1, options.hidden))
    out = mx.sym.FullyConnected(out, num_hidden=CLASSES, name="head")
    return mx.sym.SoftmaxOutput(out, mx.sym.Reshape(mx.sym.Variable("label"), shape=(-1,)), name="softmax")


def bound(mx, ctx, form, options):
    """An executor with random parameters, and their names."""
    import numpy as np

    symbol, random = network(mx, form, options), np.random.RandomState(0)
    shapes = {"data": (options.steps, options.batch, options.hidden), "label": (options.steps, options.batch)}
    names = [name for name in symbol.list_arguments() if name not in shapes]
    learnt = [name for name in names if "begin_state" not in name]
    grad_req = dict.fromkeys(symbol.list_arguments(), "null") | dict.fromkeys(learnt, "write")
    executor = symbol.simple_bind(ctx, grad_req=grad_req, **shapes)
    for name in learnt:
        executor.arg_dict[name][:] = random.uniform(-0.07, 0.07, executor.arg_dict[name].shape).astype("float32")
    return executor, learnt


def script(mx, ctx, form, options):
    """One round as a function of nothing: `rounds` times forward, backward and one update per parameter."""
    executor, names = bound(mx, ctx, form, options)
    update = mx.optimizer.get_updater(
        mx.optimizer.SGD(learning_rate=RATE, rescale_grad=1 / (options.batch * options.steps), wd=0.0)
    )
    parameters = [(i, executor.grad_dict[name], executor.arg_dict[name]) for i, name in enumerate(names)]
    data = [(mx.nd.array(x, ctx), mx.nd.array(y, ctx)) for x, y in batches(options)]

    def steps():
        for number in range(options.updates):
            x, y = data[number % len(data)]
            executor.forward(is_train=True, data=x, label=y)
            executor.backward()
            for index, gradient, weight in parameters:
                update(index, gradient, weight)
        mx.nd.waitall()

    return steps


def rate(options, steps):
    return lambda: options.updates * options.batch / seconds(steps)


def tasks(mx, ctx, options):
    return {form: rate(options, script(mx, ctx, form, options)) for form in (FUSED, UNROLLED)}


def raymx(options):
    import raymx as mx

    return tasks(mx, mx.cpu(), options)


def raymx_actor(options):
    import raymx as mx

    return tasks(mx, mx.cpu(1), options)


def mxnet(options):
    import mxnet as mx

    return tasks(mx, mx.cpu(), options)


def torch(options):
    import torch
    from torch import nn

    class Cells(nn.Module):
        """Layers of cells, each going through all steps."""

        def __init__(self):
            super().__init__()
            self.cells = nn.ModuleList(nn.LSTMCell(options.hidden, options.hidden) for _ in range(options.layers))

        def forward(self, x):
            inputs = x.unbind(0)
            for cell in self.cells:
                state, outputs = None, []
                for each in inputs:
                    state = cell(each, state)
                    outputs.append(state[0])
                inputs = outputs
            return torch.stack(inputs)

    class Network(nn.Module):
        def __init__(self, form):
            super().__init__()
            self.fused = form == FUSED
            self.body = nn.LSTM(options.hidden, options.hidden, options.layers) if self.fused else Cells()
            self.head = nn.Linear(options.hidden, CLASSES)

        def forward(self, x):
            out = self.body(x)[0] if self.fused else self.body(x)
            return self.head(out.reshape(-1, options.hidden))

    data = [(torch.from_numpy(x), torch.from_numpy(y).long().reshape(-1)) for x, y in batches(options)]
    loss = nn.CrossEntropyLoss()

    def script(form):
        model = Network(form)
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

        def steps():
            for number in range(options.updates):
                x, y = data[number % len(data)]
                optimizer.zero_grad()
                loss(model(x), y).backward()
                optimizer.step()

        return steps

    return {form: rate(options, script(form)) for form in (FUSED, UNROLLED)}


BENCH = Benchmark(
    name="lstm",
    title="training an LSTM, SGD",
    unit="sequences/s",
    more_is_better=True,
    workers={"raymx": raymx, "raymx-actor": raymx_actor, "mxnet": mxnet, "torch": torch},
    options={"layers": 2, "hidden": 256, "steps": 35, "batch": 32, "updates": 20},
    bars=[
        Bar(FUSED, "raymx", 1.2, [(FUSED, "mxnet"), (FUSED, "torch")]),
        Bar(UNROLLED, "raymx", 1.2, [(UNROLLED, "mxnet"), (UNROLLED, "torch")]),
        Bar(FUSED, "raymx-actor", 0.9, [(FUSED, "raymx")]),
        Bar(UNROLLED, "raymx-actor", 0.9, [(UNROLLED, "raymx")]),
    ],
    rounds=5,
)

if __name__ == "__main__":
    sys.exit(main(BENCH))
