"""Models of MXNet 1.9.1 load and give its numbers; what is written of them is what MXNet writes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

import raymx as mx
from benchmarks import peers
from raymx import config
from raymx.graph.node import topological
from tests.artifacts import HERE, NAMES

TOLERANCE = 1e-4  # relative to the largest value of an array
COARSE = {"inception": 1e-3}  # MXNet's gradient of LRN is this far from that in float64, ours is 2e-6 off
WRONG = {"prelu_gamma"}  # MXNet's gradient is 30 % off that in float64 where data has one, too


@pytest.fixture(params=["numpy", "onednn"])
def backend(request):
    with config.using(onednn=request.param == "onednn"):
        yield


def stored(name):
    """The symbol, its parameters and states, and what MXNet computed."""
    symbol, args, aux = mx.model.load_checkpoint(str(HERE / name), 1)
    with np.load(HERE / f"{name}.npz") as arrays:
        return symbol, args, aux, dict(arrays)


def bound(symbol, args, aux, arrays, ctx=None):
    """An executor with the same inputs and gradients as MXNet's."""
    fed = {what[3:]: a for what, a in arrays.items() if what.startswith("in:")}
    reqs = {n: "write" if f"grad:{n}" in arrays else "null" for n in symbol.list_arguments()}
    executor = symbol.simple_bind(ctx or mx.cpu(), grad_req=reqs, **{n: a.shape for n, a in fed.items()})
    executor.copy_params_from({**args, **{n: mx.nd.array(a) for n, a in fed.items()}}, aux)
    return executor


def close(got, expected, what, tolerance=TOLERANCE):
    scale = max(float(np.abs(expected).max()), 1e-2)  # of a bias before BatchNorm the gradient is 0 but for rounding
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def check_against_mxnet(executor, arrays, tolerance=TOLERANCE):
    for i, output in enumerate(executor.forward(is_train=False)):
        close(output.asnumpy(), arrays[f"eval:{i}"], f"output {i}")
    for i, output in enumerate(executor.forward(is_train=True)):
        close(output.asnumpy(), arrays[f"train:{i}"], f"output {i} in training")
    executor.backward([mx.nd.array(arrays[f"head:{i}"]) for i in range(len(executor.outputs))])
    for name, gradient in executor.grad_dict.items():
        if gradient is not None and name not in WRONG:
            close(gradient.asnumpy(), arrays[f"grad:{name}"], f"gradient of {name}", tolerance)
    for name, state in executor.aux_dict.items():
        close(state.asnumpy(), arrays[f"aux:{name}"], name)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_gradients_and_states(name, backend):
    symbol, args, aux, arrays = stored(name)
    check_against_mxnet(bound(symbol, args, aux, arrays), arrays, COARSE.get(name, TOLERANCE))


@pytest.mark.parametrize("name", NAMES)
def test_a_symbol_goes_round_unchanged(name):
    text = (HERE / f"{name}-symbol.json").read_text()
    assert mx.sym.load_json(text).tojson() == text


@pytest.mark.parametrize("name", NAMES)
def test_the_script_that_built_it_with_mxnet_builds_the_same_symbol_here(name):
    with mx.name.NameManager():
        symbol, shapes = getattr(script(), name)()
    assert _graph(symbol) == _graph(mx.sym.load(str(HERE / f"{name}-symbol.json")))
    assert symbol.infer_shape(**shapes)[0] is not None


def _graph(symbol):
    """Nodes in order with operators and inputs; names that were numbered do not count."""
    order = topological(symbol.heads)
    number = {node: i for i, node in enumerate(order)}
    names = (node.name if not node.op or not node.name[-1:].isdigit() else "" for node in order)
    inputs = ([(number[e.node], e.index) for e in node.inputs] for node in order)
    return [*zip(names, (node.op for node in order), inputs, strict=True)], [number[e.node] for e in symbol.heads]


def script():
    """`make.py` with raymx in the place of MXNet."""
    spec = importlib.util.spec_from_file_location("make", HERE / "make.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mxnet", mx)
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_parameters_go_round_unchanged(name, tmp_path):
    symbol, args, aux = mx.model.load_checkpoint(str(HERE / name), 1)
    mx.model.save_checkpoint(str(tmp_path / "again"), 1, symbol, args, aux)
    assert (tmp_path / "again-0001.params").read_bytes() == (HERE / f"{name}-0001.params").read_bytes()
    assert (tmp_path / "again-symbol.json").read_text() == (HERE / f"{name}-symbol.json").read_text()


