"""A language model of characters: an LSTM learns a text, perplexity falls, and it writes a text of its own.

    python examples/char_lstm.py                                  # the topics of Python's own help, on this CPU
    python examples/char_lstm.py --data FILE-or-URL --num-epochs 10
    python examples/char_lstm.py --cells                          # the same network of cells, step by step
    python examples/char_lstm.py --ctx gpu --prefix s3://bucket/model

Training runs all steps at once (`FusedRNNCell`); to write, the same weights go into cells that take one step at a time.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import raymx as mx


def main(argv: list[str] | None = None) -> float:
    """Train as the command line says; returns the perplexity on text that was not trained on."""
    args = arguments().parse_args(argv)
    text = read(args.data)[: args.limit]
    numbers, letters = encode(text)
    train, test = split(numbers, args)
    context = device(args.ctx)
    print(f"{len(text)} characters, {len(letters)} different ones; device: {context}")
    mx.random.seed(args.seed)
    np.random.seed(args.seed)

    cell = mx.rnn.FusedRNNCell(args.hidden, num_layers=args.layers, mode="lstm", dropout=args.dropout, prefix="lstm_")
    used = cell.unfuse() if args.cells else cell
    module = mx.mod.Module(network(used, len(letters), args), context=context)
    perplexity = fit(module, train, test, args)
    arg_params, aux_params = module.get_params()
    if args.prefix:
        mx.rnn.save_rnn_checkpoint(used, args.prefix, args.num_epochs, module.symbol, arg_params, aux_params)
        print(f"saved {args.prefix}-symbol.json and {args.prefix}-{args.num_epochs:04d}.params")
    stack = cell.unfuse()
    writer = Writer(stack, stack.pack_weights(used.unpack_weights(arg_params)), letters, args)
    print(f"--- a sample ---\n{writer.write(args.sample, seed=args.seed)}\n---")
    print(f"test perplexity {perplexity:.3f}")
    return perplexity


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="text file, path or URL (default: the topics of Python's help)")
    parser.add_argument("--limit", type=int, default=500_000, help="use so many characters of it")
    parser.add_argument("--ctx", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--cells", action="store_true", help="train cells step by step, not the fused operator")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=256, help="units in a layer")
    parser.add_argument("--embed", type=int, default=64, help="numbers that stand for a character")
    parser.add_argument("--dropout", type=float, default=0.0, help="between the layers")
    parser.add_argument("--length", type=int, default=35, help="characters in a sequence")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--num-epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=0.003, help="learning rate of Adam")
    parser.add_argument("--sample", type=int, default=300, help="characters to write at the end")
    parser.add_argument("--temperature", type=float, default=0.7, help="0 always takes the likeliest character")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prefix", help="save PREFIX-symbol.json and PREFIX-NNNN.params; may be a URL")
    return parser


# ---- data ----


def read(path: str | None) -> str:
    """The text of a file, or Python's help on the language, which comes with Python."""
    if path:
        return mx.storage.read_bytes(path).decode("utf-8", errors="replace")
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def encode(text: str) -> tuple[np.ndarray, list[str]]:
    """The text as numbers, and the characters by number."""
    (numbers,), vocabulary = mx.rnn.encode_sentences([text], invalid_key=None)
    letters = sorted((number, letter) for letter, number in vocabulary.items() if letter is not None)
    return np.array(numbers, "float32"), [letter for _, letter in letters]


