"""Optimizers on shards, without Ray: every one of them, its settings changed on the way, equals one process bit for
bit."""

from __future__ import annotations

import json
import random
import warnings

import numpy as np
import pytest

import raymx as mx
from raymx import config
from raymx.actors.keeper import Keeper
from raymx.actors.shard import Shard
from raymx.errors import KVStoreError
from raymx.kvstore import updating
from raymx.lr_scheduler import FactorScheduler, LRScheduler, MultiFactorScheduler, PolyScheduler

WORKERS, ROUNDS = 2, 7
SHAPES = {0: (3, 4), 1: (5,)}
CASES = [
    ("sgd", {"wd": 0.01}), ("sgd", {"momentum": 0.9, "clip_gradient": 0.5}), ("ccsgd", {"momentum": 0.9}),
    ("nag", {"momentum": 0.9, "wd": 0.01}), ("lbsgd", {"momentum": 0.9, "batch_scale": 2, "warmup_epochs": 1}),
    ("signum", {}), ("dcasgd", {"momentum": 0.5}), ("sgld", {}), ("adam", {"wd": 0.01}), ("adamax", {}), ("nadam", {}),
    ("adagrad", {"wd": 0.01}), ("adadelta", {}), ("rmsprop", {}), ("rmsprop", {"centered": True}), ("ftrl", {}),
    ("ftml", {}), ("test", {"rescale_grad": 0.5}),
]  # fmt: skip


class Halving(LRScheduler):
    """A schedule that changes itself."""

    def __call__(self, num_update):
        self.base_lr *= 0.5
        return self.base_lr


class Waiting(updating.ArrayUpdater):
    """Here the engine is not `naive`."""

    def __call__(self, key, merged, value):
        super().__call__(key, merged, value)
        mx.nd.waitall()


def keeper(workers: int = WORKERS, sync: bool = True) -> Keeper:
    made = Keeper("shard 0 of 1", Shard(workers), Waiting)
    made.configure(sync)
    made.create({key: np.ones(shape, "float32") for key, shape in SHAPES.items()})
    return made


def gradient(rank: int, number: int, key: int) -> np.ndarray:
    rng = np.random.default_rng([rank, number, key])
    return rng.normal(size=SHAPES[key]).astype("float32")


def in_one_process(optimizer, change=None, rounds: int = ROUNDS) -> list[bytes]:
    """The same rounds in a local store, with a value for each worker."""
    mx.random.seed(0)
    kv = mx.kv.create("local")
    arrays = [mx.nd.ones(shape) for shape in SHAPES.values()]
    kv.init(list(SHAPES), arrays)
    kv.set_optimizer(optimizer)
    for number in range(1, rounds + 1):
        if change is not None:
            change(optimizer, number)
        for key in SHAPES:
            kv.push(key, [mx.nd.array(gradient(rank, number, key)) for rank in range(WORKERS)])
    kv.pull(list(SHAPES), arrays)
    return [array.asnumpy().tobytes() for array in arrays]


def values(shard: Shard) -> list[bytes]:
    return [shard.entries[key].value.tobytes() for key in SHAPES]


def run(optimizer, keepers: list[Keeper], change=None, seed: int = 0, rounds: range = range(1, ROUNDS + 1)) -> None:
    """Rounds on keepers that are all fed alike; worker 0's script changes settings, and workers are up to two steps
    apart."""
    chance = random.Random(seed)
    live = updating.Live(optimizer)
    done = [rounds[0] - 1] * WORKERS
    while min(done) < rounds[-1]:
        rank = chance.choice([r for r in range(WORKERS) if done[r] < min(rounds[-1], min(done) + 2)])
        done[rank] += 1
        if rank == 0 and change is not None:
            change(optimizer, done[0])
        for key in SHAPES:
            changes = live.changes() if rank == 0 else None
            for each in keepers:
                if changes is not None:
                    firsts = {k: done[0] + (k < key) for k in SHAPES}
                    each._take(("change_optimizer", changes, firsts))
                each.push(rank, {key: done[rank]}, [gradient(rank, done[rank], key)])


