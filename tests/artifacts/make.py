"""Write the stored models. Run by the Python of MXNet's environment (see benchmarks/peers.py):

    ~/.cache/raymx-bench/mxnet/bin/python tests/artifacts/make.py
"""

import pathlib

import mxnet as mx
import numpy as np

HERE = pathlib.Path(__file__).parent


# ---- models: symbol, shapes of what is fed ----


def convolution(data, name, filters, kernel=(3, 3), act="relu", **params):
    data = mx.sym.Convolution(data, name=name, num_filter=filters, kernel=kernel, no_bias=True, **params)
    data = mx.sym.BatchNorm(data, name=name + "_bn", fix_gamma=False, eps=2e-5, momentum=0.9)
    return mx.sym.Activation(data, name=name + "_act", act_type=act) if act else data


def classes(data, n, name="softmax"):
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(mx.sym.Flatten(data), num_hidden=n, name="fc"), name=name)


def resnet():
    """Blocks with shortcuts, channels that are multiples of 16."""
    data = convolution(mx.sym.Variable("data"), "stem", 16, pad=(1, 1))
    for i, (filters, stride) in enumerate([(16, 1), (32, 2)]):
        branch = convolution(data, f"b{i}_a", filters, pad=(1, 1), stride=(stride, stride))
        branch = convolution(branch, f"b{i}_b", filters, pad=(1, 1), act=None)
        if stride > 1:
            data = convolution(data, f"b{i}_short", filters, (1, 1), stride=(stride, stride), act=None)
        data = mx.sym.Activation(branch + data, act_type="relu", name=f"b{i}_out")
    data = mx.sym.Pooling(data, global_pool=True, kernel=(4, 4), pool_type="avg", name="pool")
    return classes(data, 10), {"data": (4, 3, 12, 12), "softmax_label": (4,)}


def inception():
    """Branches that are joined, several kinds of pooling, dropout without effect, local response normalisation."""
    data = mx.sym.Variable("data")
    data = mx.sym.Convolution(data, num_filter=8, kernel=(5, 5), stride=(2, 2), pad=(2, 2), name="c1")
    data = mx.sym.LRN(mx.sym.LeakyReLU(data, act_type="elu", slope=0.3), nsize=5, alpha=1e-3, name="norm")
    data = mx.sym.Pooling(data, kernel=(3, 3), stride=(2, 2), pool_type="max", pooling_convention="full", name="p1")
    branches = [
        convolution(data, "one", 6, (1, 1)),
        convolution(convolution(data, "reduce", 4, (1, 1), "tanh"), "three", 10, pad=(1, 1)),
        mx.sym.Pooling(data, kernel=(3, 3), pad=(1, 1), pool_type="avg", name="p2"),
    ]
    data = mx.sym.Concat(*branches, dim=1, name="join")
    data = mx.sym.Dropout(data, p=0.0)
    data = mx.sym.Pooling(data, kernel=(2, 2), stride=(2, 2), pool_type="sum", name="p3")
    return classes(data, 7), {"data": (3, 3, 30, 26), "softmax_label": (3,)}


def autoencoder():
    """Transposed convolutions, upsampling, a parametric activation, a regression loss."""
    data = mx.sym.Variable("data")
    data = mx.sym.Convolution(data, num_filter=6, kernel=(3, 3), stride=(2, 2), pad=(1, 1), name="e1")
    data = mx.sym.LeakyReLU(data, act_type="prelu", name="prelu")
    data = mx.sym.Convolution(data, num_filter=12, kernel=(3, 3), num_group=3, dilate=(2, 2), pad=(2, 2), name="e2")
    data = mx.sym.InstanceNorm(data, name="inorm")
    data = mx.sym.Deconvolution(data, num_filter=6, kernel=(4, 4), stride=(2, 2), pad=(1, 1), num_group=2, name="d1")
    data = mx.sym.UpSampling(data, scale=2, sample_type="nearest")
    data = mx.sym.Pad(data, mode="edge", pad_width=(0, 0, 0, 0, 1, 1, 1, 1))
    data = mx.sym.Pooling(data, kernel=(2, 2), stride=(2, 2))
    data = mx.sym.Convolution(data, num_filter=2, kernel=(4, 4), pad=(1, 1), name="e3")
    shape = (2, 2, 16, 16)
    return mx.sym.LogisticRegressionOutput(data, name="out"), {"data": shape, "out_label": shape}


