"""A loss written in Python: train on handwritten digits with a softmax of our own, in each of three ways to write it.

    python examples/custom_softmax.py                    # mx.operator.CustomOp, on this process's CPU
    python examples/custom_softmax.py --kind numpy       # mx.operator.NumpyOp: NumPy arrays, filled in place
    python examples/custom_softmax.py --kind function    # mx.autograd.Function, in an imperative loop
    python examples/custom_softmax.py --ctx gpu          # on a GPU of the cluster, or a virtual one
"""

from __future__ import annotations

import numpy as np
from digits import devices, load, options

import raymx as mx

KINDS = ("custom", "numpy", "function")


class Softmax(mx.operator.CustomOp):
    """out = softmax of data along its last axis; the gradient that comes in is ignored."""

    def forward(self, is_train, req, in_data, out_data, aux):
        x = in_data[0]
        y = mx.nd.exp(mx.nd.broadcast_minus(x, mx.nd.max(x, axis=1, keepdims=True)))
        self.assign(out_data[0], req[0], mx.nd.broadcast_div(y, mx.nd.sum(y, axis=1, keepdims=True)))

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        y = out_data[0]
        right = mx.nd.one_hot(in_data[1], depth=y.shape[1])
        self.assign(in_grad[0], req[0], y - right)


@mx.operator.register("own_softmax")
class SoftmaxProp(mx.operator.CustomOpProp):
    """What graphs ask about it: data (N, K), label (N,), output (N, K)."""

    def __init__(self):
        super().__init__(need_top_grad=False)

    def list_arguments(self):
        return ["data", "label"]

    def infer_shape(self, in_shape):
        return [in_shape[0], [in_shape[0][0]]], [in_shape[0]], []

    def create_operator(self, ctx, in_shapes, in_dtypes):
        return Softmax()


class NumpySoftmax(mx.operator.NumpyOp):
    """The same on NumPy arrays: the device's memory, to be filled in place."""

    def __init__(self):
        super().__init__(need_top_grad=False)

    def list_arguments(self):
        return ["data", "label"]

    def infer_shape(self, in_shape):
        return [in_shape[0], [in_shape[0][0]]], [in_shape[0]]

    def forward(self, in_data, out_data):
        x, y = in_data[0], out_data[0]
        np.exp(x - x.max(axis=1, keepdims=True), out=y)
        y /= y.sum(axis=1, keepdims=True)

    def backward(self, out_grad, in_data, out_data, in_grad):
        label = in_data[1].astype(int)
        in_grad[0][:] = out_data[0]
        in_grad[0][np.arange(len(label)), label] -= 1


class SoftmaxFunction(mx.autograd.Function):
    """The same for imperative code."""

    def forward(self, x, label):
        y = mx.nd.softmax(x)
        self.save_for_backward(y, label)
        return y

    def backward(self, dy):
        y, label = self.saved_tensors
        return y - mx.nd.one_hot(label, depth=y.shape[1]), mx.nd.zeros(label.shape, label.context)


def main(argv: list[str] | None = None) -> float:
    """Train as the command line says; returns the accuracy on the test data."""
    parser = options(__doc__, num_epochs=10, lr=0.1)
    parser.add_argument("--kind", choices=KINDS, default="custom")
    args = parser.parse_args(argv)
    train, test = load(args.data)
    contexts = devices(args.ctx, args.num_devices)
    mx.random.seed(args.seed)
    np.random.seed(args.seed)
    if args.kind == "function":
        accuracy = train_imperatively(args, train, test, contexts[0])
    else:
        module = mx.mod.Module(network(args.kind), context=contexts)
        module.fit(
            mx.io.NDArrayIter(*train, args.batch_size, shuffle=True), num_epoch=args.num_epochs,
            initializer=mx.init.Xavier(), optimizer_params={"learning_rate": args.lr, "momentum": 0.9},
        )  # fmt: skip
        accuracy = dict(module.score(mx.io.NDArrayIter(*test, args.batch_size), "acc"))["accuracy"]
    print(f"{args.kind}: test accuracy {accuracy:.4f}")
    return accuracy


def network(kind: str):
    """One hidden layer, and our softmax."""
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=64, name="fc1")
    net = mx.sym.FullyConnected(mx.sym.Activation(net, act_type="relu"), num_hidden=10, name="fc2")
    label = mx.sym.Variable("softmax_label")
    if kind == "numpy":
        return NumpySoftmax()(net, label, name="softmax")
    return mx.sym.Custom(net, label, op_type="own_softmax", name="softmax")


def train_imperatively(args, train, test, ctx) -> float:
    """The same network without a symbol."""
    shapes = {"w1": (64, train[0].shape[1]), "b1": (64,), "w2": (10, 64), "b2": (10,)}
    params = {name: mx.nd.array(np.random.uniform(-0.1, 0.1, shape), ctx) for name, shape in shapes.items()}
    for each in params.values():
        each.attach_grad()

    def scores(x):
        hidden = mx.nd.FullyConnected(x, params["w1"], params["b1"], num_hidden=64)
        return mx.nd.FullyConnected(mx.nd.relu(hidden), params["w2"], params["b2"], num_hidden=10)

    for _ in range(args.num_epochs):
        order = np.random.permutation(len(train[0]))
        for start in range(0, len(order), args.batch_size):
            batch = order[start : start + args.batch_size]
            x, label = (mx.nd.array(part[batch], ctx) for part in train)
            with mx.autograd.record():
                y = SoftmaxFunction()(scores(x), label)
            y.backward()
            for each in params.values():
                each -= 4 * args.lr / len(batch) * each.grad
    guessed = scores(mx.nd.array(test[0], ctx)).asnumpy().argmax(axis=1)
    return float((guessed == test[1]).mean())


if __name__ == "__main__":
    main()
