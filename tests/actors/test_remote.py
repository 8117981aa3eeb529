"""What a device actor's process is like."""

import os

import pytest

import raymx as mx
from raymx import config, runtime
from tests.faults import When, actors

pytestmark = pytest.mark.ray


def on(context, code: str):
    """What `code` gives in the process of a device; it may be an integer from 0 to 999."""
    numbers = mx.nd.array(list(range(1000)), context)
    found = mx.nd.empty((1,), context)
    found._lane.gather(found._id, numbers._id, numbers._var, When(code, "{}"))
    return int(found.asscalar())


def test_settings_travel_to_the_actor():
    with config.using(pool_mb=77), actors(1) as (context,):
        assert on(context, "__import__('raymx.config').config.get('pool_mb')") == 77


def test_an_actor_of_kind_cpu_sees_no_gpu_and_has_full_priority():
    context = mx.gpu(0)
    assert on(context, "__import__('os').environ['CUDA_VISIBLE_DEVICES'] == ''") == 1
    about = runtime.describe(context)
    assert about["niceness"] in (0, os.getpriority(os.PRIO_PROCESS, about["pid"]))
    if os.geteuid() == 0:
        assert about["niceness"] == 0


def test_all_tasks_run_on_one_thread():
    code = "__import__('threading').current_thread().name == 'raymx gpu(0)'"
    assert on(mx.gpu(0), code) == 1
