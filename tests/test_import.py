"""`import raymx` is cheap and lazy, and every public name is there."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

import raymx as mx
import raymx.initializer  # loaded before `mx.init` is touched, as some user's import may do
from raymx import runtime


def run(code: str, *arguments: str) -> str:
    """What `code` prints in a fresh interpreter in which warnings are errors."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


HEAVY = "print(sorted({m.split('.')[0] for m in sys.modules} & {'ray', 'cupy', 'fsspec', 'numpy', 'sklearn', 'tqdm'}))"


def test_import_loads_nothing_heavy():
    assert run(f"import sys, raymx; {HEAVY}") == "[]\n"


def test_arrays_on_the_cpu_never_load_ray():
    code = "import sys, raymx as mx; a = mx.nd.ones((2, 3)); a += 1; print(a.asnumpy().sum(), (a * a).context)"
    assert run(f"{code}; {HEAVY}") == "12.0 cpu(0)\n['numpy']\n"


TRAINING = """
import sys, numpy, raymx as mx
net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2), name="softmax")
model = mx.model.FeedForward(net, ctx=mx.cpu(), num_epoch=1, numpy_batch_size=2)
model.fit(numpy.ones((4, 3)), numpy.ones(4))
model.save(sys.argv[1], 1)
"""


def test_training_on_the_cpu_never_loads_ray(tmp_path):
    loaded = run(f"{TRAINING}\n{HEAVY}", str(tmp_path / "net"))
    assert not [module for module in ("ray", "cupy", "fsspec") if repr(module) in loaded]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net-0001.params", "net-symbol.json"]


@pytest.mark.parametrize("name", mx.__all__)
def test_every_public_name_loads(name):
    assert getattr(mx, name) is not None
    assert name in dir(mx)


def test_all_lists_the_lazy_names():
    assert set(mx.__all__) == {*mx._MODULES, *mx._OBJECTS, "MXNetError"}


def test_short_names_are_the_long_modules():
    assert mx.nd is mx.ndarray and mx.sym is mx.symbol and mx.kv is mx.kvstore
    assert mx.rnd is mx.random and mx.mon is mx.monitor and mx.viz is mx.visualization


def test_version_is_a_plain_string():
    assert mx.__version__ == "0.1.0"


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(AttributeError, match=r"raymx has no attribute 'ndaray'; did you mean 'ndarray'\?"):
        mx.ndaray  # noqa: B018


def test_init_is_the_initializers_and_starts_ray(monkeypatch):
    calls = []
    monkeypatch.setattr(runtime, "init", lambda **options: calls.append(options))
    assert isinstance(mx.init, types.ModuleType)
    assert mx.init is raymx.initializer
    assert mx.init.Xavier is raymx.initializer.Xavier
    mx.init(virtual_gpus=4, num_cpus=2)
    mx.init("auto")
    assert calls == [
        {"address": None, "virtual_gpus": 4, "num_cpus": 2},
        {"address": "auto", "virtual_gpus": None},
    ]
