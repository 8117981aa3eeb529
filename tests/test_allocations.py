"""A training step takes no memory: kernels write where they are told, into what was planned at bind time."""

import tracemalloc

import numpy as np
import pytest

import raymx as mx
from benchmarks import models
from raymx import config

BUFFERS_NBYTES = 1 << 17  # what a kernel may take and give back: NumPy converts types 8192 elements at a time


def lstm(mx):
    out, _ = mx.rnn.LSTMCell(32, prefix="lstm_").unroll(4, mx.sym.Variable("data"), layout="TNC", merge_outputs=True)
    out = mx.sym.FullyConnected(mx.sym.Reshape(out, shape=(-1, 32)), num_hidden=40, name="head")
    return mx.sym.SoftmaxOutput(out, mx.sym.Reshape(mx.sym.Variable("softmax_label"), shape=(-1,)), name="softmax")


NETWORKS = {
    "mlp": (lambda mx: models.mlp(mx, (100, 64, 64, 10)), (256, 100), (256,)),
    "lenet": (models.lenet, (32, 1, 28, 28), (32,)),
    "resnet": (lambda mx: models.resnet(mx, units=1), (32, 3, 32, 32), (32,)),
    "lstm": (lstm, (4, 128, 32), (4, 128)),
}


def bound(name):
    make, data, label = NETWORKS[name]
    executor, names = models.bound(mx, mx.cpu(), make(mx), {"data": data, "softmax_label": label})
    update = mx.optimizer.get_updater(mx.optimizer.SGD(learning_rate=0.1, momentum=0.9))

    def step():
        executor.forward(is_train=True)
        executor.backward()
        for index, each in enumerate(names):
            update(index, executor.grad_dict[each], executor.arg_dict[each])
        mx.nd.waitall()

    for _ in range(3):
        step()
    return executor, step


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.fixture(params=[True, False], ids=["onednn", "numpy"])
def kernels(request):
    """With oneDNN's kernels, if they are there, and without."""
    with config.using(onednn=request.param):
        yield


def taken(run):
    """Bytes that were taken at the most while `run` ran."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    run()
    return tracemalloc.get_traced_memory()[1] - before


@pytest.mark.parametrize("name", NETWORKS)
def test_no_step_of_a_program_takes_memory(name, kernels, traced):
    programs = mx.cpu().lane.transport._host.runner.programs
    executor, _ = bound(name)  # a program lives as long
    program = programs[max(programs)]
    with np.errstate(all="ignore"):
        most = {
            f"{phase}: {step.op.name} {step.name!r}": taken(run)
            for (phase, _), (runs, steps) in program._phases.items()
            for run, step in zip(runs, steps, strict=True)
        }
    assert {step: nbytes for step, nbytes in most.items() if nbytes > BUFFERS_NBYTES} == {}
    del executor


@pytest.mark.parametrize("name", NETWORKS)
def test_a_hundred_steps_take_no_more_than_one(name, traced):
    _, step = bound(name)
    domain = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)

    def arrays_nbytes():
        return sum(each.size for each in tracemalloc.take_snapshot().filter_traces([domain]).traces)

    before = arrays_nbytes()
    for _ in range(100):
        step()
    assert arrays_nbytes() - before < 4096
