"""Key-value stores of one script: sums, updaters, lists, placement, and what they refuse."""

import numpy as np
import pytest

import raymx as mx
from raymx import kvstore
from raymx.errors import KVStoreError

SHAPE = (4, 4)
KEYS = [5, 7, 11]


def full(value, ctx=None, shape=SHAPE):
    return mx.nd.full(shape, value, ctx)


def store(type="local", first=0):
    kv = mx.kv.create(type)
    kv.init(3, full(first))
    kv.init(KEYS, [full(first)] * len(KEYS))
    return kv


def pulled(kv, key):
    out = full(-1)
    kv.pull(key, out=out)
    values = np.unique(out.asnumpy())
    assert len(values) == 1
    return values[0]


@pytest.fixture(params=["local", "local_update_cpu", "local_allreduce_cpu", "device", "local_allreduce_device"])
def kv(request):
    return store(request.param)


def test_a_store_says_what_it_is(kv):
    assert mx.kv.create().type == "local"
    assert mx.kv.create("device").type == "device"
    assert (kv.rank, kv.num_workers) == (0, 1)
    kv._barrier()
    kv._send_command_to_servers(0, "nothing")


def test_the_first_value_is_pulled_before_any_push(kv):
    kv.init(4, full(4))
    assert pulled(kv, 4) == 4


def test_without_updater_a_push_replaces(kv):
    kv.push(3, full(8))
    kv.push(3, full(1))
    assert pulled(kv, 3) == 1


def test_several_values_are_summed(kv):
    kv.push(3, [full(1), full(2), full(4)])
    assert pulled(kv, 3) == 7


def test_a_pushed_or_first_array_stays_the_callers(kv):
    mine = full(2)
    kv.init(4, mine)
    kv.push(3, mine)
    mine[:] = 9
    assert (pulled(kv, 3), pulled(kv, 4)) == (2, 2)


def test_sums_are_made_in_the_order_given(kv):
    parts = np.random.RandomState(0).randn(4, *SHAPE).astype("float32") * [[[1e8]], [[1]], [[-1e8]], [[1e-3]]]
    parts = parts.astype("float32")
    kv.push(3, [mx.nd.array(p) for p in parts])
    out = full(0)
    kv.pull(3, out=out)
    np.testing.assert_array_equal(out.asnumpy(), ((parts[0] + parts[1]) + parts[2]) + parts[3])


def test_lists_of_keys(kv):
    kv.push(KEYS, [full(v) for v in (1, 2, 3)])
    outs = [full(-1) for _ in KEYS]
    kv.pull(KEYS, out=outs)
    assert [o.asnumpy()[0, 0] for o in outs] == [1, 2, 3]
    kv.push(KEYS, [[full(v), full(v)] for v in (1, 2, 3)])
    outs = [[full(-1), full(-1)] for _ in KEYS]
    kv.pull(KEYS, out=outs)
    assert [[o.asnumpy()[0, 0] for o in pair] for pair in outs] == [[2, 2], [4, 4], [6, 6]]


def test_a_key_that_stands_twice_is_summed_once(kv):
    kv.push([5, 5], [full(1), full(2)])
    assert pulled(kv, 5) == 3


def test_an_updater_runs_at_once_for_each_key_in_ascending_order(kv, capsys):
    def update(key, merged, stored):
        print(f"update on key: {key}")
        stored += merged * 2

    kv._set_updater(update)
    kv.push([11, 5, 7], [[full(1), full(1)]] * 3)
    assert capsys.readouterr().out == "update on key: 5\nupdate on key: 7\nupdate on key: 11\n"
    kv.push(5, full(1))
    assert (pulled(kv, 5), pulled(kv, 7)) == (6, 4)


def test_an_updater_may_change_what_was_merged(kv):
    def update(key, merged, stored):
        merged *= 5
        stored[:] = merged

    kv.set_updater(update)
    mine = full(1)
    kv.push(3, mine)
    assert pulled(kv, 3) == 5
    assert (mine.asnumpy() == 1).all(), "merged is the updater's own array"


def test_an_updaters_error_reaches_the_caller(kv):
    def update(key, merged, stored):
        raise ZeroDivisionError("mine")

    kv._set_updater(update)
    with pytest.raises(ZeroDivisionError, match="mine"):
        kv.push(3, full(1))


