"""The networks that several benchmarks train, as symbols of `mx` (raymx or MXNet alike), and one way to train them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

RATE = 0.1
DISTINCT_BATCHES = 16  # enough that inputs do not stay in a core's cache from step to step
CLASSES = 10


def samples(count, shape):
    """Synthetic inputs (count, *shape) float32 and classes (count,) float32."""
    import numpy as np

    random = np.random.RandomState(0)
    x, y = random.rand(count, *shape), random.randint(0, CLASSES, count)
    return x.astype("float32"), y.astype("float32")


def batches(size, shape):
    """Some batches of `samples`."""
    x, y = samples(DISTINCT_BATCHES * size, shape)
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


# ---- symbols ----


def mlp(mx, sizes):
    """Layers of `sizes[1:]` units with ReLU between them."""
    out = mx.sym.Variable("data")
    for number, hidden in enumerate(sizes[1:-1], 1):
        out = mx.sym.FullyConnected(out, num_hidden=hidden, name=f"fc{number}")
        out = mx.sym.Activation(out, act_type="relu", name=f"relu{number}")
    out = mx.sym.FullyConnected(out, num_hidden=sizes[-1], name="out")
    return mx.sym.SoftmaxOutput(out, name="softmax")


def lenet(mx):
    """Two convolutions of 20 and 50 filters 5x5, each with tanh and 2x2 maximum; 500 units with tanh; 10 classes."""
    out = mx.sym.Variable("data")
    for number, filters in enumerate((20, 50), 1):
        out = mx.sym.Convolution(out, kernel=(5, 5), num_filter=filters, name=f"conv{number}")
        out = mx.sym.Activation(out, act_type="tanh", name=f"tanh{number}")
        out = mx.sym.Pooling(out, pool_type="max", kernel=(2, 2), stride=(2, 2), name=f"pool{number}")
    out = mx.sym.FullyConnected(mx.sym.Flatten(out), num_hidden=500, name="fc1")
    out = mx.sym.Activation(out, act_type="tanh", name="tanh3")
    out = mx.sym.FullyConnected(out, num_hidden=CLASSES, name="fc2")
    return mx.sym.SoftmaxOutput(out, name="softmax")


def resnet(mx, units=3):
    """ResNet of 6 * `units` + 2 layers for 32x32 (He et al. 2015, 4.2), shortcuts 1x1 where shapes change."""

    def convolution(data, filters, kernel, stride, name):
        pad = kernel // 2
        out = mx.sym.Convolution(data, kernel=(kernel, kernel), stride=(stride, stride), pad=(pad, pad),
                                 num_filter=filters, no_bias=True, name=f"{name}_conv")  # fmt: skip
        return mx.sym.BatchNorm(out, fix_gamma=False, name=f"{name}_bn")

    def relu(data, name):
        return mx.sym.Activation(data, act_type="relu", name=f"{name}_relu")

    out = relu(convolution(mx.sym.Variable("data"), 16, 3, 1, "first"), "first")
    for stage, filters in enumerate((16, 32, 64)):
        for unit in range(units):
            name, stride = f"stage{stage}_unit{unit}", 2 if stage and not unit else 1
            inner = relu(convolution(out, filters, 3, stride, f"{name}_a"), f"{name}_a")
            inner = convolution(inner, filters, 3, 1, f"{name}_b")
            shortcut = out if stride == 1 else convolution(out, filters, 1, stride, f"{name}_shortcut")
            out = relu(inner + shortcut, name)
    out = mx.sym.Pooling(out, pool_type="avg", global_pool=True, kernel=(8, 8), name="pool")
    out = mx.sym.FullyConnected(mx.sym.Flatten(out), num_hidden=CLASSES, name="fc")
    return mx.sym.SoftmaxOutput(out, name="softmax")


# ---- training ----


def bound(mx, ctx, symbol, shapes: Mapping[str, Sequence[int]]) -> tuple[Any, list[str]]:
    """An executor with random parameters, and their names; what `shapes` names is no parameter."""
    import numpy as np

    random = np.random.RandomState(0)
    arguments = symbol.list_arguments()
    names = [name for name in arguments if name not in shapes and "begin_state" not in name]
    grad_req = dict.fromkeys(arguments, "null") | dict.fromkeys(names, "write")
    executor = symbol.simple_bind(ctx, grad_req=grad_req, **shapes)
    for name in names:
        middle = 1 if name.endswith("gamma") else 0
        value = random.uniform(middle - 0.07, middle + 0.07, executor.arg_dict[name].shape)
        executor.arg_dict[name][:] = value.astype("float32")
    for name, state in executor.aux_dict.items():
        state[:] = 1 if name.endswith("var") else 0
    return executor, names


def script(mx, ctx, symbol, shape, options) -> Callable[[], None]:
    """One round as a function of nothing: `options.steps` times forward, backward and one update per parameter."""
    size = options.batch
    executor, names = bound(mx, ctx, symbol, {"data": (size, *shape), "softmax_label": (size,)})
    update = mx.optimizer.get_updater(mx.optimizer.SGD(learning_rate=RATE, rescale_grad=1 / size, wd=0.0))
    parameters = [(i, executor.grad_dict[name], executor.arg_dict[name]) for i, name in enumerate(names)]
    data = [(mx.nd.array(x, ctx), mx.nd.array(y, ctx)) for x, y in batches(size, shape)]

    def steps():
        for number in range(options.steps):
            x, y = data[number % len(data)]
            executor.forward(is_train=True, data=x, softmax_label=y)
            executor.backward()
            for index, gradient, weight in parameters:
                update(index, gradient, weight)
        mx.nd.waitall()

    return steps


def torch_script(model, shape, options) -> Callable[[], None]:
    """The same with a PyTorch module."""
    import torch

    loss, optimizer = torch.nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=RATE)
    data = [(torch.from_numpy(x), torch.from_numpy(y).long()) for x, y in batches(options.batch, shape)]

    def steps():
        for number in range(options.steps):
            x, y = data[number % len(data)]
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()

    return steps
