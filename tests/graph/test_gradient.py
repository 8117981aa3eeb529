import numpy as np
import pytest

from raymx.errors import GraphError
from raymx.graph.gradient import differentiate, gradient, head_gradients
from raymx.graph.node import Entry, Node, topological
from raymx.ops.op import make
from tests.graph.build import apply, evaluate, others, variable

RNG = np.random.default_rng(5)


def array(*shape):
    return RNG.uniform(0.5, 1.5, shape)


def slope(heads, wrt, values, direction):
    """Change of the sum of all heads per step along `direction`, by central differences."""
    step = 1e-6
    moved = [{**values, wrt: values[wrt] + sign * step * direction} for sign in (1, -1)]
    up, down = (sum(x.sum() for x in evaluate(heads, v)) for v in moved)
    return (up - down) / (2 * step)


def check_against_differences(heads, values):
    """Gradients of the sum of all heads, with respect to every variable, along one random direction."""
    incoming = head_gradients(heads)
    ones = {g: np.ones_like(h) for g, h in zip(incoming, evaluate(heads, values), strict=True)}
    found = gradient(heads, [v.node for v in values], incoming)
    for v in values:
        direction = array(*values[v].shape)
        entry = found[v.node]
        computed = 0.0 if entry is None else (evaluate([entry], {**values, **ones})[0] * direction).sum()
        assert computed == pytest.approx(slope(heads, v, values, direction), rel=1e-5, abs=1e-7), v.node.name


def test_a_network_with_several_uses_branches_and_heads():
    x, w, b = variable("x"), variable("w"), variable("b")
    fc = apply("FullyConnected", x, w, b, num_hidden=4, name="fc")
    act = apply("tanh", fc, name="act")
    twice = apply("_plus", act, apply("_mul", act, act))
    heads = [twice, apply("_mul", fc, twice)]
    check_against_differences(heads, {x: array(3, 5), w: array(4, 5), b: array(4)})


def test_parts_of_a_node_with_several_outputs():
    """Output 1 is used twice, output 2 by nobody: its gradient is filled with zeros."""
    x = variable("x")
    a, b, _ = others(apply("SliceChannel", x, num_outputs=3, name="cut"))
    heads = [apply("_mul", a, b), apply("exp", b)]
    check_against_differences(heads, {x: array(2, 6)})


def test_names():
    x = variable("x")
    act = apply("tanh", x, name="act")
    head = apply("_mul", act, act, name="squared")
    incoming = head_gradients([head])
    nodes = differentiate([head], [x.node], incoming).nodes
    assert [g.node.name for g in incoming] == ["squared_output_grad"]
    assert [n.name for n in nodes] == ["squared_backward", "act_output_grad_sum", "act_backward"]
    assert [n.forward and n.forward.name for n in nodes] == ["squared", None, "act"]


def test_the_head_gradient_of_a_variable_is_called_after_it():
    x = variable("x")
    (incoming,) = head_gradients([x])
    assert incoming.node.name == "x_grad"
    assert gradient([x], [x.node], [incoming]) == {x.node: incoming}


def test_only_what_lies_between_heads_and_wanted_variables_is_differentiated():
    x, y = variable("x"), variable("y")
    aside = apply("exp", y, name="aside")
    head = apply("_mul", apply("tanh", x, name="act"), aside, name="head")
    graph = differentiate([head], [x.node], head_gradients([head]))
    assert [n.name for n in graph.nodes] == ["head_backward", "act_backward"]
    assert graph.nodes[0].output_names() == ("d_lhs",)


def test_only_what_backward_names_is_read():
    x, y = variable("x"), variable("y")
    head = apply("_plus", apply("sigmoid", x, name="act"), y)
    graph = differentiate([head], [x.node, y.node], head_gradients([head]))
    read = {e for n in graph.nodes for e in n.inputs if e.node.name in ("x", "y", "act")}
    assert read == {Entry(head.node.inputs[0].node)}, "sigmoid needs its output, addition nothing"


def test_operators_without_gradient_block():
    x = variable("x")
    head = apply("BlockGrad", apply("exp", x))
    graph = differentiate([head], [x.node], head_gradients([head]))
    assert graph.of == {x.node: None} and graph.nodes == []


def test_an_input_without_gradient_is_zero():
    data, label = variable("data"), variable("label")
    loss = apply("SoftmaxOutput", data, label)
    found = gradient([loss], [data.node, label.node], [None])
    assert found[label.node] is None and found[data.node] is not None


def test_a_loss_needs_nothing_from_above_even_when_it_is_not_a_head():
    x, label = variable("x"), variable("label")
    loss = apply("SoftmaxOutput", apply("exp", x), label, name="loss")
    heads = [apply("BlockGrad", loss), apply("_mul_scalar", loss, scalar=5)]
    incoming = head_gradients(heads)
    graph = differentiate(heads, [x.node], incoming)
    assert [n.name for n in graph.nodes] == ["loss_backward", "exp_backward"]
    assert not set(incoming) & {e for n in graph.nodes for e in n.inputs}
    values = {x: array(2, 3), label: np.array([0.0, 2.0])}
    p = evaluate([loss], values)[0]
    expected = (p - np.eye(3)[[0, 2]]) * np.exp(values[x])
    np.testing.assert_allclose(evaluate([graph.of[x.node]], values)[0], expected)