@pytest.mark.parametrize("copies", [1, 2])
def test_with_an_optimizer_a_push_is_a_gradient(kv, copies):
    kv.set_optimizer(mx.optimizer.create("sgd", learning_rate=0.5, momentum=0.5))
    gradient = full(1)
    kv.push(3, [gradient] * copies)
    kv.push(3, [gradient] * copies)
    assert pulled(kv, 3) == -1.25 * copies
    assert (gradient.asnumpy() == 1).all()


def test_optimizer_states_go_on_from_a_file(tmp_path):
    first, second = store(), store()
    for kv in (first, second):
        kv.set_optimizer(mx.optimizer.create("sgd", learning_rate=0.5, momentum=0.5))
    first.push(3, full(1))
    first.save_optimizer_states(tmp_path / "states")
    second.load_optimizer_states(tmp_path / "states")
    second.push(3, full(1))
    assert pulled(second, 3) == -0.75, "the momentum of the first push counts"


def test_string_keys():
    kv = mx.kv.create()
    kv.init(["b", "a"], [full(2), full(1)])
    kv.push("a", full(5))
    assert (pulled(kv, "a"), pulled(kv, "b")) == (5, 2)


def test_integer_keys_may_be_numpys(kv):
    kv.push(np.int64(3), full(2))
    assert pulled(kv, 3) == 2


def test_other_shapes_and_types():
    kv = mx.kv.create()
    kv.init(0, mx.nd.ones((2, 3, 4), dtype="float64"))
    kv.push(0, [mx.nd.ones((2, 3, 4), dtype="float64")] * 2)
    out = mx.nd.zeros((2, 3, 4), dtype="float64")
    kv.pull(0, out=out)
    assert (out.asnumpy() == 2).all()


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda kv: kv.init(5, full(0)), r"init: key 5 already has a value of shape \(4, 4\); a key is"),
        (lambda kv: kv.init(6, [full(0), full(0)]), "init: key 6 needs one value, got 2."),
        (lambda kv: kv.init("a", full(0)), "keys of a store are all integers or all strings; it has 3, got 'a'."),
        (lambda kv: kv.push(99, full(0)), r"push: key 99 is unknown; call init first \(known keys: 3, 5, 7, 11\)."),
        (lambda kv: kv.pull(99, out=full(0)), "pull: key 99 is unknown"),
        (lambda kv: kv.push(5, full(0, shape=(3, 2))),
         r"push: key 5 holds float32 of shape \(4, 4\), got float32 of shape \(3, 2\)."),
        (lambda kv: kv.push(5, [full(0), full(0, shape=(3, 2))]), r"key 5 holds .* got float32 of shape \(3, 2\)"),
        (lambda kv: kv.push(5, mx.nd.zeros(SHAPE, dtype="float64")), r"key 5 holds float32 of .* got float64 of shape"),
        (lambda kv: kv.pull(5, out=full(0, shape=(2,))), r"pull: key 5 holds float32 of .* got .* \(2,\)."),
        (lambda kv: kv.pull(5), "pull: out is missing for key 5"),
        (lambda kv: kv.push([5, 7], [full(0)]), "push: 2 keys need a list of 2 values, got a list of 1."),
        (lambda kv: kv.push([5, 7], full(0)), "push: 2 keys need a list of 2 values, got NDArray."),
        (lambda kv: kv.push(5, []), "push: key 5 has an empty list of values."),
        (lambda kv: kv.push(5, 3.0), "push: the value of key 5 must be an NDArray or a list of them, got float."),
        (lambda kv: kv.push(5.5, full(0)), "push: a key is an integer or a string, got 5.5."),
        (lambda kv: kv.push([5, "a"], [full(0)] * 2), r"push: keys are all integers or all strings, got \[5, 'a'\]."),
        (lambda kv: kv.save_optimizer_states("x"), "save_optimizer_states: the store has no optimizer"),
    ],
)
def test_refusals(act, text):
    kv = store()
    with pytest.raises(KVStoreError, match=text):
        act(kv)


def test_a_refused_push_changes_nothing():
    kv = store(first=1)
    with pytest.raises(KVStoreError):
        kv.push([5, 7], [full(9), full(9, shape=(2,))])
    assert pulled(kv, 5) == 1


