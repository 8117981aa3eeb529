"""The engine's promise: a random program over several devices gives exactly what serial NumPy execution gives.

A program is a list of random steps on arrays and views: arithmetic, in-place updates, slices, copies between devices,
deletes, gathers, and bound graphs that run in between. Each step is done twice, by raymx and by NumPy.
"""

import random

import numpy as np
import pytest

import raymx as mx
from tests import devices

STEPS = 40
WIDTH = 3


class Pair:
    """The same array on both sides."""

    def __init__(self, ours, theirs):
        self.ours, self.theirs = ours, theirs

    @property
    def key(self):
        return self.theirs.shape, self.ours.context


class Program:
    """One random program. Values stay small, so that nothing overflows and equality can be exact."""

    def __init__(self, seed: int, contexts):
        self.chance = random.Random(seed)
        self.contexts = contexts
        self.live: list[Pair] = []
        self.bound: list[tuple] = []
        self.seed = seed

    def run(self) -> None:
        self.new()
        steps = [self.new, self.view, self.reshape, self.scalar, self.inplace, self.binary, self.copy_over,
                 self.copy_to, self.assign, self.gather, self.scatter, self.delete, self.read, self.bind, self.forward,
                 self.backward]
        weights = [3, 4, 1, 5, 5, 5, 4, 3, 4, 2, 2, 3, 2, 1, 3, 2]
        for step in self.chance.choices(steps, weights, k=STEPS):
            if not self.live:
                self.new()
            step()
        for pair in self.live:
            self.check(pair)
        for _, _, outputs in self.bound:
            for pair in outputs:
                self.check(pair)
        mx.nd.waitall()

    def check(self, pair: Pair) -> None:
        np.testing.assert_array_equal(pair.ours.asnumpy(), pair.theirs, err_msg=f"program with seed {self.seed}")

    def pick(self) -> Pair:
        return self.chance.choice(self.live)

    def partner(self, pair: Pair) -> Pair:
        return self.chance.choice([p for p in self.live if p.key == pair.key])

    def number(self) -> float:
        return self.chance.choice([-1, 0.5, 1, 2, -0.25])

    # ---- the steps ----

    def new(self) -> None:
        rows = self.chance.randint(1, 5)
        host = np.array([[self.chance.randint(-4, 4) for _ in range(WIDTH)] for _ in range(rows)], np.float32)
        self.live.append(Pair(mx.nd.array(host, self.chance.choice(self.contexts)), host.copy()))

    def view(self) -> None:
        pair = self.pick()
        rows = pair.theirs.shape[0]
        start = self.chance.randrange(rows)
        stop = self.chance.randint(start + 1, rows)
        key = self.chance.choice([slice(start, stop), slice(None, None, -1), slice(start, None, 2), start,
                                  (slice(None),) * (pair.theirs.ndim - 1) + (slice(-1, None),)])
        theirs = pair.theirs[key]
        self.live.append(Pair(pair.ours[key], theirs if theirs.ndim else pair.theirs[start : start + 1]))

    def reshape(self) -> None:
        pair = self.pick()
        if pair.theirs.flags.c_contiguous:
            self.live.append(Pair(pair.ours.reshape((-1,)), pair.theirs.reshape(-1)))

    def scalar(self) -> None:
        pair, number = self.pick(), self.number()
        if self.chance.random() < 0.5:
            pair.ours += number
            pair.theirs += np.float32(number)
        else:
            pair.ours *= number
            pair.theirs *= np.float32(number)

    def inplace(self) -> None:
        pair = self.pick()
        other = self.partner(pair)
        pair.ours -= other.ours
        pair.theirs -= other.theirs
        pair.ours *= 0.5
        pair.theirs *= np.float32(0.5)

    def binary(self) -> None:
        pair = self.pick()
        other = self.partner(pair)
        self.live.append(Pair((pair.ours + other.ours) * 0.5, (pair.theirs + other.theirs) * np.float32(0.5)))

    def copy_over(self) -> None:
        pair = self.pick()
        target = self.chance.choice([p for p in self.live if p.theirs.shape == pair.theirs.shape])
        if target is not pair:
            pair.ours.copyto(target.ours)
            target.theirs[...] = pair.theirs.copy()

    def copy_to(self) -> None:
        pair = self.pick()
        self.live.append(Pair(pair.ours.copyto(self.chance.choice(self.contexts)), pair.theirs.copy()))

    def assign(self) -> None:
        pair = self.pick()
        row = self.chance.randrange(pair.theirs.shape[0])
        if self.chance.random() < 0.5:
            pair.ours[row] = pair.theirs[row] = self.number()
        else:
            source = self.pick()
            if source.theirs.shape[0] > 0 and source.theirs.shape[1:] == pair.theirs.shape[1:]:
                pair.ours[row] = source.ours[0]
                pair.theirs[row] = source.theirs[0].copy()

    def gather(self) -> None:
        pair = self.pick()
        rows = [self.chance.randrange(pair.theirs.shape[0]) for _ in range(3)]
        self.live.append(Pair(pair.ours[rows], pair.theirs[rows]))

    def scatter(self) -> None:
        pair = self.pick()
        rows = self.chance.sample(range(pair.theirs.shape[0]), self.chance.randint(1, pair.theirs.shape[0]))
        pair.ours[rows] = pair.theirs[rows] = self.number()

    def delete(self) -> None:
        self.live.remove(self.pick())

    def read(self) -> None:
        self.check(self.pick())

    def bind(self) -> None:
        """out = a * b + a over arrays of the program, with the gradient of a."""
        pair = self.pick()
        a, b, grad = pair, self.partner(pair), Pair(pair.ours.copy(), pair.theirs.copy())
        x, y = mx.sym.Variable("x"), mx.sym.Variable("y")
        net = x * y + x
        exe = net.bind(a.ours.context, {"x": a.ours, "y": b.ours}, {"x": grad.ours}, {"x": "add", "y": "null"})
        exe.forward()
        out = Pair(exe.outputs[0], a.theirs * b.theirs + a.theirs)
        self.bound.append((exe, (a, b, grad), (out, grad)))

    def forward(self) -> None:
        if self.bound:
            exe, (a, b, _), (out, _) = self.chance.choice(self.bound)
            exe.forward()
            out.theirs = a.theirs * b.theirs + a.theirs
            a.ours *= 0.5
            a.theirs *= np.float32(0.5)

    def backward(self) -> None:
        if self.bound:
            exe, (a, b, grad), (out, _) = self.chance.choice(self.bound)
            head = np.full(out.theirs.shape, 0.25, np.float32)
            exe.forward(is_train=True)
            out.theirs = a.theirs * b.theirs + a.theirs
            exe.backward([mx.nd.array(head, self.chance.choice(self.contexts))])
            grad.theirs += head * b.theirs + head
            grad.ours *= 0.5
            grad.theirs *= np.float32(0.5)


@pytest.mark.parametrize("seed", range(300))
def test_in_one_process(seed):
    """1 to 4 devices: plain, naive, and ones that get values from elsewhere late and out of order."""
    with devices.in_this_process(seed):
        Program(seed, [mx.cpu(i) for i in range(1 + seed % 4)]).run()


@pytest.mark.ray
@pytest.mark.parametrize("seed", range(1000, 1050))
def test_on_actors(ray_cluster, seed):
    """This process, CPU actors and virtual GPUs."""
    mixed = [mx.cpu(0), mx.gpu(0), mx.cpu(1), mx.gpu(1)]
    Program(seed, mixed[: 1 + seed % 4]).run()
