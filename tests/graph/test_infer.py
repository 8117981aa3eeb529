"""Graph-wide inference: forwards, backwards, partial, to a fixed point; its answers are the shapes that NumPy gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import raymx as mx
from raymx.errors import DTypeError, ShapeError
from raymx.graph.infer import declared_shape, declared_type, infer_shapes, infer_types
from raymx.graph.node import Entry, Node, topological
from raymx.ops.op import Op, make
from tests.graph.toys import Norm, Split, registered

F16, F32, F64, I32 = (np.dtype(name) for name in ("float16", "float32", "float64", "int32"))


def variable(name: str, **attrs: str) -> Entry:
    return Entry(Node(None, name, attrs))


def use(op: str | Op, *inputs: Entry, name: str = "n", **params) -> Entry:
    op = make(op, **params) if isinstance(op, str) else op
    made = [variable(f"{name}_{n}") for n in (op.inputs() + op.aux())[len(inputs) :]]
    return Entry(Node(op, name, inputs=[*inputs, *made]))


def shapes(head: Entry, **given) -> dict[str, tuple]:
    """What is inferred, by name of the node; outputs after the first as `name1`."""
    return by_name(head, infer_shapes, given)


def types(head: Entry, default=None, **given) -> dict[str, np.dtype]:
    return by_name(head, lambda order, known: infer_types(order, known, default), given)


def by_name(head, infer, given):
    order = topological([head])
    facts = infer(order, {node: given[node.name] for node in order if node.name in given})
    return {node.name + (str(i) if i else ""): fact for (node, i), fact in facts.items()}


# ---- shapes ----


def test_forwards_through_a_network():
    net = use("FullyConnected", variable("x"), name="a", num_hidden=8)
    net = use("FullyConnected", use("Activation", net, name="t", act_type="tanh"), name="b", num_hidden=3)
    found = shapes(use("SoftmaxOutput", net, name="s"), x=(5, 2, 7))
    assert found == {
        "x": (5, 2, 7), "a": (5, 8), "a_weight": (8, 14), "a_bias": (8,), "t": (5, 8),
        "b": (5, 3), "b_weight": (3, 8), "b_bias": (3,), "s": (5, 3), "s_label": (5,),
    }  # fmt: skip


def test_backwards_through_elementwise_operators():
    a, b, c = variable("a"), variable("b"), variable("c")
    head = use("exp", use("_plus", use("_mul", a, b, name="m"), c, name="p"), name="e")
    for known in "abc":
        assert set(shapes(head, **{known: (2, 3)}).values()) == {(2, 3)}
        assert len(shapes(head, **{known: (2, 3)})) == 6


def test_what_is_learnt_late_still_reaches_the_start():
    """x -> 50 operators -> + y, where only y is known; and beside it a layer that hangs on x."""
    x, y = variable("x"), variable("y")
    deep = x
    for i in range(50):
        deep = use("exp", deep, name=f"e{i}")
    layer = use("FullyConnected", x, name="fc", num_hidden=4)
    found = shapes(use("_plus", use("_plus", deep, y, name="p"), layer, name="q"), y=(3, 4))
    assert found["x"] == found["q"] == (3, 4) and found["fc_weight"] == (4, 4)


def test_unknown_dimensions_are_filled_from_both_sides():
    found = shapes(use("_plus", variable("a"), variable("b")), a=(2, 0, 0), b=(0, 3, 0))
    assert found == {"a": (2, 3, 0), "b": (2, 3, 0), "n": (2, 3, 0)}


def test_nothing_known_is_nothing_found():
    assert shapes(use("exp", variable("x"))) == {}


def test_declared_shapes_count_and_are_overridden():
    head = use("_plus", variable("a", __shape__="(2, 3)"), variable("b"))
    assert shapes(head)["b"] == (2, 3)
    assert shapes(head, a=(5, 6)) == {"a": (5, 6), "b": (5, 6), "n": (5, 6)}


@pytest.mark.parametrize(
    "text, shape",
    [
        ("(2, 3)", (2, 3)), ("(2,)", (2,)), ("[2, 0]", (2, 0)), ("5", (5,)), ("(2L, 3L)", (2, 3)), ("(-1, 3)", (0, 3)),
        ("()", None),
    ],
)  # fmt: skip
def test_declared_shape_reads(text, shape):
    assert declared_shape(Node(None, "v", {"__shape__": text})) == shape


@pytest.mark.parametrize("text", ["(2, x)", "two", "(2.5,)(", "None", "('2',)x"])
def test_declared_shape_that_is_none(text):
    with pytest.raises(ShapeError, match=r"variable 'v': __shape__ must be a tuple of integers, got "):
        declared_shape(Node(None, "v", {"__shape__": text}))


def test_a_contradiction_names_operator_and_node():
    head = use("FullyConnected", variable("x"), name="fc1", num_hidden=128)
    with pytest.raises(
        ShapeError,
        match=r"FullyConnected 'fc1': weight must be \(128, 784\) for data \(64, 784\) and num_hidden=128, "
        r"got \(784, 128\)",
    ):
        shapes(head, x=(64, 784), fc1_weight=(784, 128))


def test_a_contradiction_between_two_inputs():
    with pytest.raises(ShapeError, match=r"_plus 'sum': .* must be \(2, 3\) .*got \(3, 2\)"):
        shapes(use("_plus", variable("a"), variable("b"), name="sum"), a=(2, 3), b=(3, 2))


def test_a_contradiction_found_far_from_its_cause():
    a = variable("a")
    four, five = (use("FullyConnected", a, name=f"f{n}", num_hidden=n) for n in (4, 5))
    head = use("_plus", four, five, name="p")
    with pytest.raises(ShapeError, match=r"_plus 'p': \w+ must be \(2, 4\)"):
        shapes(head, a=(2, 3))


def test_one_array_under_two_names_must_suit_both():
    with registered(_test_norm=Norm):
        x = variable("x")
        head = Entry(Node(make("_test_norm"), "n", inputs=[x, x, *(variable(n) for n in "abc")]))
        with pytest.raises(
            ShapeError, match=r"_test_norm 'n': gamma must be \(3,\) for data \(2, 3\).*, got \(2, 3\)."
        ):
            shapes(head, x=(2, 3))


def test_states_and_hidden_outputs_are_inferred():
    with registered(_test_norm=Norm):
        found = shapes(use("_test_norm", variable("x")), x=(2, 5))
    assert found["n_moving_var"] == found["n1"] == found["n2"] == (5,)


def test_a_rule_that_refuses_names_the_node():
    with registered(_test_split=Split):
        head = use("_test_split", variable("x"), name="cut", num_outputs=2)
        with pytest.raises(
            ShapeError, match=r"_test_split 'cut': data's 3 columns cannot be cut into 2 parts \(got data \(4, 3\)\)."
        ):
            shapes(head, x=(4, 3))


def test_gradients_have_the_shapes_of_their_arrays():
    symbol = mx.sym.FullyConnected(mx.sym.Variable("x") * 2, num_hidden=3, name="f")
    both = mx.sym.Group([symbol, symbol.grad(["x", "f_weight", "f_bias"])])
    arguments, outputs, _ = both.infer_shape(x=(4, 5))
    assert outputs == [(4, 3), (4, 5), (3, 5), (3,)]
    assert dict(zip(both.list_arguments(), arguments, strict=True))["f_output_grad"] == (4, 3)


# ---- types ----


def test_one_known_type_is_everybodys():
    head = use("SoftmaxOutput", use("FullyConnected", variable("x"), name="f", num_hidden=2), name="s")
    assert set(types(head, f_bias=F64).values()) == {F64}
    assert types(head) == {}


def test_cast_stops_types_in_both_directions():
    head = use("_plus", use("Cast", variable("a"), name="c", dtype="float16"), variable("b"))
    assert types(head) == {"c": F16, "b": F16, "n": F16}
    assert types(head, a=I32)["a"] == I32


def test_the_default_fills_what_is_unknown_and_spreads():
    head = use("_plus", use("Cast", use("exp", variable("a"), name="e"), name="c", dtype="float64"), variable("b"))
    assert types(head, F32) == {"a": F32, "e": F32, "c": F64, "b": F64, "n": F64}
    assert types(head, F32, a=F16)["e"] == F16


def test_declared_types_count_and_are_overridden():
    head = use("_plus", variable("a", __dtype__="1"), variable("b"))
    assert set(types(head).values()) == {F64}
    assert set(types(head, a=F16).values()) == {F16}


def test_declared_type_reads_numbers_and_names():
    assert declared_type(Node(None, "v", {"__dtype__": "2"})) == F16
    assert declared_type(Node(None, "v", {"__dtype__": "int32"})) == I32
    assert declared_type(Node(None, "v", {"__dtype__": "-1"})) is None
    for text in ("99", "float99", "complex64"):
        with pytest.raises(
            DTypeError, match=rf"variable 'v': __dtype__ must be an element type or its number .*'{text}'"
        ):
            declared_type(Node(None, "v", {"__dtype__": text}))


def test_a_bare_dtype_attribute_is_the_users_own():
    assert types(use("exp", variable("a", dtype="data", shape="great"))) == {}


def test_contradicting_types_name_operator_and_node():
    with pytest.raises(
        DTypeError, match=r"_plus 'sum': rhs must be float64, got int32 .*convert one with astype or Cast"
    ):
        types(use("_plus", variable("a"), variable("b"), name="sum"), a=F64, b=I32)


# ---- the shapes are those that NumPy gives ----

REFERENCE = {
    "exp": np.exp,
    "_plus": np.add,
    "_mul_scalar": lambda x, scalar: x * scalar,
    "Activation": lambda x, act_type: np.tanh(x),
    "Flatten": lambda x: x.reshape(len(x), -1),
    "FullyConnected": lambda x, w, b, num_hidden: x.reshape(len(x), -1) @ w.T + b,
    "Concat": lambda *xs, num_args: np.concatenate(xs, axis=1),
    "dot": np.dot,
    "SoftmaxOutput": lambda x, label: x + 0 * label.reshape(len(x), *[1] * (x.ndim - 1)),
}


@st.composite
def networks(draw):
    """A network of layers over (n, d) and (n, c, d) arrays, the shapes of its data, and nothing else."""
    batch = draw(st.integers(1, 4))
    data = {"x": (batch, draw(st.integers(1, 5))), "y": (batch, draw(st.integers(1, 3)), draw(st.integers(1, 4)))}
    flat, cube = variable("x"), variable("y")
    for i in range(draw(st.integers(1, 8))):
        name = f"n{i}"
        layer = draw(st.sampled_from(["dense", "cube", "scale", "tanh", "twin", "join"]))
        if layer == "dense":
            flat = use("FullyConnected", flat, name=name, num_hidden=draw(st.integers(1, 6)))
        elif layer == "cube":
            flat = use("FullyConnected", cube, name=name, num_hidden=draw(st.integers(1, 6)))
        elif layer == "scale":
            cube = use("_mul_scalar", cube, name=name, scalar=2)
        elif layer == "tanh":
            flat = use("Activation", flat, name=name, act_type="tanh")
        elif layer == "twin":  # the shape of the new variable is only told backwards
            flat = use("_plus", flat, use("exp", variable(f"v{i}"), name=f"e{i}"), name=name)
        else:
            flat = use("Concat", flat, use("Flatten", cube, name=f"f{i}"), flat, name=name, num_args=3)
    return (use("SoftmaxOutput", flat, name="s") if draw(st.booleans()) else flat), data


@settings(max_examples=150, deadline=None)
@given(networks())
def test_inferred_shapes_are_the_real_ones(network):
    head, data = network
    order = topological([head])
    given_shapes = {node: data[node.name] for node in order if node.name in data}
    facts = infer_shapes(order, given_shapes)
    results: dict[Node, np.ndarray] = {}
    for node in order:
        if node.is_variable:
            results[node] = np.ones(facts[Entry(node)], "float32")
        else:
            given_params = {k: v for k, v in node.op.attrs.items() if v != node.op.declared[k].default}
            results[node] = REFERENCE[node.op.name](*(results[e.node] for e in node.inputs), **given_params)
        assert facts[Entry(node)] == results[node].shape


@settings(max_examples=50, deadline=None)
@given(networks(), st.randoms(use_true_random=False))
def test_the_order_in_which_rules_run_does_not_matter(network, random):
    head, data = network
    order = topological([head])
    given_shapes = {node: data[node.name] for node in order if node.name in data}
    shuffled = list(order)
    random.shuffle(shuffled)
    assert infer_shapes(shuffled, given_shapes) == infer_shapes(order, given_shapes)