def test_unknown_types():
    with pytest.raises(KVStoreError, match="no kvstore type is called 'devise'; did you mean 'device'"):
        mx.kv.create("devise")


# ---- placement ----


def test_spread_gives_the_largest_first_to_the_emptiest():
    a, b = mx.gpu(0), mx.gpu(1)
    sizes = {0: 10, 1: 100, 2: 60, 3: 50}
    assert kvstore.spread(sizes, {a: 0, b: 0}) == {1: a, 2: b, 3: b, 0: a}
    assert kvstore.spread({0: 1, 1: 1}, {a: 5, b: 0}) == {0: b, 1: b}
    assert kvstore.spread({0: 1, 1: 1}, {a: 0, b: 0}) == {0: a, 1: b}


@pytest.mark.ray
@pytest.mark.parametrize("type", ["local", "device"])
def test_values_of_several_devices(type):
    gpus = [mx.gpu(i) for i in range(4)]
    kv = store(type)
    values = [full(1, gpu) for gpu in gpus]
    kv.push(3, values)
    kv.pull(3, out=values)
    assert [(v.context, v.asnumpy()[0, 0]) for v in values] == [(gpu, 4) for gpu in gpus]
    lists = [[full(2, gpu) for gpu in gpus]] * len(KEYS)
    kv.push(KEYS, lists)
    kv.pull(KEYS, out=lists)
    assert all((v.asnumpy() == 8).all() for each in lists for v in each)


@pytest.mark.ray
def test_device_stores_live_on_the_devices_that_push():
    gpus = [mx.gpu(0), mx.gpu(1)]
    kv = mx.kv.create("device")
    kv.init([0, 1, 2], [full(0, shape=(n, 10)) for n in (1, 8, 7)])
    kv.push(0, [full(1, gpu, (1, 10)) for gpu in gpus])
    assert [kv._stored[k].context for k in range(3)] == [gpus[1], gpus[0], gpus[1]]
    kv.init(3, full(0, shape=(2, 10)))
    kv.push(3, [full(1, gpu, (2, 10)) for gpu in gpus])
    assert kv._stored[3].context == gpus[0]


@pytest.mark.ray
def test_an_updater_on_devices():
    gpus = [mx.gpu(i) for i in range(4)]
    kv = store("device")

    def update(key, merged, stored):
        assert merged.context == stored.context
        stored += merged

    kv._set_updater(update)
    for _ in range(3):
        kv.push(KEYS, [[full(1, gpu) for gpu in gpus]] * len(KEYS))
    assert [pulled(kv, key) for key in KEYS] == [12, 12, 12]


@pytest.mark.ray
def test_a_session_with_four_gpus(capsys):
    shape = (2, 3)
    kv = mx.kv.create("local")
    kv.init(3, mx.nd.ones(shape) * 2)
    a = mx.nd.zeros(shape)
    gpus = [mx.gpu(i) for i in range(4)]

    def shown():
        kv.pull(3, out=a)
        return set(a.asnumpy().ravel().tolist())

    assert shown() == {2}
    kv.push(3, mx.nd.ones(shape) * 8)
    assert shown() == {8}
    kv.push(3, [mx.nd.ones(shape, gpu) for gpu in gpus])
    assert shown() == {4}

    def update(key, input, stored):
        print(f"update on key: {key}")
        stored += input * 2

    kv._set_updater(update)
    assert shown() == {4}
    kv.push(3, mx.nd.ones(shape))
    assert shown() == {6}
    b = [mx.nd.ones(shape, gpu) for gpu in gpus]
    kv.pull(3, out=b)
    assert (b[1].asnumpy() == 6).all()

    keys = [5, 7, 9]
    kv.init(keys, [mx.nd.ones(shape)] * len(keys))
    kv.push(keys, [mx.nd.ones(shape)] * len(keys))
    b = [mx.nd.zeros(shape)] * len(keys)
    kv.pull(keys, out=b)
    assert (b[1].asnumpy() == 3).all()
    b = [[mx.nd.ones(shape, gpu) for gpu in gpus]] * len(keys)
    kv.push(keys, b)
    kv.pull(keys, out=b)
    assert (b[1][1].asnumpy() == 11).all()
    each = [f"update on key: {key}" for key in (3, 5, 7, 9, 5, 7, 9)]
    assert capsys.readouterr().out.splitlines() == each
