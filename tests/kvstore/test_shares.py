"""Values cut over devices: sums in order, whoever pulls, what the script's process sees of them, and lost devices."""

import contextlib
import os
import signal
from functools import reduce

import numpy as np
import pytest

import raymx as mx
from raymx import runtime
from raymx.actors import device
from raymx.errors import DeviceLostError
from raymx.kvstore import shares
from raymx.kvstore.shares import Shares
from tests import faults
from tests.devices import in_this_process
from tests.faults import KILL, NOTICED_S, plan, within

LARGE = (shares.SHARE_NBYTES // 4 * 4 + 7,)  # elements that are worth cutting over four devices, not evenly


@pytest.fixture(params=["in this process", pytest.param("actors", marks=pytest.mark.ray)])
def four(request):
    """Four devices that have addresses."""
    if request.param == "actors":
        yield [mx.gpu(i) for i in range(4)]
        return
    with in_this_process():
        yield [mx.cpu(i) for i in (0, 1, 3, 4)]


def parts(count: int, shape=LARGE, seed: int = 0) -> list[np.ndarray]:
    """Numbers whose sum depends on the order."""
    chance = np.random.RandomState(seed)
    return [(chance.randn(*shape) * 10.0 ** chance.randint(-4, 5)).astype("float32") for _ in range(count)]


def in_order(values) -> np.ndarray:
    return reduce(np.add, values)


def on(devices, values) -> list[mx.nd.NDArray]:
    return [mx.nd.array(value, ctx) for value, ctx in zip(values, devices, strict=True)]


def store(shape=LARGE, key=0):
    kv = mx.kv.create("device")
    kv.init(key, mx.nd.zeros(shape))
    return kv


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("shape", [(3, 5), LARGE])
def test_sums_are_those_of_one_device_in_order(four, count, shape):
    values, devices = parts(count, shape), four[:count]
    arrays = on(devices, values)
    kv = store(shape)
    for _ in range(2):  # the same bits each time
        kv.push(0, arrays)
        outs = [mx.nd.zeros(shape, ctx) for ctx in devices]
        kv.pull(0, out=outs)
        for out in outs:
            np.testing.assert_array_equal(out.asnumpy(), in_order(values))
    assert isinstance(kv._stored[0], Shares)


def test_large_values_are_cut_over_all_devices_and_small_ones_are_not(four):
    kv = store()
    kv.init(1, mx.nd.zeros((9,)))
    kv.push([0, 1], [on(four, parts(4)), on(four, parts(4, (9,)))])
    assert [len(kv._stored[key]._shares) for key in (0, 1)] == [4, 1]
    sizes = [share.total.size for share in kv._stored[0]._shares]
    assert sum(sizes) == LARGE[0] and max(sizes) - min(sizes) <= 1


def test_gradients_may_be_pulled_in_place_round_after_round(four):
    values, kv = parts(4), store()
    arrays = on(four, values)
    for _ in range(3):
        kv.push(0, arrays)
        kv.pull(0, out=arrays)
        values = [in_order(values)] * 4
    for array in arrays:
        np.testing.assert_array_equal(array.asnumpy(), values[0])


def test_several_keys_travel_together(four):
    kv = store((3, 4))
    kv.init([1, 2], [mx.nd.zeros(LARGE), mx.nd.zeros((5,))])
    values = [parts(4, shape, seed) for seed, shape in enumerate([(3, 4), LARGE, (5,)])]
    arrays = [on(four, each) for each in values]
    kv.push([0, 1, 2], arrays)
    kv.pull([0, 1, 2], out=arrays)
    for each, expected in zip(arrays, values, strict=True):
        for array in each:
            np.testing.assert_array_equal(array.asnumpy(), in_order(expected))


def test_others_than_those_that_push_may_pull(four):
    values, kv = parts(3), store()
    kv.push(0, on(four[:3], values))
    outs = [mx.nd.zeros(LARGE, ctx) for ctx in (four[3], mx.cpu(), four[0])]
    kv.pull(0, out=outs)
    for out in outs:
        np.testing.assert_array_equal(out.asnumpy(), in_order(values))
    twice = [mx.nd.zeros(LARGE, four[1]) for _ in range(2)]
    kv.pull(0, out=twice)
    for out in twice:
        np.testing.assert_array_equal(out.asnumpy(), in_order(values))


def test_some_of_those_that_push_may_pull(four):
    values, kv = parts(4), store()
    kv.push(0, on(four, values))
    out = mx.nd.zeros(LARGE, four[2])
    kv.pull(0, out=out)
    np.testing.assert_array_equal(out.asnumpy(), in_order(values))


def test_other_devices_may_push(four):
    kv = store()
    for devices in (four, four[:2], four[1:], [four[3]], four[::-1]):
        values = parts(len(devices), seed=len(devices))
        kv.push(0, on(devices, values))
        out = mx.nd.zeros(LARGE, devices[0])
        kv.pull(0, out=out)
        np.testing.assert_array_equal(out.asnumpy(), in_order(values))


def test_the_first_value_is_there_until_a_push_and_an_updater_finds_what_was_cut(four):
    kv = mx.kv.create("device")
    kv.init(0, mx.nd.full(LARGE, 3))
    values = parts(4)
    kv.push(0, on(four, values))

    def update(key, merged, stored):
        stored += merged

    kv._set_updater(update)
    kv.push(0, on(four, values))
    out = mx.nd.zeros(LARGE, four[1])
    kv.pull(0, out=out)
    np.testing.assert_array_equal(out.asnumpy(), in_order(values) + in_order(values))


def test_windows_on_arrays_travel(four):
    values, kv = parts(4), store()
    rows = [mx.nd.zeros((2, *LARGE), ctx) for ctx in four]
    for row, value in zip(rows, values, strict=True):
        row[1:] = mx.nd.array(value[None], row.context)
    arrays = [row[1:].reshape(LARGE) for row in rows]
    kv.push(0, arrays)
    kv.pull(0, out=arrays)
    for row in rows:
        found = row.asnumpy()
        np.testing.assert_array_equal(found[1], in_order(values))
        assert not found[0].any()


# ---- what passes the script's process ----


@contextlib.contextmanager
def watched(monkeypatch):
    """Inside, everything that the script's process hands to devices or takes from them is counted."""
    from raymx.runtime import cluster

    seen = {"messages": 0, "refs": 0, "fetched": 0, "delivered": 0, "nbytes": 0}

    def count(name, thing, how):
        usual = getattr(thing, name)

        def counted(*args):
            how(*args)
            return usual(*args)

        monkeypatch.setattr(thing, name, counted)

    def sent(_, number, segments, exports):
        seen["messages"] += 1
        seen["refs"] += exports

    def fetched(*_):
        seen["fetched"] += 1

    def delivered(*_):
        seen["delivered"] += 1

    count("send", cluster.RayTransport, sent)
    count("fetch", cluster.RayTransport, fetched)
    count("_deliver", cluster.RayTransport, delivered)
    usual = cluster.pack

    def packed(segments):
        data, buffers, refs = usual(segments)
        seen["nbytes"] += len(data) + sum(memoryview(each).nbytes for each in buffers)
        seen["refs"] += len(refs)
        return data, buffers, refs

    monkeypatch.setattr(cluster, "pack", packed)
    yield seen
    monkeypatch.undo()


@pytest.mark.ray
@pytest.mark.parametrize("shape", [(300,), LARGE])
def test_nothing_passes_the_scripts_process(monkeypatch, shape):
    gpus = [mx.gpu(i) for i in range(4)]
    values, kv = parts(4, shape), store(shape)
    arrays = on(gpus, values)
    kv.push(0, arrays)
    kv.pull(0, out=[mx.nd.zeros(shape, gpu) for gpu in gpus])
    mx.nd.waitall()
    with watched(monkeypatch) as seen:
        kv.push(0, arrays)
        kv.pull(0, out=arrays)
        mx.nd.waitall()
    assert (seen["refs"], seen["fetched"], seen["delivered"]) == (0, 0, 0)
    assert seen["messages"] <= 2 * 4, "one to each device, and what was freed"
    assert seen["nbytes"] < 4 * 2000
    for array in arrays:
        np.testing.assert_array_equal(array.asnumpy(), in_order(values))


# ---- faults ----


@pytest.fixture
def mortal():
    """Three devices that a test may end."""
    with faults.actors(3) as contexts:
        yield contexts


def pushed(devices):
    values, kv = parts(3), store()
    arrays = on(devices, values)
    kv.push(0, arrays)
    kv.pull(0, out=arrays)
    mx.nd.waitall()
    return kv, arrays


LOST = r"cpu\({}\) was lost before its value was copied\.$"


@pytest.mark.ray
@pytest.mark.parametrize("when", ["before it sends", "before it sums", "after it summed"])
def test_a_device_that_is_killed_between_push_and_pull(mortal, when):
    kv, arrays = pushed(mortal)
    mine = [mx.nd.full((2, 3), 7, ctx) for ctx in mortal[:2]]
    with within(4 * NOTICED_S):
        with contextlib.suppress(DeviceLostError):
            if when == "before it sends":
                plan(arrays[2], KILL)
            kv.push(0, arrays)
            if when == "before it sums":
                arrays[2]._lane.push((device.SEED, faults.WhenRead(KILL)))
            if when == "after it summed":
                plan(kv._stored[0]._shares[2].total, KILL)
            kv.pull(0, out=arrays)
        with pytest.raises(DeviceLostError, match=rf"cpu\({mortal[2].device_id}\) was lost"):
            arrays[2].asnumpy()
        for array in arrays[:2]:
            with pytest.raises(DeviceLostError, match=LOST.format(mortal[2].device_id)):
                array.asnumpy()
        with contextlib.suppress(DeviceLostError):
            mx.nd.waitall()
        for array in mine:
            assert (array.asnumpy() == 7).all(), "what had nothing to do with it is there"
        left, values = arrays[:2], parts(2, seed=5)
        for array, value in zip(left, values, strict=True):
            array[:] = value  # whole: it works again
        kv = store()
        kv.push(0, left)
        kv.pull(0, out=left)
        for array in left:
            np.testing.assert_array_equal(array.asnumpy(), in_order(values))


@pytest.mark.ray
def test_a_device_that_is_started_anew_takes_part_again(mortal):
    pushed(mortal)
    runtime.restart(mortal[1])
    _, arrays = pushed(mortal)
    for array in arrays:
        np.testing.assert_array_equal(array.asnumpy(), in_order(parts(3)))


@pytest.mark.ray
def test_a_device_that_stops_answering(mortal):
    kv, arrays = pushed(mortal)
    pid = runtime.device_pid(mortal[2])
    os.kill(pid, signal.SIGSTOP)
    with mx.config.using(heartbeat_s=0.2), within(4 * NOTICED_S):
        kv.push(0, arrays)
        kv.pull(0, out=arrays)
        with pytest.raises(DeviceLostError, match=rf"cpu\({mortal[2].device_id}\) was lost"):
            arrays[0].asnumpy()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


@pytest.mark.ray
def test_a_failed_gradient_fails_everywhere_with_its_cause():
    kv, arrays = pushed([mx.gpu(i) for i in range(3)])
    plan(arrays[1], "1 / 0")
    kv.push(0, arrays)
    kv.pull(0, out=arrays)
    with within(NOTICED_S):
        for array in arrays:
            with pytest.raises(mx.errors.TaskError, match=r"gather on gpu\(1\) with inputs .* \(pushed at "):
                array.asnumpy()


@pytest.mark.ray
def test_a_device_that_breaks_down_tells_those_that_wait(mortal):
    """Its process is there, and answers signs of life."""
    kv, arrays = pushed(mortal)
    with within(2 * NOTICED_S):
        with faults.together(arrays[2]):
            arrays[2]._lane.push((device.SEED, faults.WhenRead("1 / 0")))
            kv.push(0, arrays)
            with contextlib.suppress(mx.errors.DeviceError):
                kv.pull(0, out=arrays)
        with pytest.raises(DeviceLostError, match=rf"cpu\({mortal[2].device_id}\) stopped: ZeroDivisionError"):
            arrays[0].asnumpy()