def sentences():
    """Embedding, convolutions over words, max over time: operators of 1.x."""
    data = mx.sym.Embedding(mx.sym.Variable("data"), input_dim=30, output_dim=12, name="embed")
    data = mx.sym.expand_dims(data, axis=1)
    pooled = []
    for width in (2, 3):
        words = mx.sym.Convolution(data, kernel=(width, 12), num_filter=8, name=f"conv{width}")
        pooled.append(mx.sym.max(mx.sym.relu(words), axis=2))
    data = mx.sym.LayerNorm(mx.sym.squeeze(mx.sym.concat(*pooled, dim=1), axis=2), name="ln")
    data = mx.sym.broadcast_mul(data, mx.sym.Variable("scale", shape=(1, 16)))
    logits = mx.sym.FullyConnected(data, num_hidden=3, name="fc", flatten=False)
    loss = mx.sym.pick(mx.sym.log_softmax(logits), mx.sym.Variable("label"), axis=1)
    heads = [mx.sym.MakeLoss(-mx.sym.mean(loss), name="loss"), mx.sym.BlockGrad(mx.sym.argmax(logits, axis=1))]
    return mx.sym.Group(heads), {"data": (5, 9), "label": (5,)}


def lstm():
    """The fused operator for recurrent layers, two of them in both directions."""
    data = mx.sym.swapaxes(mx.sym.Embedding(mx.sym.Variable("data"), input_dim=20, output_dim=6, name="embed"), 0, 1)
    cell = mx.rnn.FusedRNNCell(5, num_layers=2, mode="lstm", bidirectional=True, prefix="lstm_")
    outputs, _ = cell.unroll(7, data, layout="TNC", merge_outputs=True)
    data = mx.sym.FullyConnected(mx.sym.Reshape(outputs, shape=(-1, 10)), num_hidden=4, name="fc")
    label = mx.sym.Reshape(mx.sym.swapaxes(mx.sym.Variable("softmax_label"), 0, 1), shape=(-1,))
    return mx.sym.SoftmaxOutput(data, label, name="softmax"), {"data": (3, 7), "softmax_label": (3, 7)}


def cells():
    """Recurrent layers as graphs, unrolled: a gated unit over a long short-term memory with a residual connection."""
    stack = mx.rnn.SequentialRNNCell()
    stack.add(mx.rnn.GRUCell(6, prefix="gru_"))
    stack.add(mx.rnn.ResidualCell(mx.rnn.LSTMCell(6, prefix="lstm_")))
    outputs, _ = stack.unroll(4, mx.sym.Variable("data"), layout="NTC", merge_outputs=False)
    data = mx.sym.FullyConnected(outputs[-1], num_hidden=5, name="fc")
    return mx.sym.SVMOutput(data, name="svm"), {"data": (3, 4, 6), "svm_label": (3,)}


MODELS = [resnet, inception, autoencoder, sentences, lstm, cells]
WHOLE = {"data": 20, "softmax_label": 4, "label": 3, "svm_label": 5}  # what is fed as whole numbers, and below what


# ---- running them ----


def is_whole(name, shape):
    return name in WHOLE and (name != "data" or len(shape) == 2)


def fed(name, shape, random):
    return random.randint(0, WHOLE[name], shape) if is_whole(name, shape) else random.uniform(0, 1, shape)


def run(model):
    name, (symbol, shapes) = model.__name__, model()
    random = np.random.RandomState(len(name))
    idle = [n for n, shape in shapes.items() if is_whole(n, shape) or n.endswith("label")]
    reqs = {n: "null" if n in idle else "write" for n in symbol.list_arguments()}
    executor = symbol.simple_bind(mx.cpu(), grad_req=reqs, **shapes)
    arrays = {}
    for argument, array in executor.arg_dict.items():
        if argument in shapes:
            array[:] = arrays["in:" + argument] = fed(argument, array.shape, random).astype("float32")
        else:
            spread = 0.2 if "gamma" not in argument else 0.5
            array[:] = random.uniform(-spread, spread, array.shape) + (1.0 if "gamma" in argument else 0.0)
    for state, array in executor.aux_dict.items():
        low, high = (0.5, 1.5) if state.endswith("var") else (-0.1, 0.1)
        array[:] = random.uniform(low, high, array.shape)
    parameters = {n: a.copy() for n, a in executor.arg_dict.items() if n not in shapes}
    states = {n: a.copy() for n, a in executor.aux_dict.items()}
    mx.model.save_checkpoint(str(HERE / name), 1, symbol, parameters, states)
    record(arrays, "eval", executor.forward(is_train=False))
    outputs = executor.forward(is_train=True)
    record(arrays, "train", outputs)
    heads = [random.uniform(-1, 1, o.shape).astype("float32") for o in outputs]
    executor.backward([mx.nd.array(h) for h in heads])
    arrays.update({f"head:{i}": h for i, h in enumerate(heads)})
    arrays.update({"grad:" + n: g.asnumpy() for n, g in executor.grad_dict.items() if g is not None})
    arrays.update({"aux:" + n: a.asnumpy() for n, a in executor.aux_dict.items()})
    np.savez_compressed(str(HERE / name) + ".npz", **arrays)


def record(arrays, what, outputs):
    arrays.update({f"{what}:{i}": o.asnumpy() for i, o in enumerate(outputs)})


if __name__ == "__main__":
    for each in MODELS:
        run(each)
        print(each.__name__)