@pytest.mark.parametrize("name, settings", CASES, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_every_optimizer_equals_one_process_also_on_a_new_replica(name, settings):
    def make():
        return mx.optimizer.create(name, learning_rate=0.05, param_idx2name={0: "a_weight", 1: "b_bias"}, **settings)

    expected = in_one_process(make())
    mx.random.seed(0)
    first, second = keeper(), keeper()
    first.set_optimizer(updating.described(make()))
    run(make(), [first], rounds=range(1, 4))
    second.follow(("restore", first.snapshot()))
    stream = second.shard.updater.get_states()
    run(make(), [first], seed=1, rounds=range(4, ROUNDS + 1))
    assert values(first.shard) == expected
    second.shard.updater.set_states(stream)  # both draw from this process's random stream
    run(make(), [second], seed=2, rounds=range(4, ROUNDS + 1))
    assert values(second.shard) == expected, "a replica that joined later"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "scheduler",
    [
        lambda: FactorScheduler(2, 0.5), lambda: MultiFactorScheduler([2, 5], 0.1),
        lambda: PolyScheduler(6, warmup_steps=2), Halving,
    ],
)  # fmt: skip
def test_schedules_go_by_the_number_of_updates(scheduler, seed):
    def make():
        return mx.optimizer.create("adam", learning_rate=0.1, lr_scheduler=scheduler())

    made = keeper()
    made.set_optimizer(updating.described(make()))
    run(make(), [made], seed=seed)
    assert values(made.shard) == in_one_process(make())


def change(optimizer, number: int) -> None:
    """What a script may do before step `number`."""
    if number == 2:
        optimizer.set_learning_rate(0.01)
    if number == 3:
        optimizer.wd, optimizer.rescale_grad = 0.1, 0.25
    if number == 4:
        optimizer.lr_mult["a_weight"] = 3.0
        optimizer.set_wd_mult({"b_bias": 2.0})
    if number in (5, 6):
        optimizer.momentum, optimizer.lr = 0.9 if number == 5 else 0.5, 0.02 * number
    if number == 7:
        optimizer.lr_scheduler = FactorScheduler(1, 0.5)
        optimizer.lr_scheduler.base_lr = 0.3


def make_sgd():
    return mx.optimizer.create("sgd", learning_rate=0.1, momentum=0.8, param_idx2name={0: "a_weight", 1: "b_bias"})


@pytest.mark.parametrize("seed", range(5))
def test_what_the_script_changes_holds_from_the_next_round(seed):
    first, second = keeper(), keeper()
    for each in (first, second):
        each.set_optimizer(updating.described(make_sgd()))
    run(make_sgd(), [first, second], change, seed)
    expected = in_one_process(make_sgd(), change)
    assert values(first.shard) == values(second.shard) == expected
    assert len(first.shard.changes) <= 3, "changes that hold for every round to come are not kept"


def test_a_replica_gets_changes_that_do_not_hold_yet():
    optimizer = make_sgd()
    first, second = keeper(), keeper()
    first.set_optimizer(updating.described(optimizer))
    live = updating.Live(optimizer)
    first.push(0, {0: 1, 1: 1}, [gradient(0, 1, 0), gradient(0, 1, 1)])
    optimizer.lr = 0.7
    first._take(("change_optimizer", live.changes(), {0: 2, 1: 2}))
    first.push(0, {0: 2, 1: 2}, [gradient(0, 2, 0), gradient(0, 2, 1)])
    second.follow(("restore", first.snapshot()))
    for each in (first, second):
        for number in (1, 2):
            each.push(1, {0: number, 1: number}, [gradient(1, number, 0), gradient(1, number, 1)])

    def same(optimizer, number):
        optimizer.lr = 0.1 if number == 1 else 0.7

    assert values(first.shard) == values(second.shard) == in_one_process(make_sgd(), same, rounds=2)


def test_keys_that_are_a_round_behind_keep_their_settings():
    optimizer = mx.optimizer.create("sgd", learning_rate=1.0)
    made = keeper(workers=1)
    made.set_optimizer(updating.described(optimizer))
    live = updating.Live(optimizer)
    optimizer.lr = 0.5
    made._take(("change_optimizer", live.changes(), {0: 1, 1: 2}))
    for key, number, left in ((0, 1, 0.5), (1, 1, 0.0), (0, 2, 0.0), (1, 2, -0.5)):
        made.push(0, {key: number}, [np.ones(SHAPES[key], "float32")])
        assert made.shard.entries[key].value.flat[0] == left


