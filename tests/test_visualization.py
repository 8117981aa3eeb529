"""Pictures through graphviz, if it is there, and tables."""

from __future__ import annotations

import sys
import types

import pytest

import raymx as mx
from raymx.errors import GraphError, MXNetError, ShapeError
from tests.graph.toys import Norm, registered


class Digraph:
    """Remembers what it is told, as graphviz.Digraph would draw it."""

    def __init__(self, name, format):
        self.name, self.format, self.nodes, self.edges = name, format, {}, []

    def node(self, name, label, **attributes):
        self.nodes[name] = (label, attributes)

    def edge(self, tail, head, **attributes):
        self.edges.append((self.nodes[tail][0], self.nodes[head][0], attributes["label"]))


@pytest.fixture
def graphviz(monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", types.SimpleNamespace(Digraph=Digraph))


def mlp():
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), name="fc1", num_hidden=16)
    net = mx.sym.Activation(net, name="relu1", act_type="relu")
    net = mx.sym.FullyConnected(net, name="fc2", num_hidden=4)
    return mx.sym.SoftmaxOutput(net, name="softmax")


def test_a_plot_leaves_weights_out(graphviz):
    plot = mx.viz.plot_network(mlp(), title="net", save_format="png")
    assert (plot.name, plot.format) == ("net", "png")
    assert [label for label, _ in plot.nodes.values()] == [
        "data", "FullyConnected\n16", "Activation\nrelu", "FullyConnected\n4", "softmax_label", "SoftmaxOutput",
    ]  # fmt: skip
    assert ("Activation\nrelu", "FullyConnected\n16", "") in plot.edges and len(plot.edges) == 5


def test_a_plot_with_everything(graphviz):
    plot = mx.viz.plot_network(
        mlp(), shape={"data": (8, 10)}, dtype={"data": "float32"}, node_attrs={"shape": "rect"}, hide_weights=False
    )
    assert len(plot.nodes) == 10
    assert ("FullyConnected\n16", "data", "10 float32") in plot.edges
    assert ("SoftmaxOutput", "FullyConnected\n4", "4 float32") in plot.edges
    assert all(attributes["shape"] == "rect" for _, attributes in plot.nodes.values())


def test_states_are_left_out_and_names_may_repeat(graphviz):
    with registered(_test_norm=Norm):
        net = mx.sym._test_norm(mx.sym._test_norm(mx.sym.Variable("x"), name="bn"), name="bn")
        plot = mx.viz.plot_network(net)
    assert [label for label, _ in plot.nodes.values()] == ["x", "_test_norm", "_test_norm"]


def test_no_plot_without_graphviz(monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(
        MXNetError, match=r"plot_network needs the Python package graphviz .*pip install 'raymx\[viz\]'"
    ):
        mx.viz.plot_network(mlp())


def test_wrong_use(graphviz):
    with pytest.raises(GraphError, match=r"plot_network: expected a Symbol, got a value of type int."):
        mx.viz.plot_network(3)
    with pytest.raises(GraphError, match=r"print_summary: expected a Symbol, got a value of type str."):
        mx.viz.print_summary("net")
    with pytest.raises(
        ShapeError,
        match=r"plot_network: shape= does not tell the shape of data, fc1_weight, .*; give the shapes of all",
    ):
        mx.viz.plot_network(mlp(), shape={"softmax_label": (3,)})


def test_a_summary(capsys):
    mx.viz.print_summary(mlp(), shape={"data": (8, 10)}, line_length=80)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if not line.startswith(("_", "="))]
    assert lines == [
        ["Layer", "(type)", "Output", "Shape", "Param", "#", "Previous", "Layer"],
        ["data(null)", "(8,", "10)", "0"],
        ["fc1(FullyConnected)", "(8,", "16)", "176", "data"],
        ["relu1(Activation)", "(8,", "16)", "0", "fc1"],
        ["fc2(FullyConnected)", "(8,", "4)", "68", "relu1"],
        ["softmax(SoftmaxOutput)", "(8,", "4)", "0", "fc2"],
        ["Total", "params:", "244"],
    ]


def test_a_summary_without_shapes_and_with_shared_weights(capsys):
    a, weight = mx.sym.Variable("a"), mx.sym.Variable("w_weight")
    twice = [mx.sym.FullyConnected(a, weight, num_hidden=3, no_bias=True, name=n) for n in ("l", "r")]
    net = mx.sym.Concat(*twice, name="both")
    mx.viz.print_summary(net)
    assert "Total params: 0" in capsys.readouterr().out
    mx.viz.print_summary(net, shape={"a": (2, 5)}, line_length=90)
    text = capsys.readouterr().out
    assert "Total params: 15" in text
    rows = text.splitlines()
    both = next(i for i, row in enumerate(rows) if row.startswith("both(Concat)"))
    assert rows[both].split()[-1] == "l" and rows[both + 1].split() == ["r"]
