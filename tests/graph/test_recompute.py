import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymx.graph.compile import AFTER_PREDICTION
from raymx.graph.node import Entry, Node, topological
from raymx.graph.recompute import MODES
from raymx.ops.op import Op, Signature
from tests.graph.build import apply, variable
from tests.graph.run import Bound
from tests.graph.test_compile import array, graphs


class Moving(Op):
    """out = data - mean(data) in training, else data - moving; a training pass moves `moving` by the mean."""

    name = "moving"

    def aux(self):
        return ("moving",)

    def infer_shape(self, data):
        return {"moving": (1,), "out": data}

    def forward(self, xp, data, moving, *, out, is_train=False):
        if is_train:
            moving += data.mean()
            xp.subtract(data, data.mean(), out=out)
        else:
            xp.subtract(data, moving, out=out)

    def backward(self, xp, g, out, *, d_data=None):
        xp.multiply(g, out, out=d_data)


Moving.forward_names, Moving.backward_names = Signature(Moving.forward), Signature(Moving.backward)
MOVING = Moving()


def chain(n: int, attrs=(), **params):
    """A network of `n` layers over data (4, 6): heads and values."""
    data, label = variable("data"), variable("label")
    values = {data: array(4, 6), label: np.array([0.0, 1.0, 2.0, 0.0])}
    hidden = data
    for i in range(n):
        w = variable(f"w{i}")
        values[w] = (array(6, 6) - 1) / 3
        hidden = apply("FullyConnected", hidden, w, num_hidden=6, no_bias=True, name=f"fc{i}")
        hidden = apply("Activation", hidden, act_type="tanh", name=f"act{i}")
        hidden.node.attrs.update(attrs)
    return [apply("SoftmaxOutput", hidden, label, name="loss")], values


def trained(heads, values, mode, **options):
    """Gradients of every variable after one training pass, and the bound graph."""
    bound = Bound(heads, values, dict.fromkeys(values, "write"), mode=mode, **options)
    outputs = bound.forward()
    head_grads = [np.ones_like(x) for x in outputs]
    return {v: g.copy() for v, g in bound.backward(head_grads).items()}, bound


def assert_same(found, expected):
    for v, g in expected.items():
        np.testing.assert_array_equal(found[v], g, err_msg=v.node.name)


def forced(data, heads) -> None:
    """Say `force_mirroring` of some nodes."""
    for node in topological(list(heads)):
        if node.op and data.draw(st.booleans()):
            node.attrs["force_mirroring"] = "True"


@settings(max_examples=150, deadline=None)
@given(graphs(), st.data())
def test_random_graphs_have_the_same_bits_in_every_mode(graph, data):
    heads, shapes = graph
    values = {v: array(*shape) - 0.5 for v, shape in shapes.items()}
    expected, _ = trained(heads, values, "none")
    forced(data, heads)
    for mode in MODES:
        found, bound = trained(heads, values, mode, keep=data.draw(st.booleans()))
        assert_same(found, expected)
        if bound.compiled.repeatable:
            assert_same(bound.backward([np.ones_like(bound.device[i]) for i in bound.outputs]), expected)


@pytest.mark.parametrize("mode", MODES)
def test_forward_may_run_several_times_before_backward(mode):
    heads, values = chain(12)
    expected, _ = trained(heads, values, "none")
    bound = Bound(heads, values, dict.fromkeys(values, "write"), mode=mode)
    for is_train in (False, True, True):
        bound.forward(is_train)
    assert_same(bound.backward(), expected)


def test_about_the_square_root_of_the_activations_is_kept():
    sizes = {}
    for n in (25, 100):
        heads, values = chain(n)
        kept, saved = (trained(heads, values, mode)[1].program.arena_nbytes for mode in ("none", "sqrt"))
        assert kept >= n * 192
        assert saved <= 4 * n**0.5 * 192
        sizes[n] = saved
    assert sizes[100] < 2.5 * sizes[25]


def test_what_backward_begins_with_is_not_repeated():
    heads, values = chain(16)
    bound = trained(heads, values, "sqrt")[1]
    names = [node.name for node in bound.traced.backward if node in bound.traced.extra]
    assert names and "act15_mirror" not in names and "fc15_mirror" not in names


def test_mirror_keeps_what_heavy_operators_make():
    heads, values = chain(4)
    expected, _ = trained(heads, values, "none")
    found, bound = trained(heads, values, "mirror")
    assert_same(found, expected)
    assert {node.op.name for node in bound.traced.extra} == {"Activation"}