@pytest.mark.parametrize("name", ["resnet", "inception", "autoencoder"])
def test_the_form_of_2015_gives_the_same_numbers(name, backend):
    """Parameters in `param`, no states in the graph: how 0.5 to 0.8 wrote it."""
    symbol, args, aux, arrays = stored(name)
    old = mx.sym.load_json(_as_in_2015(json.loads((HERE / f"{name}-symbol.json").read_text())))
    assert old.list_arguments() == symbol.list_arguments()
    assert old.list_auxiliary_states() == symbol.list_auxiliary_states()
    check_against_mxnet(bound(old, args, aux, arrays), arrays, COARSE.get(name, TOLERANCE))


def _as_in_2015(graph) -> str:
    states = {e[0] for n in graph["nodes"] if n["op"] == "BatchNorm" for e in n["inputs"][3:]}
    kept = [i for i in range(len(graph["nodes"])) if i not in states]
    number = {old: new for new, old in enumerate(kept)}
    nodes = []
    for i in kept:
        node = graph["nodes"][i]
        inputs = [[number[e[0]], e[1]] for e in node["inputs"] if e[0] not in states]
        param = node.get("attrs", {}) if node["op"] != "null" else {}
        if node["op"] == "Pooling":
            param = {"pooling_convention": "valid", **param}
        record = {"op": node["op"], "name": node["name"], "param": param, "inputs": inputs}
        nodes.append({**record, "backward_source_id": -1})
    heads = [[number[h[0]], h[1]] for h in graph["heads"]]
    arguments = [i for i, n in enumerate(nodes) if n["op"] == "null"]
    return json.dumps({"nodes": nodes, "arg_nodes": arguments, "heads": heads})


# ---- other files of MXNet, where they lie beside the repository ----

SHARED = HERE.parents[2] / "shared" / "artifacts"


@pytest.mark.skipif(not SHARED.is_dir(), reason="no files written by MXNet beside the repository")
@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_shared_models(name, backend):
    symbol, args, aux = mx.model.load_checkpoint(str(SHARED / name), 1)
    with np.load(SHARED / f"{name}.npz") as file:
        arrays = dict(file)
    executor = bound(symbol, args, aux, {w: a for w, a in arrays.items() if w in ("in:data", "in:softmax_label")} | {
        w: a for w, a in arrays.items() if w.startswith("grad:")})  # fmt: skip
    close(executor.forward(is_train=False)[0].asnumpy(), arrays["eval:0"], "output")
    close(executor.forward(is_train=True)[0].asnumpy(), arrays["train:0"], "output in training")
    executor.backward()
    for what, expected in arrays.items():
        kind, _, key = what.partition(":")
        if kind == "grad" and not (name == "lenet" and key in ("conv1_bias", "conv2_bias")):  # zero before BatchNorm
            close(executor.grad_dict[key].asnumpy(), expected, what)
        if kind == "aux_after":
            close(executor.aux_dict[key].asnumpy(), expected, what)


# ---- beside real MXNet ----

RUN_IN_MXNET = """
import sys, mxnet as mx, numpy as np
prefix = sys.argv[1]
symbol, args, aux = mx.model.load_checkpoint(prefix, 1)
arrays = np.load(prefix + "-fed.npz")
executor = symbol.simple_bind(mx.cpu(), **{n: arrays[n].shape for n in arrays.files})
executor.copy_params_from(dict(args, **{n: mx.nd.array(arrays[n]) for n in arrays.files}), aux)
np.savez(prefix + "-out.npz", *[o.asnumpy() for o in executor.forward(is_train=False)])
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_mxnet_loads_what_raymx_builds_and_saves(name, tmp_path):
    """With random parameters, in a process of real MXNet; skipped where its environment is not there."""
    python = peers.folder() / "mxnet" / "bin" / "python"
    if not python.exists():
        pytest.skip("no environment with MXNet 1.9.1 (python benchmarks/peers.py makes it)")
    with mx.name.NameManager():
        symbol, shapes = getattr(script(), name)()
    random = np.random.RandomState(3)
    executor = symbol.simple_bind(mx.cpu(), grad_req="null", **shapes)
    fed = {n: script().fed(n, shape, random).astype("float32") for n, shape in shapes.items()}
    learnt = {n: mx.nd.array(random.uniform(0.1, 0.5, a.shape)) for n, a in executor.arg_dict.items() if n not in fed}
    states = {n: mx.nd.array(random.uniform(0.5, 1, a.shape)) for n, a in executor.aux_dict.items()}
    executor.copy_params_from({**learnt, **{n: mx.nd.array(a) for n, a in fed.items()}}, states)
    prefix = str(tmp_path / name)
    mx.model.save_checkpoint(prefix, 1, symbol, learnt, states)
    np.savez(f"{prefix}-fed.npz", **fed)
    subprocess.run([python, "-W", "ignore", "-c", RUN_IN_MXNET, prefix], check=True, timeout=120, capture_output=True)
    with np.load(f"{prefix}-out.npz") as outputs:
        for i, output in enumerate(executor.forward(is_train=False)):
            close(output.asnumpy(), outputs[f"arr_{i}"], f"output {i}")
