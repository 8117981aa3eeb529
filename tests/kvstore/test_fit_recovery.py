"""Whole states of a training in many workers: what was stopped ends as if it had not been; torn states are not read."""

from __future__ import annotations

import itertools
import shutil

import pytest

import raymx as mx
from raymx.errors import FormatError, MXNetError, ParameterError
from raymx.module import saving
from tests.kvstore.training import launched, train, weights

pytestmark = pytest.mark.ray
PARTS = ("params", "rank0", "rank1", "shard0", "shard1", "json")


class Stopped(Exception):
    pass


def stopped(epoch, *_):
    raise Stopped(f"stopped after {epoch + 1} epochs")


@pytest.fixture(scope="module")
def whole(ray_cluster, tmp_path_factory):
    """(folder, prefix, what all workers end with) of a training that keeps its state after each of two epochs."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, f"{folder}/net", weights(launched(0, checkpoint=f"{folder}/net"))


@pytest.fixture
def copy(whole, tmp_path):
    """The same files, to be damaged."""
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_keeping_states_changes_nothing(whole):
    assert whole[2] == weights(launched(0))


@pytest.mark.parametrize("scheme", ["", "local://"])
def test_a_training_that_was_stopped_ends_as_if_it_had_not_been(whole, tmp_path, scheme):
    prefix = f"{scheme}{tmp_path}/net"
    with pytest.raises(Stopped):
        launched(0, checkpoint=prefix, epoch_end_callback=stopped, replicas=0, fn=train_one_epoch)
    assert saving.newest(prefix, 1, 2).epoch == 1
    assert weights(launched(0, checkpoint=prefix, resume="auto", replicas=0)) == whole[2]
    assert saving.newest(prefix, 1, 2).epoch == 2


def test_a_training_that_is_done_ends_at_once(whole):
    assert weights(launched(0, checkpoint=whole[1], resume="auto", replicas=0)) == whole[2]


def train_one_epoch(*args, epoch_end_callback, **options):
    """Stop at the end of the second epoch, before its state is written."""
    return train(*args, epoch_end_callback=lambda epoch, *rest: epoch == 1 and epoch_end_callback(epoch), **options)


def test_orders_of_rows_go_on_though_the_script_draws_others(copy, whole):
    (copy / "net-0002.json").unlink()
    assert weights(launched(0, checkpoint=f"{copy}/net", resume="auto", replicas=0, seed=99)) == whole[2]


def test_feed_forward_goes_on_as_well(tmp_path):
    prefix = f"{tmp_path}/net"
    expected = weights(launched(0, "model", checkpoint=prefix))
    (tmp_path / "net-0002.json").unlink()
    assert weights(launched(0, "model", checkpoint=prefix, resume=1)) == expected


def test_what_compressed_gradients_owe_is_kept(tmp_path):
    prefix, how = f"{tmp_path}/net", {"type": "2bit", "threshold": 0.01}
    expected = weights(launched(0, compression=how, checkpoint=prefix))
    (tmp_path / "net-0002.json").unlink()
    assert weights(launched(0, compression=how, checkpoint=prefix, resume="auto")) == expected


@pytest.mark.parametrize("part, damage", [*itertools.product(PARTS, ["cut", "changed", "missing", "of another epoch"]),
                                          ("rank0", "of another rank"), ("shard1", "of another rank")])  # fmt: skip
def test_a_torn_state_is_never_read(part, damage, copy, caplog):
    path = copy / f"net-0002.{part}"
    data = path.read_bytes()
    other = {"rank0": "rank1", "shard1": "shard0"}.get(part, part)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": data[:-3], "changed": data[:4] + b"?" + data[5:],
                          "of another epoch": (copy / f"net-0001.{part}").read_bytes(),
                          "of another rank": (copy / f"net-0002.{other}").read_bytes()}[damage])  # fmt: skip
    with pytest.raises((FormatError, FileNotFoundError), match=f"net-0002.{part}"):
        saving.read(f"{copy}/net", 2)
    assert saving.newest(f"{copy}/net", 1, 2).epoch == 1
    told = [r for r in caplog.records if "passing over a torn checkpoint" in r.getMessage()]
    assert len(told) == (0 if (part, damage) == ("json", "missing") else 1)


def test_a_state_of_other_workers_is_refused(whole):
    with pytest.raises(ParameterError, match=r"is of 2 workers and 2 shards .* but here is a training without"):
        saving.found(whole[1], "auto", 0, 2)


def test_another_number_of_shards_is_refused(whole):
    def work(prefix):
        from raymx import config
        from tests.kvstore.training import train

        config.set(kvstore_bigarray_bound=1000)
        return train(0, checkpoint=prefix, resume=1)

    with pytest.raises(ParameterError, match=r"is of 2 workers and 2 shards .* but here is 1 workers and 2 shards"):
        mx.launch(work, 1, num_servers=2, args=(whole[1],), resources={"CPU": 0})


def test_workers_with_unequal_epochs_are_told_so(tmp_path):
    def work(prefix):
        import raymx as mx
        from tests.kvstore.training import BATCH, network, samples

        kv = mx.kv.create("dist_sync")
        images, labels = (each[: BATCH * (kv.rank + 1)] for each in samples(0))
        module = mx.mod.Module(network(), context=mx.cpu())
        module.fit(mx.io.NDArrayIter(images, labels, BATCH), kvstore=kv, num_epoch=2, checkpoint=prefix)

    with pytest.raises(MXNetError, match="would wait for ever for worker 0, which waits at a barrier or checkpoint"):
        mx.launch(work, 2, num_servers=1, args=(f"{tmp_path}/net",), resources={"CPU": 0})
