"""Train a language model whose LSTM layers lie on several devices, each layer on its own.

    python examples/model_parallel_lstm.py                           # two layers on the device actors cpu(1), cpu(2)
    python examples/model_parallel_lstm.py --ctx gpu --num-layers 4  # four layers on gpu(0) to gpu(3)
    RAYMX_TRACE=trace.json python examples/model_parallel_lstm.py    # see the devices work at the same time

The layers are groups (`mx.AttrScope(ctx_group=…)`), and binding says where each group lives: parameters, gradients and
states of a layer lie on its device, and only hidden states and their gradients travel. While a layer works on one time
step, the layer below it works on the next. The text is made up: each symbol follows from the second one before it, so
that a model with a memory soon knows what comes.
"""

from __future__ import annotations

import argparse

import numpy as np

import raymx as mx


def main(argv: list[str] | None = None) -> float:
    """Train as the command line says; returns the perplexity at the end."""
    args = arguments().parse_args(argv)
    np.random.seed(args.seed)
    mx.random.seed(args.seed)
    layers = [f"layer{i}" for i in range(args.num_layers)]
    placed = {layer: context(args.ctx, i) for i, layer in enumerate(layers)}
    print(f"{len(layers)} layers on {', '.join(map(str, placed.values()))}")
    net = network(args, layers)
    executor = net.simple_bind(placed[layers[0]], group2ctx=placed, grad_req=grad_req(net), **shapes(args, layers))
    for name in parameters(net):
        executor.arg_dict[name][:] = np.random.uniform(-0.2, 0.2, executor.arg_dict[name].shape)
    scale = 1 / (args.batch_size * args.num_steps)
    updater = mx.optimizer.get_updater(mx.optimizer.create("adam", learning_rate=args.lr, rescale_grad=scale))
    perplexity = float("nan")
    for update in range(1, args.num_updates + 1):
        perplexity = step(executor, updater, parameters(net), args)
        if update % 10 == 0 or update == args.num_updates:
            print(f"update {update}: perplexity {perplexity:.2f}")
    return perplexity


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ctx", choices=("cpu", "gpu"), default="cpu", help="kind of the devices")
    parser.add_argument("--num-layers", type=int, default=2, help="LSTM layers, each on a device of its own")
    parser.add_argument("--num-hidden", type=int, default=64, help="units of a layer")
    parser.add_argument("--num-steps", type=int, default=16, help="time steps to unroll")
    parser.add_argument("--num-symbols", type=int, default=12, help="size of the alphabet")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--num-updates", type=int, default=60)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=1)
    return parser


def context(kind: str, number: int):
    """The device of a layer; `cpu(0)` is this process, which is left to the script."""
    return mx.gpu(number) if kind == "gpu" else mx.cpu(number + 1)


# ---- the network ----


def network(args, layers):
    """Symbols in, the next symbols' probabilities out: a loss for each time step."""
    with mx.AttrScope(ctx_group=layers[0]):
        embedding = mx.sym.Variable("embedding_weight")
    with mx.AttrScope(ctx_group=layers[-1]):
        out_weight, out_bias = mx.sym.Variable("out_weight"), mx.sym.Variable("out_bias")
    weights, states = {}, {}
    for layer in layers:
        with mx.AttrScope(ctx_group=layer):
            weights[layer] = [mx.sym.Variable(f"{layer}_{n}") for n in ("x_weight", "x_bias", "h_weight", "h_bias")]
            states[layer] = mx.sym.Variable(f"{layer}_c"), mx.sym.Variable(f"{layer}_h")
    losses = []
    for t in range(args.num_steps):
        with mx.AttrScope(ctx_group=layers[0]):
            hidden = mx.sym.Embedding(
                mx.sym.Variable(f"data{t}"), embedding, input_dim=args.num_symbols, output_dim=args.num_hidden,
                name=f"embedding{t}",
            )  # fmt: skip
        for layer in layers:
            with mx.AttrScope(ctx_group=layer):
                states[layer] = cell(hidden, *states[layer], *weights[layer], args.num_hidden, f"{layer}_{t}")
                hidden = states[layer][1]
        with mx.AttrScope(ctx_group=layers[-1]):
            score = mx.sym.FullyConnected(hidden, out_weight, out_bias, num_hidden=args.num_symbols, name=f"score{t}")
            losses.append(mx.sym.SoftmaxOutput(score, mx.sym.Variable(f"label{t}"), name=f"loss{t}"))
    return mx.sym.Group(losses)


def cell(x, c, h, x_weight, x_bias, h_weight, h_bias, hidden: int, name: str):
    """One time step of a layer: the next memory c and hidden state h, all (batch, hidden)."""
    gates = mx.sym.FullyConnected(x, x_weight, x_bias, num_hidden=4 * hidden, name=f"{name}_x") + mx.sym.FullyConnected(
        h, h_weight, h_bias, num_hidden=4 * hidden, name=f"{name}_h"
    )
    write, change, forget, show = mx.sym.SliceChannel(gates, num_outputs=4, name=f"{name}_gates")
    write, forget, show = (mx.sym.Activation(gate, act_type="sigmoid") for gate in (write, forget, show))
    c = forget * c + write * mx.sym.Activation(change, act_type="tanh")
    return c, show * mx.sym.Activation(c, act_type="tanh")


def parameters(net) -> list[str]:
    """Names of what is learnt."""
    return [name for name in net.list_arguments() if name.endswith(("weight", "bias"))]


def grad_req(net) -> dict[str, str]:
    return dict.fromkeys(parameters(net), "write")


def shapes(args, layers) -> dict[str, tuple[int, ...]]:
    """Shapes of everything that is no parameter."""
    found: dict[str, tuple[int, ...]] = {}
    for t in range(args.num_steps):
        found[f"data{t}"] = found[f"label{t}"] = (args.batch_size,)
    for layer in layers:
        found[f"{layer}_c"] = found[f"{layer}_h"] = (args.batch_size, args.num_hidden)
    return found


# ---- training ----


def step(executor, updater, names, args) -> float:
    """One update, each parameter's on its own device, for a fresh batch; the perplexity before it."""
    text = sentences(args.batch_size, args.num_steps + 1, args.num_symbols)
    for t in range(args.num_steps):
        executor.arg_dict[f"data{t}"][:] = text[:, t]
        executor.arg_dict[f"label{t}"][:] = text[:, t + 1]
    executor.forward(is_train=True)
    executor.backward()
    for index, name in enumerate(names):
        updater(index, executor.grad_dict[name], executor.arg_dict[name])
    rows = np.arange(args.batch_size)
    guesses = [probabilities.asnumpy()[rows, text[:, t + 1]] for t, probabilities in enumerate(executor.outputs)]
    return float(np.exp(-np.mean(np.log(np.maximum(guesses, 1e-10)))))


def sentences(count: int, length: int, symbols: int) -> np.ndarray:
    """Made-up text (count, length): each symbol is one more than the second one before it."""
    text = np.random.randint(0, symbols, (count, length))
    for t in range(2, length):
        text[:, t] = (text[:, t - 2] + 1) % symbols
    return text


if __name__ == "__main__":
    main()