def split(numbers: np.ndarray, args) -> list[mx.io.NDArrayIter]:
    """Batches of sequences to train on, and of the last tenth to test on; a label is the character that follows."""
    count = (len(numbers) - 1) // args.length
    data, label = (numbers[i : i + count * args.length].reshape(count, args.length) for i in (0, 1))
    cut = count - max(count // 10, args.batch_size)
    if cut < args.batch_size:
        raise SystemExit(f"{len(numbers)} characters are too few: --batch-size sequences of --length are needed twice.")
    return [
        mx.io.NDArrayIter(data[rows], label[rows], args.batch_size, shuffle=shuffle, last_batch_handle="discard")
        for rows, shuffle in ((slice(cut), True), (slice(cut, None), False))
    ]


def device(kind: str) -> mx.Context:
    if kind == "gpu" and mx.num_gpus() == 0:
        mx.init(virtual_gpus=1)
    return mx.gpu() if kind == "gpu" else mx.cpu()


# ---- network ----


def network(cell, letters: int, args) -> mx.sym.Symbol:
    """data (N, T) → the probabilities (N * T, letters) of the characters that follow."""
    steps = mx.sym.SwapAxis(mx.sym.Variable("data"), dim1=0, dim2=1)  # time first, as recurrent layers like it
    embedded = mx.sym.Embedding(steps, input_dim=letters, output_dim=args.embed, name="embed")
    outputs, _ = cell.unroll(args.length, embedded, layout="TNC", merge_outputs=True)
    outputs = mx.sym.Reshape(mx.sym.SwapAxis(outputs, dim1=0, dim2=1), shape=(-1, args.hidden))
    scores = mx.sym.FullyConnected(outputs, num_hidden=letters, name="score")
    return mx.sym.SoftmaxOutput(scores, mx.sym.Reshape(mx.sym.Variable("softmax_label"), shape=(-1,)), name="softmax")


def fit(module, train, test, args) -> float:
    """Train; prints a line for each epoch and returns the last perplexity on `test`."""
    metric, began, seen = mx.metric.Perplexity(ignore_label=None), time.perf_counter(), []

    def trained(epoch, symbol, arg_params, aux_params):
        speed = train.num_data * args.length / (time.perf_counter() - began)
        seen.append((metric.get()[1], speed))

    def tested(param):
        nonlocal began
        perplexity, speed = seen[-1]
        print(f"epoch {param.epoch + 1}: train perplexity {perplexity:.3f}, test perplexity {metric.get()[1]:.3f}, "
              f"{speed:.0f} characters/s")  # fmt: skip
        began = time.perf_counter()

    module.fit(
        train, test, eval_metric=metric, optimizer="adam",
        optimizer_params={"learning_rate": args.lr, "rescale_grad": 1 / (args.batch_size * args.length)},
        initializer=mx.init.Xavier(), num_epoch=args.num_epochs,
        epoch_end_callback=trained, eval_end_callback=tested,
    )  # fmt: skip
    return metric.get()[1]


# ---- writing ----


class Writer:
    """One step of the network at a time: a character and the states in, probabilities and the next states out."""

    def __init__(self, stack, params: dict, letters: list[str], args):
        self.letters, self.temperature = letters, args.temperature
        embedded = mx.sym.Embedding(
            mx.sym.Variable("data"), input_dim=len(letters), output_dim=args.embed, name="embed"
        )  # fmt: skip
        begin = stack.begin_state(func=mx.sym.Variable)
        output, states = stack(embedded, begin)
        scores = mx.sym.FullyConnected(output, num_hidden=len(letters), name="score")
        self.names = [state.name for state in begin]
        shapes = dict(zip(self.names, [(1, args.hidden)] * len(begin), strict=True))
        group = mx.sym.Group([mx.sym.softmax(scores), *states])
        self.executor = group.simple_bind(mx.cpu(), grad_req="null", data=(1,), **shapes)
        self.executor.copy_params_from(params, allow_extra_params=True)

    def write(self, count: int, seed: int) -> str:
        """`count` characters, each drawn from what the network expects after those before it."""
        random = np.random.RandomState(seed)
        states = {name: np.zeros(self.executor.arg_dict[name].shape, "float32") for name in self.names}
        number, written = random.randint(len(self.letters)), []
        for _ in range(count):
            probabilities, *after = self.executor.forward(data=np.array([number], "float32"), **states)
            states = dict(zip(self.names, (state.asnumpy() for state in after), strict=True))
            number = self._drawn(probabilities.asnumpy()[0].astype("float64"), random)
            written.append(self.letters[number])
        return "".join(written)

    def _drawn(self, probabilities: np.ndarray, random) -> int:
        if self.temperature == 0:
            return int(probabilities.argmax())
        weights = probabilities ** (1 / self.temperature)
        return random.choice(len(weights), p=weights / weights.sum())


if __name__ == "__main__":
    main()