@pytest.mark.parametrize("key", ["force_mirroring", "__force_mirroring__"])
@pytest.mark.parametrize("value", ["True", "1", "true"])
def test_an_attribute_asks_for_it_in_every_mode(key, value):
    heads, values = chain(4, {key: value})
    bound = trained(heads, values, "none")[1]
    assert sorted(node.name for node in bound.traced.extra) == [f"act{i}_mirror" for i in range(4)]
    heads, values = chain(4, {key: "False"})
    assert not trained(heads, values, "none")[1].traced.extra


def test_repeated_nodes_run_shortly_before_they_are_read():
    heads, values = chain(3, {"force_mirroring": "True"})
    steps = trained(heads, values, "none")[1].steps("backward")
    assert steps.index("act0_mirror") > steps.index("act2_backward")


@pytest.mark.parametrize("mode", MODES)
def test_random_numbers_are_not_drawn_again(mode):
    """The mask is kept; what was dropped is made again from it."""
    x = head = variable("x")
    for i in range(9):
        head = apply("tanh", apply("Dropout", head, p=0.5, name=f"drop{i}"), name=f"tanh{i}")
    values = {x: array(40, 40)}
    found, bound = trained([head], values, mode)
    expected, _ = trained([head], values, "none")
    assert_same(found, expected)
    assert bound.compiled.random == {"forward"}
    if mode != "none":
        assert {node.op.name for node in bound.traced.extra} == {"_mul", "tanh"}


@pytest.mark.parametrize("mode", ["mirror", "sqrt"])
def test_states_move_once(mode):
    x, state = variable("x"), variable("state")
    head = x
    for i in range(9):
        head = apply("tanh", Entry(Node(MOVING, f"moving{i}", inputs=[head, state])), name=f"tanh{i}")
    values = {x: array(3, 3), state: np.zeros(1)}
    results = []
    for each in ("none", mode):
        bound = Bound([head], values, {x: "write"}, mode=each)
        bound.forward()
        moved = bound.device[bound.of[state]].copy()
        results.append((moved, bound.backward([1.0])[x].copy(), bound.device[bound.of[state]].copy()))
    (moved, gradient, later), (moved_again, gradient_again, later_again) = results
    assert "moving" in {node.op.name for node in bound.traced.extra}
    for a, b in ((moved, moved_again), (gradient, gradient_again), (moved, later), (moved_again, later_again)):
        np.testing.assert_array_equal(a, b)


def test_a_forward_that_did_not_train_is_repeated_as_it_was():
    x, state = variable("x"), variable("state")
    head = x
    for i in range(9):
        head = apply("tanh", Entry(Node(MOVING, f"moving{i}", inputs=[head, state])), name=f"tanh{i}")
    values = {x: array(3, 3), state: np.full(1, 0.25)}
    plain = Bound([head], values, {x: "write"})
    plain.forward(False)
    expected = plain.backward([1.0])[x]
    bound = Bound([head], values, {x: "write"}, mode="sqrt")
    bound.forward(False)
    np.testing.assert_array_equal(bound.backward([1.0], "backward" + AFTER_PREDICTION)[x], expected)
    assert "backward" + AFTER_PREDICTION not in plain.program.phases


def test_small_outputs_are_kept():
    """A hidden output that is a vector beside a matrix costs more to make again than to keep."""
    x = variable("x")
    values = {x: array(64, 64)}
    head = apply("tanh", apply("norm", apply("tanh", x, name="a"), name="norm"), name="b")
    bound = trained([head], values, "mirror")[1]
    assert [node.name for node in bound.traced.extra] == ["a_mirror"]


def test_without_gradients_nothing_is_repeated():
    heads, values = chain(3, {"force_mirroring": "True"})
    assert not Bound(heads, values, mode="sqrt").traced.backward


def test_mirror_repeats_a_normalisation_and_its_averages_move_once():
    x = head = variable("x")
    values = {x: array(4, 3, 5, 5)}
    states = {}
    for i in range(6):
        names = [variable(f"{n}{i}") for n in ("gamma", "beta", "mean", "var")]
        values |= dict(zip(names, (array(3), array(3), np.zeros(3), np.ones(3)), strict=True))
        states |= dict.fromkeys(names[2:])
        head = apply("BatchNorm", apply("square", head, name=f"square{i}"), *names, fix_gamma=False, name=f"bn{i}")
    reqs = {v: "write" for v in values if v not in states}
    results = []
    for mode in MODES:
        bound = Bound([head], values, reqs, mode=mode)
        bound.forward()
        gradients = [g.copy() for g in bound.backward([1.0]).values()]
        results.append(gradients + [bound.device[bound.of[v]].copy() for v in states])
        assert ("BatchNorm" in {node.op.name for node in bound.traced.extra}) == (mode != "none")
    for found in results[1:]:
        for a, b in zip(found, results[0], strict=True):
            np.testing.assert_array_equal(a, b)
    assert all((x != 0).any() for x in results[0][-12:])
