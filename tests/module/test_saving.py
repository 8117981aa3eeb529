"""Whole states of a training: what was stopped ends as if it had not been; torn states are not read."""

import numpy as np
import pytest

import raymx as mx
from raymx.errors import FormatError, ParameterError
from raymx.module import saving


class Stopped(Exception):
    pass


def network():
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=8, name="fc1")
    net = mx.sym.Activation(mx.sym.BatchNorm(net, fix_gamma=False, name="bn"), act_type="relu")
    net = mx.sym.FullyConnected(mx.sym.Dropout(net, p=0.3), num_hidden=3, name="fc2")
    return mx.sym.SoftmaxOutput(net, name="softmax")


def fit(devices=1, optimizer="adam", stop_after=None, num_epoch=5, **options):
    """Train as a script does that is started; parameters and states as bytes."""
    mx.random.seed(5)
    np.random.seed(7)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(22, 6)).astype("float32"), rng.integers(0, 3, 22).astype("float32")
    data = mx.io.NDArrayIter(x, y, 6, shuffle=True, last_batch_handle="roll_over")
    module = mx.mod.Module(network(), context=[mx.cpu()] * devices)

    def stop(epoch, *_):
        if epoch == stop_after:
            raise Stopped

    schedule = mx.lr_scheduler.FactorScheduler(3, 0.7)
    module.fit(data, optimizer=optimizer, optimizer_params={"learning_rate": 0.05, "lr_scheduler": schedule},
               initializer=mx.init.Xavier(), num_epoch=num_epoch, epoch_end_callback=stop, **options)  # fmt: skip
    return [{name: value.asnumpy().tobytes() for name, value in each.items()} for each in module.get_params()]


@pytest.fixture(params=["file", "memory"])
def prefix(request, tmp_path):
    return str(tmp_path / "net") if request.param == "file" else f"memory://{tmp_path.name}/net"


@pytest.mark.parametrize("devices, optimizer", [(1, "adam"), (2, "adam"), (1, "nadam"), (1, "sgd")])
def test_a_training_that_was_stopped_ends_as_if_it_had_not_been(devices, optimizer, prefix):
    expected = fit(devices, optimizer)
    with pytest.raises(Stopped):
        fit(devices, optimizer, stop_after=3, checkpoint=prefix, resume="auto")
    assert saving.newest(prefix, 1, 5).epoch == 3
    assert fit(devices, optimizer, checkpoint=prefix, resume="auto") == expected
    assert fit(devices, optimizer, checkpoint=prefix, resume="auto") == expected  # it is done already
    assert fit(devices, optimizer, checkpoint=prefix, resume=2) == expected


def test_feed_forward_goes_on_as_well(prefix):
    def train(stop_after=None, **options):
        def stop(epoch, *_):
            if epoch == stop_after:
                raise Stopped

        mx.random.seed(5)
        np.random.seed(7)
        x, y = np.random.normal(size=(22, 6)), np.random.randint(0, 3, 22)
        model = mx.model.FeedForward(network(), num_epoch=4, numpy_batch_size=6, optimizer="adam")
        model.fit(x, y, epoch_end_callback=stop, **options)
        return {name: value.asnumpy().tobytes() for name, value in {**model.arg_params, **model.aux_params}.items()}

    expected = train()
    with pytest.raises(Stopped):
        train(2, checkpoint=prefix)
    assert train(checkpoint=prefix, resume="auto") == expected


@pytest.mark.parametrize("part", ["params", "states", "json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_a_torn_state_is_never_read(part, damage, tmp_path):
    prefix = str(tmp_path / "net")
    expected = fit(checkpoint=prefix)
    path = tmp_path / f"net-0005.{part}"
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-3] if damage == "cut" else data[:4] + b"?" + data[5:])
    if damage != "missing":
        with pytest.raises(FormatError, match=f"net-0005.{part}"):
            saving.read(prefix, 5)
    assert saving.newest(prefix, 1, 5).epoch == 4
    assert fit(checkpoint=prefix, resume="auto") == expected


def test_nothing_to_go_on_from_begins_at_the_beginning(tmp_path):
    assert fit(num_epoch=1, checkpoint=str(tmp_path / "net"), resume="auto") == fit(num_epoch=1)


def test_refusals(tmp_path):
    with pytest.raises(ParameterError, match="resume='auto' needs checkpoint"):
        fit(resume="auto")
    with pytest.raises(ParameterError, match="resume must be 'auto', a number of epochs or None, got 'last'"):
        fit(checkpoint=str(tmp_path / "net"), resume="last")
    with pytest.raises(FileNotFoundError, match=r"net-0009\.json"):
        fit(checkpoint=str(tmp_path / "net"), resume=9)