def test_a_head_that_stands_twice_takes_both_gradients():
    x = variable("x")
    head = apply("_mul_scalar", x, scalar=3)
    incoming = head_gradients([head, head])
    found = gradient([head, head], [x.node], incoming)[x.node]
    values = {x: array(2), incoming[0]: np.array([1.0, 2.0]), incoming[1]: np.array([10.0, 20.0])}
    np.testing.assert_allclose(evaluate([found], values)[0], [33.0, 66.0])


def test_sums_are_taken_in_one_order_last_use_first():
    x = variable("x")
    uses = [apply("_mul_scalar", x, scalar=i + 1, name=f"use{i}") for i in range(4)]
    head = apply("ElementWiseSum", *uses, num_args=4)
    found = gradient([head], [x.node], head_gradients([head]))[x.node]
    added = []
    while found.node.op.name == "ElementWiseSum":
        found, part = found.node.inputs
        added.insert(0, part.node.name)
    assert [found.node.name, *added] == [f"use{i}_backward" for i in (3, 2, 1, 0)]


def test_the_order_of_running_follows_the_inputs_and_frees_early():
    """Parts are added as soon as they are there, before the next layer is differentiated."""
    x, w = variable("x"), variable("w")
    first = apply("_mul", x, w, name="first")
    head = apply("_mul", apply("_mul", first, w, name="second"), w, name="third")
    graph = differentiate([head], [x.node, w.node], head_gradients([head]))
    names = [n.name for n in graph.nodes]
    assert names == ["third_backward", "second_backward", "w_grad_sum", "first_backward", "w_grad_sum"]
    position = {n: i for i, n in enumerate(graph.nodes)}
    for node in graph.nodes:
        assert all(position.get(e.node, -1) < position[node] for e in node.inputs)


def test_with_respect_to_a_value_on_the_way():
    x = variable("x")
    middle = apply("exp", x, name="middle")
    head = apply("square", middle, name="head")
    found = gradient([head], [x.node, middle.node], head_gradients([head]))
    assert found[middle.node].node.name == "head_backward" and found[x.node].node.name == "middle_backward"


def test_attributes_are_handed_on():
    x = variable("x")
    head = apply("exp", x)
    head.node.attrs["ctx_group"] = "a"
    graph = differentiate([head], [x.node], head_gradients([head]))
    assert graph.nodes[0].attrs == {"ctx_group": "a"}


def test_the_graph_itself_stays_as_it_is():
    x = variable("x")
    head = apply("exp", apply("tanh", x))
    before = topological([head])
    gradient([head], [x.node], head_gradients([head]))
    assert topological([head]) == before


def test_a_deep_graph_needs_no_deep_stack():
    x = head = variable("x")
    for _ in range(3000):
        head = apply("_plus_scalar", head, scalar=1)
    assert len(differentiate([head], [x.node], head_gradients([head])).nodes) == 3000


def ran(head, wrt, short):
    found = differentiate([head], wrt, head_gradients([head]), short)
    return [node.name for node in found.nodes], {v.name: e.node.name for v, e in found.of.items()}


def test_a_short_graph_hands_gradients_on_without_a_node():
    x, y = variable("x"), variable("y")
    head = apply("_plus", apply("exp", x, name="exp"), y, name="sum")
    assert ran(head, [x.node, y.node], short=False) == (
        ["sum_backward", "exp_backward"], {"x": "exp_backward", "y": "sum_backward"}
    )  # fmt: skip
    assert ran(head, [x.node, y.node], short=True) == (
        ["exp_backward"], {"x": "exp_backward", "y": "sum_output_grad"}
    )  # fmt: skip


def test_a_short_graph_computes_equal_gradients_once():
    x, y = variable("x"), variable("y")
    head = apply("_add_relu", x, y, name="sum")
    names, of = ran(head, [x.node, y.node], short=True)
    assert (names, of) == (["sum_backward"], {"x": "sum_backward", "y": "sum_backward"})
    (node,) = differentiate([head], [x.node, y.node], head_gradients([head]), short=True).nodes
    assert node.op.outputs() == ("d_lhs",)


def test_only_one_side_of_a_difference_is_handed_on():
    x, y = variable("x"), variable("y")
    head = apply("_minus", x, y, name="less")
    assert ran(head, [x.node, y.node], short=True)[1] == {"x": "less_output_grad", "y": "less_backward"}
    (node,) = differentiate([head], [x.node, y.node], head_gradients([head]), short=True).nodes
    assert node.op.outputs() == ("d_rhs",)


@pytest.mark.parametrize("op", ["broadcast_plus", "broadcast_minus"])
def test_a_stretched_gradient_is_not_handed_on(op):
    x, y = variable("x"), variable("y")
    assert ran(apply(op, x, y, name="sum"), [x.node, y.node], short=True)[0] == ["sum_backward"]


def test_an_operator_that_is_not_differentiable_refuses_a_gradient():
    data, indices = (Entry(Node(None, name)) for name in ("data", "indices"))
    taken = Entry(Node(make("batch_take"), "taken", inputs=[data, indices]))
    for wanted in (data.node, indices.node):
        with pytest.raises(GraphError, match=r"^batch_take 'taken' is not differentiable, but a gradient"):
            gradient([taken], [wanted], [Entry(Node(None, "g"))])
    blocked = Entry(Node(make("BlockGrad"), "blocked", inputs=[taken]))
    assert gradient([blocked], [data.node], [Entry(Node(None, "g"))]) == {data.node: None}