def test_where_pushes_are_applied_one_by_one_changes_hold_at_once():
    optimizer = mx.optimizer.create("sgd", learning_rate=1.0)
    made = keeper(sync=False)
    made.set_optimizer(updating.described(optimizer))
    live = updating.Live(optimizer)
    made.push(0, {0: 1}, [np.ones(SHAPES[0], "float32")])
    optimizer.lr = 0.5
    made._take(("change_optimizer", live.changes(), {0: 2}))
    made.push(1, {0: 1}, [np.ones(SHAPES[0], "float32")])
    assert made.shard.entries[0].value.flat[0] == -0.5


def test_a_worker_that_was_started_anew_knows_what_was_changed():
    optimizer, again = make_sgd(), make_sgd()
    live = updating.Live(optimizer)
    optimizer.lr = 0.2
    assert json.loads(live.changes() or "") == {"lr": 0.2} and live.changes() is None
    optimizer.lr, optimizer.wd = 0.3, 0.1
    noted = live.noted()
    anew = updating.Live(again)
    anew.go_on(noted)
    assert (again.lr, again.wd) == (0.3, 0.1)
    assert anew.changes() == live.changes() and anew.changes() is None


def test_another_optimizer_of_the_class_keeps_the_states():
    made = keeper()
    made.set_optimizer(updating.described(make_sgd()))
    run(make_sgd(), [made], rounds=range(1, 4))
    faster = make_sgd()
    faster.lr = 0.7
    made.set_optimizer(updating.described(faster))
    run(faster, [made], rounds=range(4, ROUNDS + 1))

    def same(optimizer, number):
        optimizer.lr = 0.1 if number < 4 else 0.7

    assert values(made.shard) == in_one_process(make_sgd(), same)
    made.set_optimizer(updating.described(mx.optimizer.create("adam")))
    run(mx.optimizer.create("adam"), [made], rounds=range(ROUNDS + 1, ROUNDS + 3))


def test_settings_without_an_optimizer():
    with pytest.raises(KVStoreError, match="the store has no optimizer whose settings could change; call set_optimi"):
        keeper()._take(("change_optimizer", "{}", {}))


def test_what_cannot_be_told_in_plain_words():
    class Mine(mx.optimizer.SGD):
        pass

    with pytest.raises(KVStoreError, match=r"set_optimizer: .*Mine of tests.* cannot be imported on the shards; put"):
        updating.described(Mine())
    optimizer = make_sgd()
    live = updating.Live(optimizer)
    optimizer.lr = object()
    with pytest.raises(KVStoreError, match=r"optimizer SGD\.lr must be a number, a text, .* got object"):
        live.changes()


def test_pickles_need_the_switch_on_both_sides_and_warn():
    class Mine(mx.optimizer.SGD):
        def _get_lr(self, index):
            return 0.25

    with config.using(pickled_optimizers=True):
        with pytest.warns(UserWarning, match="a pickled optimizer runs whatever code it holds on the shards"):
            settings = updating.described(Mine())
        made = keeper(workers=1)
        made.set_optimizer(settings)
    made.push(0, {0: 1}, [np.ones(SHAPES[0], "float32")])
    assert made.shard.entries[0].value.flat[0] == 0.75
    with pytest.raises(KVStoreError, match="a pickled optimizer came, but the switch pickled_optimizers is off here"):
        keeper().set_optimizer(settings)


def test_importable_classes_go_by_name():
    with warnings.catch_warnings(action="error"):
        text = updating.described(mx.optimizer.create("sgd", lr_scheduler=Halving(0.5)))
    found = updating.restored(text)
    assert isinstance(found.lr_scheduler, Halving) and "pickled" not in text
    hostile = json.loads(text)
    hostile["optimizer"]["class"] = "subprocess:Popen"
    with pytest.raises(KVStoreError, match="subprocess:Popen is no Optimizer"):
        updating.restored(json.dumps(hostile))
