"""Symbol JSON: written as 1.x writes it, read from every era; what is no graph is told from what is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import raymx as mx
from raymx.errors import FormatError
from raymx.graph import json as graph_json
from raymx.graph.attributes import find
from raymx.graph.infer import infer_shapes
from raymx.graph.node import Entry, Node, argument_nodes, aux_nodes, topological
from raymx.ops.op import REGISTRY, make
from tests.graph.toys import Norm, Split, registered

ARTIFACTS = Path(__file__).parents[3] / "shared" / "artifacts"
needs_artifacts = pytest.mark.skipif(not ARTIFACTS.is_dir(), reason="no files written by MXNet beside the repository")

MLP = """\
{
  "nodes": [
    {
      "op": "null", 
      "name": "data", 
      "inputs": []
    }, 
    {
      "op": "null", 
      "name": "fc_weight", 
      "attrs": {"__lr_mult__": "2"}, 
      "inputs": []
    }, 
    {
      "op": "null", 
      "name": "fc_bias", 
      "inputs": []
    }, 
    {
      "op": "FullyConnected", 
      "name": "fc", 
      "attrs": {
        "__ctx_group__": "a", 
        "num_hidden": "3"
      }, 
      "inputs": [[0, 0, 0], [1, 0, 0], [2, 0, 0]]
    }, 
    {
      "op": "elemwise_add", 
      "name": "sum", 
      "inputs": [[3, 0, 0], [3, 0, 0]]
    }
  ], 
  "arg_nodes": [0, 1, 2], 
  "node_row_ptr": [0, 1, 2, 3, 4, 5], 
  "heads": [[4, 0, 0]], 
  "attrs": {"mxnet_version": ["int", 10901]}
}"""  # noqa: W291


def mlp() -> list[Entry]:
    data, weight, bias = Node(None, "data"), Node(None, "fc_weight", {"lr_mult": "2"}), Node(None, "fc_bias")
    fc_op = make("FullyConnected", num_hidden=3)
    inputs = [Entry(data), Entry(weight), Entry(bias)]
    fc = Entry(Node(fc_op, "fc", {"ctx_group": "a"}, inputs, params={"num_hidden": "3"}))
    return [Entry(Node(make("_plus"), "sum", inputs=[fc, fc]))]


def record(op: str, name: str, inputs=(), **more) -> dict:
    return {"op": op, "name": name, "inputs": list(inputs), **more}


def graph(*nodes: dict, heads=None, **more) -> str:
    heads = [[len(nodes) - 1, 0]] if heads is None else heads
    return json.dumps({"nodes": list(nodes), "heads": heads, **more})


def shown(heads: list[Entry]) -> dict[str, tuple]:
    """What a graph says, by node name: operator, parameters, attributes, inputs."""
    return {
        node.name: (node.op, node.params, node.attrs, [(e.node.name, e.index) for e in node.inputs])
        for node in topological(heads)
    }


# ---- writing ----


def test_writes_what_mxnet_writes():
    assert graph_json.dumps(mlp()) == MLP


def test_what_was_written_is_written_again():
    assert graph_json.dumps(graph_json.loads(MLP)) == MLP


def test_long_lists_take_a_line_each():
    variables = [Entry(Node(None, f"x{i}")) for i in range(11)]
    text = graph_json.dumps(
        [Entry(Node(make("Concat", num_args=11), "c", inputs=variables, params={"num_args": "11"}))]
    )
    assert '"inputs": [\n        [0, 0, 0], \n        [1, 0, 0], ' in text
    assert '"arg_nodes": [\n    0, \n    1, ' in text
    assert graph_json.dumps(graph_json.loads(text)) == text


def test_names_are_escaped():
    text = graph_json.dumps([Entry(Node(None, 'a"b\\c\né', {"__t__": "x\ty"}))])
    assert '"name": "a\\"b\\\\c\\né"' in text
    (head,) = graph_json.loads(text)
    assert head.node.name == 'a"b\\c\né' and head.node.attrs == {"__t__": "x\ty"}


def test_bare_attributes_of_operators_are_dressed_and_found_under_both_names():
    symbol = mx.sym.exp(mx.sym.Variable("x", attr={"mood": "calm"}), name="e", attr={"mood": "angry", "axis": "none"})
    text = symbol.tojson()
    assert '"__axis__": "none"' in text and '"__mood__": "angry"' in text and '"mood": "calm"' in text
    again = mx.sym.load_json(text)
    assert again.attr("mood") == again.attr("__mood__") == "angry"
    assert again.tojson() == text


def test_a_node_without_noted_parameters_is_written_with_all_of_them():
    text = graph_json.dumps(
        [Entry(Node(make("FullyConnected", num_hidden=3), "f", inputs=[Entry(Node(None, n)) for n in "dwb"]))]
    )
    assert '"flatten": "True"' in text and '"no_bias": "False"' in text


def test_hidden_outputs_and_states_count():
    with registered(_test_norm=Norm):
        symbol = mx.sym._test_norm(mx.sym._test_norm(mx.sym.Variable("d"), name="a"), name="b")
        text = symbol.tojson()
        saved = json.loads(text)
        assert saved["node_row_ptr"] == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 15]
        assert saved["nodes"][5]["inputs"] == [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 1], [4, 0, 1]]
        assert saved["arg_nodes"] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
        assert mx.sym.load_json(text).tojson() == text


def test_a_state_that_two_operators_change_counts_versions():
    with registered(_test_norm=Norm):
        mean = mx.sym.Variable("mean")
        first = mx.sym._test_norm(mx.sym.Variable("d"), moving_mean=mean, name="a")
        second = mx.sym._test_norm(first, moving_mean=mean, name="b")
        inputs = {n["name"]: n["inputs"] for n in json.loads(second.tojson())["nodes"]}
    assert inputs["a"][3] == [3, 0, 1] and inputs["b"][3] == [3, 0, 2]


def test_a_gradient_graph_is_refused():
    symbol = mx.sym.exp(mx.sym.Variable("x"), name="e").grad(["x"])
    with pytest.raises(FormatError, match=r"cannot save <exp 'e_backward'>: it belongs to a gradient graph; save the"):
        symbol.tojson()


def test_every_name_that_is_written_can_be_read():
    for name, written in graph_json._WRITTEN.items():
        assert REGISTRY[written] is REGISTRY[name]


# ---- reading: 2015 ----


def test_2015_keeps_parameters_and_attributes_apart():
    text = graph(
        record("null", "data", param={}, backward_source_id=-1, attr={"ctx_group": "a", "lr_mult": "0.2"}),
        record("null", "w", param={}, backward_source_id=-1),
        record(
            "FullyConnected", "fc", [[0, 0], [1, 0]], backward_source_id=-1,
            param={"num_hidden": "3", "no_bias": "1"}, attr={"ctx_group": "b"},
        ),
        arg_nodes=[0, 1],
    )  # fmt: skip
    nodes = shown(graph_json.loads(text))
    assert nodes["data"][2] == {"ctx_group": "a", "lr_mult": "0.2"}
    assert nodes["fc"] == (
        make("FullyConnected", num_hidden=3, no_bias=True), {"num_hidden": "3", "no_bias": "1"}, {"ctx_group": "b"},
        [("data", 0), ("w", 0)],
    )  # fmt: skip


def test_2015_states_become_variables():
    with registered(_test_norm=Norm):
        text = graph(
            record("null", "d", param={}),
            record("null", "g", param={}),
            record("null", "b", param={}),
            record("_test_norm", "bn", [[0, 0], [1, 0], [2, 0]], param={"eps": "0.1"}, attr={"ctx_group": "x"}),
        )
        heads = graph_json.loads(text)
        states = aux_nodes(topological(heads))
    assert [node.name for node in states] == ["bn_moving_mean", "bn_moving_var"]
    assert states[0].attrs == {"eps": "0.1", "ctx_group": "x"}
    assert [node.name for node in argument_nodes(topological(heads))] == ["d", "g", "b"]


def test_2015_names_of_operators_and_parameters():
    text = graph(
        record("null", "x", param={}),
        record("_MinusScalar", "m", [[0, 0]], param={"scalar": "1", "scalar_on_left": "True"}),
        record("_DivScalar", "d", [[1, 0]], param={"scalar": "2", "scalar_on_left": "0"}),
        record("_Plus", "p", [[1, 0], [2, 0]], param={}),
        record("SoftmaxActivation", "s", [[3, 0]], param={"type": "channel"}),
    )
    heads = graph_json.loads(text)
    nodes = shown(heads)
    assert nodes["m"][:2] == (make("_rminus_scalar", scalar=1), {"scalar": "1"})
    assert nodes["d"][:2] == (make("_div_scalar", scalar=2), {"scalar": "2"})
    assert nodes["s"][1] == {"mode": "channel"}
    written = [node["op"] for node in json.loads(graph_json.dumps(heads))["nodes"]]
    assert written == ["null", "_rminus_scalar", "_div_scalar", "elemwise_add", "SoftmaxActivation"]


def test_2015_pooling_rounds_up_unless_it_says_otherwise():
    old = record("Pooling", "p", param={"kernel": "(2,2)"})
    assert graph_json.modernize(old) == ({"pooling_convention": "full", "kernel": "(2,2)"}, {})
    newer = record("Pooling", "p", param={"pooling_convention": "valid"})
    assert graph_json.modernize(newer) == ({"pooling_convention": "valid"}, {})


@needs_artifacts
def test_a_2015_file_reads_as_mxnet_reads_it():
    expected = json.loads((ARTIFACTS / "legacy-symbol.expect.json").read_text())
    symbol = mx.sym.load(str(ARTIFACTS / "legacy-symbol.json"))
    assert symbol.list_arguments() == expected["arguments"]
    assert symbol.list_outputs() == expected["outputs"]
    assert symbol.list_auxiliary_states() == expected["aux"]
    listed = symbol.attr_dict()
    assert listed.keys() == expected["attr"].keys()
    for name, attrs in expected["attr"].items():
        assert listed[name] == attrs
    shapes = symbol.infer_shape(data=(2, 30))
    wanted = expected["shapes_for_data_2_30"]
    assert [[list(s) for s in row] for row in shapes] == [wanted["arg"], wanted["out"], wanted["aux"]]
    assert mx.sym.load_json(symbol.tojson()).tojson() == symbol.tojson()


# ---- reading: 0.9 and 1.x ----


@pytest.mark.parametrize("key", ["attr", "attrs"])
def test_later_files_hold_parameters_and_attributes_together(key):
    both = {"num_hidden": "3", "ctx_group": "g", "__mood__": "m", "weight_lr_mult": "0.5", "other_wd_mult": "7"}
    text = graph(
        *(record("null", n) for n in "dwb"),
        record("FullyConnected", "f", [[0, 0, 0], [1, 0, 0], [2, 0, 0]], **{key: both}),
    )
    nodes = shown(graph_json.loads(text))
    assert nodes["f"][1:3] == ({"num_hidden": "3"}, {"ctx_group": "g", "__mood__": "m", "other_wd_mult": "7"})
    assert nodes["w"][2] == {"__lr_mult__": "0.5"}


def test_an_attribute_for_an_input_that_is_no_variable_stays_where_it_was():
    text = graph(
        record("null", "x"), record("exp", "e", [[0, 0]]), record("exp", "f", [[1, 0]], attrs={"data_lr_mult": "2"})
    )
    assert shown(graph_json.loads(text))["f"][2] == {"data_lr_mult": "2"}


@needs_artifacts
def test_a_file_of_1_x_goes_round_unchanged():
    text = (ARTIFACTS / "mlp-symbol.json").read_text()
    symbol = mx.sym.load_json(text)
    assert symbol.tojson() == text
    assert symbol.list_arguments()[:3] == ["data", "fc1_weight", "fc1_bias"]


# ---- what cannot be read ----

X = record("null", "x")


@pytest.mark.parametrize(
    "text, message",
    [
        ("hello", r"the text is not a symbol: not JSON at line 1, column 1 \(Expecting value\); it begins with 'hel"),
        ("", r"the text is not a symbol: not JSON at line 1, column 1 .*; it begins with ''."),
        (MLP[:200], r"the text is not a symbol: not JSON at line 12, column 16 "),
        (b"\x12\x01\x00\x00\xff\xfe\x9a", r"the text is not a symbol: it holds binary data, not JSON text."),
        ("[" * 100_000, r"the text is not a symbol: its lists are nested too deeply."),
        ("[1]", r"the text is not a symbol: expected a JSON object with nodes and heads, got a list."),
        ("3", r"the text is not a symbol: expected a JSON object with nodes and heads, got the number 3."),
        ("{}", r"the text is not a symbol: it has no list 'nodes' \(it has nothing\)."),
        ('{"nodes": [], "x": 1}', r"the text is not a symbol: it has no list 'heads' \(it has 'nodes', 'x'\)."),
        (graph(X, heads=[]), r"the text is not a symbol: its list 'heads' is empty."),
        (graph(X, heads=[[1, 0]]), r"the text: heads: \[1, 0\] names node 1, but only 1 nodes stand before it."),
        (graph(X, heads=[[0, 1]]), r"the text: heads: \[0, 1\] names output 1 of <variable 'x'>, which has 1."),
        (graph(X, heads=[["x", 0]]), r"the text: heads: expected \[node, output\] or .*, got \['x', 0\]."),
        ('{"nodes": [7], "heads": [[0, 0]]}', r"the text: node 0 must be a JSON object, got the number 7."),
        ('{"nodes": [{"op": "null"}], "heads": []}', r"its list 'heads' is empty"),
        ('{"nodes": [{"op": "null"}], "heads": [[0, 0]]}', r"the text: node 0 has no 'name' \(it has 'op'\)."),
        (graph(record("null", "x", attrs={"a": 1})), r"the text: node 0 \('x'\): 'attrs' must map names to strings"),
        (graph(X, record("null", "y", [[0, 0]])), r"the text: node 1 \('y'\): a variable has no inputs, got \[\[0, "),
        (graph(record("exp", "e", [[0, 0]])), r"node 0 \('e'\): \[0, 0\] names node 0, but only 0 nodes stand before"),
        (graph(X, record("exp", "e", [[0, 0], [0, 0]])), r"node 1 \('e'\): exp takes 1 inputs \(data\), got 2."),
        (graph(X, record("exp", "e", [0])), r"node 1 \('e'\): expected \[node, output\] or .*, got 0."),
        (
            graph(X, record("Activation", "a", [[0, 0]], attrs={"act_type": "relo"})),
            r"node 1 \('a'\): Activation: act_type must be one of 'relu', .*, got 'relo'.",
        ),
        (
            graph(X, record("FullyConnected", "f", [[0, 0]], attrs={"num_hiden": "3"})),
            r"node 1 \('f'\): FullyConnected: unknown parameter 'num_hiden'; did you mean 'num_hidden'\?",
        ),
        (
            graph(X, record("null", "g", [[0, 0]], param={}, backward_source_id=0)),
            r"node 1 \('g'\): it belongs to a gradient graph; save the symbol that the gradient came from.",
        ),
    ],
)  # fmt: skip
def test_text_that_is_no_graph(text, message):
    with pytest.raises(FormatError, match=message):
        graph_json.loads(text)


def test_all_unknown_operators_stand_in_one_error():
    names = ["a1", "a2", "a3", "a4"]
    text = graph(X, *(record("_NoSuchA", n, [[0, 0]]) for n in names), record("_NoSuchB", "b", [[0, 0]]))
    with pytest.raises(
        FormatError, match=r"m.json uses operators that do not exist here: _NoSuchA \(a1, a2, a3, …\); _NoSuchB \(b\)."
    ):
        graph_json.loads(text, "m.json")


def test_a_state_must_be_a_variable():
    with registered(_test_norm=Norm):
        states = [[1, 0], [1, 0]]
        text = graph(X, record("exp", "e", [[0, 0]]), record("_test_norm", "n", [[0, 0], [0, 0], [0, 0], *states]))
        with pytest.raises(
            FormatError, match=r"node 2 \('n'\): _test_norm: state 'moving_mean' must be a variable, got <exp 'e'>."
        ):
            graph_json.loads(text)


def test_the_file_is_named(tmp_path):
    path = tmp_path / "net-symbol.json"
    path.write_text("<html>")
    with pytest.raises(
        FormatError, match=r"net-symbol.json is not a symbol: not JSON at line 1, column 1 .* begins with '<html>'"
    ):
        mx.sym.load(str(path))


# ---- random graphs ----

keys = st.sampled_from(["__mood__", "lr_mult", "__ctx_group__", "mood", "wd_mult"])
values = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5)


@st.composite
def graphs(draw) -> list[Entry]:
    """Random graphs of variables and of operators with one or many inputs, states, hidden and several outputs."""
    entries = [
        Entry(Node(None, f"v{i}", draw(st.dictionaries(keys, values, max_size=2))))
        for i in range(draw(st.integers(1, 4)))
    ]
    for i in range(draw(st.integers(0, 8))):
        name, params = draw(st.sampled_from([
            ("exp", {}), ("_plus", {}), ("_mul_scalar", {"scalar": "2.50"}), ("Concat", {"num_args": "3"}),
            ("FullyConnected", {"num_hidden": "3", "no_bias": "1"}), ("Activation", {"act_type": "tanh"}),
            ("Dropout", {"p": "0.25"}), ("_test_norm", {"eps": "1e-05"}), ("_test_split", {"num_outputs": "2"}),
        ]))  # fmt: skip
        op = make(name, **params)
        inputs = [draw(st.sampled_from(entries)) for _ in op.inputs()]
        inputs += [Entry(Node(None, f"n{i}_{state}")) for state in op.aux()]
        node = Node(op, f"n{i}", draw(st.dictionaries(keys, values, max_size=2)), inputs, params=params)
        entries += [Entry(node, k) for k in range(op.visible_outputs())]
    return draw(st.lists(st.sampled_from(entries), min_size=1, max_size=3))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_graphs_go_round(data):
    with registered(_test_norm=Norm, _test_split=Split):
        heads = data.draw(graphs())
        text = graph_json.dumps(heads)
        again = graph_json.loads(text)
        assert graph_json.dumps(again) == text
        before, after = shown(heads), shown(again)
        assert list(before) == list(after)
        for name, (op, params, attrs, inputs) in before.items():
            op2, params2, attrs2, inputs2 = after[name]
            assert (op, params, inputs) == (op2, params2, inputs2)
            for key, value in attrs.items():
                if f"__{key}__" not in attrs:  # the dressed spelling wins
                    assert find(attrs2, key) == value
        assert [(h.node.name, h.index) for h in heads] == [(h.node.name, h.index) for h in again]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_shapes_survive_the_round(data):
    with registered(_test_norm=Norm, _test_split=Split):
        heads = data.draw(graphs())
        again = graph_json.loads(graph_json.dumps(heads))

        def outcome(graph_heads):
            order = topological(graph_heads)
            try:
                facts = infer_shapes(order, {node: (4, 6) for node in order if node.name.startswith("v")})
            except mx.MXNetError as error:
                return str(error)
            return [facts.get(Entry(n, i)) for n in order for i in range(len(n.output_names()))]

        assert outcome(again) == outcome(heads)
