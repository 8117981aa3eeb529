"""Distributed stores on a Ray cluster: results equal the closed form and one process, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

import raymx as mx
from raymx import config
from raymx.errors import KVStoreError, KVStoreTimeoutError, MXNetError

pytestmark = pytest.mark.ray
NO_CPUS = {"CPU": 0}  # the session's cluster is small


def launched(fn, workers, shards, *args, **options):
    return mx.launch(fn, workers, num_servers=shards, args=args, resources=NO_CPUS, **options)


def gradients(rank: int, rounds: int):
    rng = np.random.default_rng(rank)
    return [(rng.normal(size=(3, 4)).astype("float32"), rng.normal(size=50).astype("float32")) for _ in range(rounds)]


def train(kind: str, rounds: int, bound: int, optimizer: str | None):
    """What a worker does: the values of two keys after every round, and what it pulled in the end."""
    import raymx as mx
    from raymx import config
    from tests.kvstore.test_dist import gradients

    config.set(kvstore_bigarray_bound=bound)
    kv = mx.kv.create(kind)
    small, large = mx.nd.ones((3, 4)), mx.nd.ones((50,))
    kv.init(["s", "l"], [small, large])
    if optimizer:
        kv.set_optimizer(mx.optimizer.create(optimizer, learning_rate=0.1, wd=0.01))
    for pair in gradients(kv.rank, rounds):
        kv.push(["s", "l"], [mx.nd.array(each) for each in pair])
        kv.pull(["s", "l"], [small, large])
    return small.asnumpy(), large.asnumpy()


def in_one_process(workers: int, rounds: int, optimizer: str | None):
    """The same by a local store with a value for each worker."""
    kv = mx.kv.create("local")
    small, large = mx.nd.ones((3, 4)), mx.nd.ones((50,))
    kv.init(["s", "l"], [small, large])
    if optimizer:
        kv.set_optimizer(mx.optimizer.create(optimizer, learning_rate=0.1, wd=0.01))
    for parts in zip(*(gradients(rank, rounds) for rank in range(workers)), strict=True):
        kv.push(["s", "l"], [[mx.nd.array(p[i]) for p in parts] for i in (0, 1)])
        kv.pull(["s", "l"], [small, large])
    return small.asnumpy(), large.asnumpy()


def sums_then_steps(kv, values, optimizers=("sgd", "adam")):
    """Values of both keys after rounds without an optimizer, then with each of these. `values(round)` gives what is
    pushed."""
    import raymx as mx

    small, large = mx.nd.ones((3, 4)), mx.nd.ones((50,))
    kv.init(["s", "l"], [small, large])
    found = []
    for number, optimizer in enumerate((None, *optimizers)):
        if optimizer:
            kv.set_optimizer(mx.optimizer.create(optimizer, learning_rate=0.1, wd=0.01))
        for turn in (2 * number, 2 * number + 1):
            kv.push(["s", "l"], values(turn))
            kv.pull(["s", "l"], [small, large])
            found += [small.asnumpy(), large.asnumpy()]
    return found


def grid_worker():
    import raymx as mx
    from raymx import config
    from tests.kvstore.test_dist import gradients, sums_then_steps

    config.set(kvstore_bigarray_bound=20)
    kv = mx.kv.create("dist_sync")
    mine = gradients(kv.rank, 6)
    return sums_then_steps(kv, lambda turn: [mx.nd.array(each) for each in mine[turn]])


FEW = [(1, 1), (2, 2), (4, 3)]
MANY = [(w, s) for w in (1, 2, 4) for s in (1, 2, 3) if (w, s) not in FEW]


@pytest.mark.parametrize("workers, shards", FEW + [pytest.param(*each, marks=pytest.mark.slow) for each in MANY])
def test_rounds_equal_one_process_and_the_closed_form(workers, shards):
    found = launched(grid_worker, workers, shards)
    pushed = [gradients(rank, 6) for rank in range(workers)]
    kv = mx.kv.create("local")
    expected = sums_then_steps(kv, lambda turn: [[mx.nd.array(p[turn][i]) for p in pushed] for i in (0, 1)])
    for result in found:
        for got, want in zip(result, expected, strict=True):
            assert got.tobytes() == want.tobytes()
        for turn in (0, 1):
            for key in (0, 1):
                total = pushed[0][turn][key]
                for rank in range(1, workers):
                    total = total + pushed[rank][turn][key]
                assert result[2 * turn + key].tobytes() == total.tobytes()


def test_asynchronous_pushes_are_each_applied_once():
    def work():
        import raymx as mx

        kv = mx.kv.create("dist_async")
        kv.init(0, mx.nd.zeros((2,)))
        kv.set_optimizer(mx.optimizer.create("test"))
        for _ in range(5):
            kv.push(0, mx.nd.ones((2,)) * (kv.rank + 1))
        kv.barrier()
        out = mx.nd.zeros((2,))
        kv.pull(0, out)
        return out.asnumpy().tolist()

    assert launched(work, 3, 2) == [[30, 30]] * 3


def test_a_worker_with_fewer_rounds_holds_nobody_up():
    def work():
        import raymx as mx

        kv = mx.kv.create("dist_sync")
        kv.init(0, mx.nd.zeros((2,)))
        out = mx.nd.zeros((2,))
        for _ in range(2 + 3 * kv.rank):
            kv.push(0, mx.nd.ones((2,)))
            kv.pull(0, out)
        return out.asnumpy().tolist()

    assert launched(work, 2, 2) == [[2, 2], [1, 1]]


def test_compressed_gradients_arrive_in_the_long_run():
    def work(kind):
        import raymx as mx

        kv = mx.kv.create("dist_sync")
        kv.set_gradient_compression({"type": kind, "threshold": 0.5} if kind == "2bit" else {"type": kind})
        kv.init(0, mx.nd.zeros((5,)))
        kv.set_optimizer(mx.optimizer.create("test"))
        for _ in range(40):
            kv.push(0, mx.nd.array([0.1, -0.1, 0.3, 0.0, 0.45]))
        out = mx.nd.zeros((5,))
        kv.pull(0, out)
        return out.asnumpy()

    for kind, tolerance in (("2bit", 1.01), ("fp16", 0.02)):
        for result in launched(work, 2, 1, kind):
            np.testing.assert_allclose(result, 2 * 40 * np.array([0.1, -0.1, 0.3, 0, 0.45]), atol=tolerance)


def test_what_a_worker_raises_names_it():
    def work():
        import raymx as mx

        kv = mx.kv.create("dist_sync")
        kv.init(0, mx.nd.zeros((2,)))
        if kv.rank == 1:
            kv.push(1, mx.nd.zeros((2,)))
        kv.pull(0, mx.nd.zeros((2,)))

    with pytest.raises(KVStoreError, match=r"push: key 1 is unknown; call init first \(known keys: 0\)") as caught:
        launched(work, 2, 1)
    assert "raised by worker 1" in caught.value.__notes__


def test_an_updater_that_raises_is_told_to_every_worker_and_changes_nothing():
    def work():
        import raymx as mx
        from raymx.errors import MXNetError

        kv = mx.kv.create("dist_sync")
        kv.init(0, mx.nd.ones((2,)))
        kv.set_optimizer(mx.optimizer.create("sgd", learning_rate="much"))
        kv.push(0, mx.nd.ones((2,)))
        out = mx.nd.zeros((2,))
        kv.pull(0, out)
        try:
            out.asnumpy()
        except MXNetError as error:
            words = str(error)
        return words

    for words in launched(work, 2, 1):
        assert "the updater failed at round 1 of key 0, whose value is left as it was" in words


def test_a_worker_that_never_comes_is_named():
    def work():
        import threading

        import raymx as mx
        from raymx import config

        config.set(timeout_s=1.0)
        kv = mx.kv.create("dist_sync")
        if kv.rank == 1:
            threading.Event().wait(20)
        kv.init(0, mx.nd.ones((2,)))

    with pytest.raises(KVStoreTimeoutError, match=r"shard 0 of 1: barrier 1 still waits for worker 1 after 1 s"):
        launched(work, 2, 1)


def test_a_round_that_would_wait_for_ever_is_an_error_at_once():
    def work():
        import raymx as mx

        kv = mx.kv.create("dist_sync")
        kv.init(0, mx.nd.ones((2,)))
        for _ in range(1 + kv.rank):
            kv.push(0, mx.nd.ones((2,)))
            kv.pull(0, out := mx.nd.zeros((2,)))
        out.wait_to_read()
        kv.barrier()

    with pytest.raises(MXNetError, match=r"round 2 of key 0 would wait for ever for worker 0, which waits at"):
        launched(work, 2, 1)


def test_what_worker_0_decides_holds_for_all():
    def work():
        import raymx as mx

        kv = mx.kv.create("dist_sync")
        first = kv.agree("colour", lambda: f"that of {kv.rank}")
        return first, kv.agree("colour", lambda: "another"), kv.told("nothing")

    assert launched(work, 2, 2) == [("that of 0", "that of 0", None)] * 2


def test_rows_of_a_value():
    def work():
        import raymx as mx
        from raymx import config
        from raymx.errors import KVStoreError

        config.set(kvstore_bigarray_bound=5)
        kv = mx.kv.create("dist_sync")
        table = mx.nd.array([[1, 1], [2, 2], [3, 3], [4, 4]])
        kv.init(["flat", "table", "wide"], [table[0], table, mx.nd.arange(8).reshape((1, 8))])
        out = [mx.nd.zeros((4, 2)), mx.nd.zeros((4, 2), mx.cpu(1))]
        kv.row_sparse_pull("table", out, row_ids=[mx.nd.array([2, 0]), mx.nd.array([3, 3])])
        few, wide = mx.nd.zeros((2,)), mx.nd.zeros((1, 8))
        kv.row_sparse_pull(["flat", "wide"], [few, wide], row_ids=[mx.nd.array([1]), mx.nd.array([0])])
        try:
            kv.row_sparse_pull("table", out[0], row_ids=mx.nd.array([4]))
        except KVStoreError as error:
            words = str(error)
        return [each.asnumpy().tolist() for each in (*out, few, wide)], words

    zero = [0, 0]
    expected = [[1, 1], zero, [3, 3], zero], [zero, zero, zero, [4, 4]], [0, 1], [list(range(8))]
    words = "row_sparse_pull: key 'table' has rows 0 to 3, got 4 to 4."
    assert launched(work, 1, 2) == [(list(expected), words)]


def test_a_script_that_was_not_launched_is_a_job_of_its_own():
    kv = mx.kv.create("dist_sync")
    assert (kv.rank, kv.num_workers, kv.type) == (0, 1, "dist_sync")
    kv.init(3, mx.nd.ones((2,)))
    kv.push(3, [mx.nd.ones((2,)), mx.nd.ones((2,), mx.cpu(1))])
    out = [mx.nd.zeros((2,)), mx.nd.zeros((2,), mx.cpu(1))]
    kv.pull(3, out)
    assert [o.asnumpy().tolist() for o in out] == [[2, 2]] * 2
    kv.close()


def train_with_changes(kind: str = "dist_sync", rounds: int = 6):
    """What a worker does that changes settings on the way, two rounds ahead of what it has read."""
    import raymx as mx
    from tests.kvstore.test_dist import changed, gradients

    kv = mx.kv.create(kind)
    arrays = [mx.nd.ones((3, 4)), mx.nd.ones((50,))]
    kv.init(["s", "l"], arrays)
    optimizer = mx.optimizer.create("sgd", learning_rate=0.1, momentum=0.9)
    kv.set_optimizer(optimizer)
    for number, pair in enumerate(gradients(kv.rank, rounds)):
        changed(optimizer, number)
        kv.push(["s", "l"], [mx.nd.array(each) for each in pair])
        kv.pull(["s", "l"], arrays)
    return [array.asnumpy().tobytes() for array in arrays]


def changed(optimizer, number: int) -> None:
    if number == 2:
        optimizer.lr = 0.05
    if number == 4:
        optimizer.set_lr_mult({"s": 0.5})
        optimizer.wd = 0.01


@pytest.mark.parametrize("fault", ["", "worker 0.0 at push:between 3", "shard 1.0 at push:applied 4"])
def test_settings_that_the_script_changes_reach_all_shards_in_one_round(fault):
    kv = mx.kv.create("local")
    arrays = [mx.nd.ones((3, 4)), mx.nd.ones((50,))]
    kv.init(["s", "l"], arrays)
    optimizer = mx.optimizer.create("sgd", learning_rate=0.1, momentum=0.9)
    kv.set_optimizer(optimizer)
    for number, parts in enumerate(zip(*(gradients(rank, 6) for rank in range(2)), strict=True)):
        changed(optimizer, number)
        kv.push(["s", "l"], [[mx.nd.array(p[i]) for p in parts] for i in (0, 1)])
    kv.pull(["s", "l"], arrays)
    with config.using(fault=fault):
        found = launched(train_with_changes, 2, 2)
    assert found == [[array.asnumpy().tobytes() for array in arrays]] * 2


def test_what_shards_have_counted_is_there_without_a_dashboard():
    def work():
        import raymx as mx

        kv = mx.kv.create("dist_sync")
        kv.init([0, 1], [mx.nd.zeros((2,)), mx.nd.zeros((3,))])
        out = mx.nd.zeros((2,))
        for _ in range(3):
            kv.push(0, mx.nd.ones((2,)))
            kv.push(1, mx.nd.ones((3,)))
            kv.pull(0, out)
        out.wait_to_read()
        kv.barrier()
        return kv.describe()

    for shards in launched(work, 2, 2):
        assert sum(shard["pushes"] for shard in shards) == 12
        assert sum(shard["bytes"] for shard in shards) == 2 * 3 * (8 + 12)
        assert sum(shard["applied"] for shard in shards) == 6 and not any(shard["dropped"] for shard in shards)
        assert all(shard["barrier_seconds"]["count"] >= 4 for shard in shards)
        assert sum(shard["round_seconds"]["count"] for shard in shards) >= 3


def test_mxnet_s_commands_to_servers():
    def work():
        import pickle

        import raymx as mx
        from raymx.errors import KVStoreError

        kv = mx.kv.create("dist_sync")
        kv.init([0, 1], [mx.nd.zeros((2,)), mx.nd.zeros((2,))])
        if kv.rank == 0:
            kv._send_command_to_servers(0, pickle.dumps(mx.optimizer.create("test", rescale_grad=2.0)))
            kv._send_command_to_servers(-2, "")
        kv.barrier()
        out = [mx.nd.zeros((2,)), mx.nd.zeros((2,))]
        kv.push([0, 1], [mx.nd.ones((2,)), mx.nd.ones((2,))])
        kv.pull([0, 1], out)
        words = []
        for head, body in ((-1, ""), (7, "go"), (0, "no pickle"), (0, pickle.dumps(3))):
            try:
                kv._send_command_to_servers(head, body)
            except KVStoreError as error:
                words.append(str(error))
        return [o.asnumpy().tolist() for o in out], words

    for values, words in launched(work, 2, 2):
        assert values == [[4, 4], [4, 4]]
        assert "no shard takes the command -1: the shards end with the job" in words[0]
        assert "no shard takes the command 7: shards run no code of the script" in words[1]
        assert "command 0: its body must be a pickled Optimizer (UnpicklingError" in words[2]
        assert words[3] == "command 0: its body must be a pickled Optimizer, got int."


def test_what_does_not_fit_is_told_where_it_is_called_and_changes_nothing():
    def work():
        import raymx as mx
        from raymx.errors import KVStoreError

        kv = mx.kv.create("dist_sync")
        kv.init("w", mx.nd.ones((2,)))
        calls = [
            lambda: kv.init("w", mx.nd.ones((2,))),
            lambda: kv.push("w", mx.nd.ones((3,))),
            lambda: kv.push("w", mx.nd.ones((2,), dtype="float64")),
            lambda: kv.pull("w", mx.nd.ones((2, 1))),
            lambda: kv.push("v", mx.nd.ones((2,))),
            lambda: kv.init(3, mx.nd.ones((2,))),
        ]
        words = []
        for call in calls:
            try:
                call()
            except KVStoreError as error:
                words.append(str(error))
        out = mx.nd.zeros((2,))
        kv.push("w", mx.nd.ones((2,)))
        kv.pull("w", out)
        return words, out.asnumpy().tolist()

    for words, value in launched(work, 2, 1):
        assert value == [2, 2]
        assert words == [
            "init: key 'w' already has a value of shape (2,); a key is initialised once, push changes it.",
            "push: key 'w' holds float32 of shape (2,), got float32 of shape (3,).",
            "push: key 'w' holds float32 of shape (2,), got float64 of shape (2,).",
            "pull: key 'w' holds float32 of shape (2,), got float32 of shape (2, 1).",
            "push: key 'v' is unknown; call init first (known keys: 'w').",
            "init: the keys of a store are all integers or all strings; it has 'w', got 3.",
        ]


def test_after_an_update_that_failed_the_next_one_counts():
    def work():
        import raymx as mx
        from raymx.errors import MXNetError

        kv = mx.kv.create("dist_sync")
        kv.init(0, mx.nd.ones((2,)))
        optimizer = mx.optimizer.create("sgd", learning_rate="much")
        kv.set_optimizer(optimizer)
        out = mx.nd.zeros((2,))
        kv.push(0, mx.nd.ones((2,)))
        kv.pull(0, out)
        try:
            out.asnumpy()
        except MXNetError as error:
            words = str(error)
        optimizer.lr = 0.25
        kv.push(0, mx.nd.ones((2,)))
        kv.pull(0, out)
        return words, out.asnumpy().tolist()

    for words, value in launched(work, 2, 1):
        assert "the updater failed at round 1 of key 0, whose value is left as it was" in words
        assert value == [0.5, 0.5]
