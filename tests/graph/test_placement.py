import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymx.graph.compile import Spec, trace
from raymx.graph.marks import Receive
from raymx.graph.node import Entry, topological
from raymx.graph.placement import device_of_group, place
from raymx.graph.recompute import MODES
from tests.graph.build import apply, evaluate, variable
from tests.graph.run import Bound
from tests.graph.spread import Spread
from tests.graph.test_compile import array, expected_gradients, graphs, mlp

GROUPS = {"a": 1, "b": 2}


def grouped(entry: Entry, group: str) -> Entry:
    entry.node.attrs["ctx_group"] = group
    return entry


def traced_on(heads, values, groups=GROUPS, where=None):
    specs = {v.node: Spec(x.shape, x.dtype) for v, x in values.items()}
    traced = trace(heads, specs, list(specs))
    return place(traced, {v.node: (where or {}).get(v, 0) for v in values}, groups, 0)


# ---- random graphs, randomly placed, equal plain evaluation ----


@settings(max_examples=150, deadline=None)
@given(graphs(), st.data())
def test_random_graphs_on_several_devices_equal_plain_evaluation(graph, data):
    heads, shapes = graph
    values = {v: array(*shape) - 0.5 for v, shape in shapes.items()}
    for node in topological(list(heads)):
        if node.op and data.draw(st.booleans()):
            node.attrs[data.draw(st.sampled_from(("ctx_group", "__ctx_group__")))] = data.draw(st.sampled_from("abc"))
    where = {v: data.draw(st.integers(0, 2)) for v in shapes}
    reqs = {v: data.draw(st.sampled_from(("write", "add", "null"))) for v in shapes}
    reqs = {v: req for v, req in reqs.items() if req != "null"}
    strided = [v for v in reqs if data.draw(st.integers(0, 3)) == 0]
    mode, keep = data.draw(st.sampled_from(MODES)), data.draw(st.booleans())
    spread = Spread(heads, values, reqs, where, GROUPS, strided=strided, mode=mode, keep=keep)
    for _ in range(2):
        outputs = spread.forward()
    for output, expected in zip(outputs, evaluate(heads, values, True), strict=True):
        np.testing.assert_array_equal(output, expected)
    if reqs:
        head_grads = [array(*x.shape) for x in outputs]
        found = spread.backward(head_grads)
        expected = expected_gradients(heads, values, head_grads)
        for v, req in reqs.items():
            np.testing.assert_array_equal(found[v], expected[v] + (7 if req == "add" else 0), err_msg=v.node.name)
    for v, number in spread.of.items():
        np.testing.assert_array_equal(spread.device[number], values[v])


def test_a_network_on_two_devices_has_the_bits_of_one():
    heads, values = mlp()
    for node in topological(list(heads)):
        node.attrs["ctx_group"] = "a" if "0" in node.name or node.name in ("data", "flat") else "b"
    where = {v: device_of_group(v.node, GROUPS, 0) for v in values}
    reqs = dict.fromkeys(values, "write")
    spread, alone = Spread(heads, values, reqs, where, GROUPS), Bound(heads, values, reqs)
    for _ in range(2):
        np.testing.assert_array_equal(spread.forward()[0], alone.forward()[0])
        expected = alone.backward()
        for v, g in spread.backward().items():
            np.testing.assert_array_equal(g, expected[v])
    for v in values:
        assert spread.placed.device[v.node] == where[v]


# ---- where things are ----


def test_nodes_follow_their_group_and_gradients_their_node():
    x = grouped(variable("x"), "a")
    head = grouped(apply("exp", grouped(apply("tanh", x, name="t"), "a"), name="e"), "b")
    placed = traced_on([head], {x: array(3)}, where={x: 1})
    where = {node.name: placed.device[node] for node in placed.traced.forward + placed.traced.backward}
    assert where == {"t": 1, "t_copy": 2, "e": 2, "e_backward": 2, "e_backward_copy": 1, "t_backward": 1}


def test_both_spellings_name_a_group_and_unknown_groups_are_the_default():
    for key, group, device in (("ctx_group", "a", 1), ("__ctx_group__", "b", 2), ("ctx_group", "c", 0)):
        x = variable("x")
        x.node.attrs[key] = group
        assert device_of_group(x.node, GROUPS, 0) == device


def test_gradients_are_summed_where_the_variable_lives():
    x = grouped(variable("x"), "a")
    parts = [grouped(apply("tanh", x, name=f"t{g}"), g) for g in "bb"]
    head = apply("_plus", *parts, name="sum")
    placed = traced_on([head], {x: array(3)}, where={x: 1})
    (total,) = (node for node in placed.traced.backward if node.op.name == "ElementWiseSum")
    assert placed.device[total] == 1
    assert [placed.device[e.node] for e in total.inputs] == [1, 1]


def test_a_value_goes_to_a_device_once():
    """Two nodes read it there, and so does backward."""
    x = variable("x")
    inner = apply("exp", x, name="inner")
    readers = [grouped(apply("tanh", inner, name=f"r{i}"), "a") for i in range(2)]
    head = grouped(apply("_mul", *readers, name="product"), "a")
    placed = traced_on([head], {x: array(3)})
    assert [copy.inputs[0].node.name for copy in placed.copies] == ["inner", "inner_grad_sum"][:1] + [
        copy.inputs[0].node.name for copy in placed.copies[1:]
    ]
    assert sum(copy.inputs[0].node.name == "inner" for copy in placed.copies) == 1


def test_the_nodes_of_the_symbol_stay_as_they_are():
    x = variable("x")
    head = grouped(apply("exp", apply("tanh", x)), "a")
    before = [(node, list(node.inputs)) for node in topological([head])]
    traced_on([head], {x: array(3)})
    assert [(node, list(node.inputs)) for node in topological([head])] == before


# ---- memory ----


def chain_over(n: int, groups):
    """tanh `n` times, the groups in turn."""
    x = head = variable("x")
    for i in range(n):
        head = grouped(apply("tanh", head, name=f"n{i}"), groups[i % len(groups)])
    return x, head


def test_a_gradient_from_another_device_arrives_in_its_array():
    x, head = chain_over(1, "a")
    for req, direct in (("write", True), ("add", False)):
        spread = Spread([head], {x: array(4)}, {x: req}, {x: 0}, GROUPS)
        (arrival,) = (a for n, a in spread.cut.arrivals.items() if "backward" in spread.placed.copies[n].name)
        assert (arrival.gradient is x.node) == direct
        spread.forward()
        expected = 1 - np.tanh(spread.device[spread.of[x]]) ** 2 + (0 if direct else 7)
        np.testing.assert_array_equal(spread.backward([1.0])[x], expected)


def test_boxes_are_used_again_within_a_pass():
    """Prediction on a long chain needs as many boxes as are full at once, not as many as there are copies."""
    x, head = chain_over(20, "ab")
    spread = Spread([head], {x: array(64, 64)}, {}, {x: 1}, GROUPS)
    assert len(spread.placed.copies) == 19
    assert [len(boxes) for boxes in spread.cut.boxes.values()] == [1, 1]
    np.testing.assert_array_equal(spread.forward()[0], evaluate([head], {x: spread.device[spread.of[x]]})[0])


def test_what_backward_reads_stays_in_its_box():
    x, head = chain_over(6, "ab")
    values = {x: array(8, 8)}
    spread = Spread([apply("_mul", head, head)], values, {x: "write"}, {x: 0}, GROUPS)
    spread.forward()
    first = spread.backward([1.0])[x].copy()
    if all(compiled.repeatable for compiled in spread.compiled.values()):
        np.testing.assert_array_equal(spread.backward([1.0])[x], first)


def test_a_value_that_leaves_lies_in_the_arena_until_it_has_left():
    """The next step may write in its place only after the segment."""
    x, head = chain_over(12, "aab")
    spread = Spread([head], {x: array(64, 64)}, {}, {x: 1}, GROUPS)
    assert spread.compiled[1].program.arena_nbytes <= 2 * 64 * 64 * 8
    np.testing.assert_array_equal(spread.forward()[0], evaluate([head], {x: spread.device[spread.of[x]]})[0])


def test_the_last_step_before_a_value_leaves_does_not_overwrite_it():
    """It could run in place of the value for all that this device reads later."""
    x = variable("x")
    inner = apply("_plus", x, x, name="inner")
    head = grouped(apply("_plus", inner, apply("exp", inner, name="last"), name="head"), "a")
    values = {x: array(3)}
    for reqs in ({}, {x: "write"}):
        spread = Spread([head], values, reqs, {x: 0}, GROUPS)
        assert [step.name for step in spread.compiled[0].program.phases["forward"]] == ["inner", "last"]
        np.testing.assert_array_equal(spread.forward()[0], evaluate([head], values)[0])


@pytest.mark.parametrize("mode", MODES)
def test_recomputation_stays_on_its_device(mode):
    x, head = chain_over(40, "aaaab")
    values = {x: array(4, 4)}
    spread = Spread([head], values, {x: "write"}, {x: 1}, GROUPS, mode=mode)
    spread.forward()
    expected = expected_gradients([head], values, [np.ones((4, 4))])[x]
    np.testing.assert_array_equal(spread.backward([1.0])[x], expected)
    extra = [node for node in spread.traced.backward if node in spread.traced.extra]
    if mode != "none":
        assert any(not isinstance(node.op, Receive) for node in extra)
