import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymx.errors import ShapeError
from raymx.graph.compile import Spec, trace
from raymx.graph.gradient import gradient, head_gradients
from raymx.graph.node import Entry, Node
from raymx.ops.op import Op, Signature
from raymx.ops.program import Slot
from tests.graph.build import apply, evaluate, others, variable
from tests.graph.run import Bound

RNG = np.random.default_rng(9)


def array(*shape):
    return RNG.uniform(0.5, 1.5, shape)


def expected_gradients(heads, values, head_grads):
    incoming = head_gradients(heads)
    found = gradient(heads, [v.node for v in values], incoming)
    known = {**values, **dict(zip(incoming, head_grads, strict=True))}

    def value(v):
        entry = found[v.node]
        return np.zeros_like(values[v]) if entry is None else evaluate([entry], known, True)[0]

    return {v: value(v) for v in values}


def mlp():
    """Heads and values of a small network with a loss."""
    data, label = variable("data"), variable("label")
    values = {data: array(4, 2, 3), label: np.array([0.0, 1.0, 2.0, 0.0])}
    hidden = apply("Flatten", data, name="flat")
    for i, (rows, columns) in enumerate([(5, 6), (5, 5), (3, 5)]):
        w, b = variable(f"w{i}"), variable(f"b{i}")
        values |= {w: array(rows, columns) - 1, b: array(rows) - 1}
        hidden = apply("FullyConnected", hidden, w, b, num_hidden=rows, name=f"fc{i}")
        if i < 2:
            hidden = apply("Activation", hidden, act_type="relu", name=f"relu{i}")
    return [apply("SoftmaxOutput", hidden, label, name="loss")], values


class Rename(Op):
    """out is data's bytes."""

    name, view, forward_names = "rename", True, Signature(Op.forward)

    def infer_shape(self, data):
        return {"out": data}


class AddReversed(Op):
    """out = lhs + rhs from back to front; out may be lhs, but not where rhs is the same array."""

    name, inplace, forward_names = "add_reversed", (("lhs", "out"),), Signature(Op.forward)

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs, rhs):
        return {"out": lhs}


# ---- random graphs equal plain evaluation ----


UNARY = ("exp", "tanh", "sigmoid", "square", "_copy", "BlockGrad", "MakeLoss", "negative", "relu")
BINARY = ("_plus", "_minus", "_mul", "_maximum")


@st.composite
def graphs(draw):
    """A random graph over arrays of six elements: (heads, variables with their shapes)."""
    shapes = ((2, 3), (6,), (3, 2))
    variables = {variable(f"v{i}"): draw(st.sampled_from(shapes)) for i in range(draw(st.integers(1, 3)))}
    pool = dict(variables)

    def pick(shape=None):
        entry = draw(st.sampled_from(list(pool)))
        if shape is not None and pool[entry] != shape:
            entry = apply("Reshape", entry, shape=shape, name=f"to{len(pool)}")
            pool[entry] = shape
        return entry

    for i in range(draw(st.integers(0, 12))):
        first = pick()
        shape, kind = pool[first], draw(st.sampled_from(("unary", "binary", "sum", "reshape", "cut")))
        if kind == "unary":
            made = [apply(draw(st.sampled_from(UNARY)), first, name=f"n{i}")]
        elif kind == "binary":
            made = [apply(draw(st.sampled_from(BINARY)), first, pick(shape), name=f"n{i}")]
        elif kind == "sum":
            made = [apply("ElementWiseSum", first, pick(shape), pick(shape), num_args=3, name=f"n{i}")]
        elif kind == "reshape":
            made, shape = [apply("Reshape", first, shape=(shape := draw(st.sampled_from(shapes))), name=f"n{i}")], shape
        else:
            cut = others(apply("SliceChannel", pick((2, 3)), num_outputs=3, name=f"cut{i}"))
            joined = [cut[draw(st.integers(0, 2))] for _ in range(3)]
            made, shape = [apply("Concat", *joined, num_args=3, name=f"n{i}")], (2, 3)
        pool.update(dict.fromkeys(made, shape))
    heads = draw(st.lists(st.sampled_from(list(pool)), min_size=1, max_size=4))
    return heads, variables


@settings(max_examples=150, deadline=None)
@given(graphs(), st.data())
def test_random_graphs_equal_plain_evaluation(graph, data):
    heads, shapes = graph
    values = {v: array(*shape) - 0.5 for v, shape in shapes.items()}
    reqs = {v: data.draw(st.sampled_from(("write", "add", "null"))) for v in shapes}
    reqs = {v: req for v, req in reqs.items() if req != "null"}
    strided = [v for v in reqs if data.draw(st.integers(0, 3)) == 0]
    bound = Bound(heads, values, reqs, strided=strided, keep=data.draw(st.booleans()))
    for _ in range(2):
        outputs = bound.forward()
    for output, expected in zip(outputs, evaluate(heads, values, True), strict=True):
        np.testing.assert_array_equal(output, expected)
    if reqs:
        head_grads = [array(*x.shape) for x in outputs]
        found = bound.backward(head_grads)
        expected = expected_gradients(heads, values, head_grads)
        for v, req in reqs.items():
            np.testing.assert_array_equal(found[v], expected[v] + (7 if req == "add" else 0), err_msg=v.node.name)
    for v, number in bound.of.items():
        np.testing.assert_array_equal(bound.device[number], values[v])
    forward = [e for e in bound.kept if e.node in bound.traced.forward]
    for e, expected in zip(forward, evaluate(forward, values, True), strict=True):
        np.testing.assert_array_equal(bound.device[bound.kept[e]], expected, err_msg=e.node.name)


def test_a_network_trains_and_predicts_in_one_program():
    heads, values = mlp()
    bound = Bound(heads, values, dict.fromkeys(values, "write"))
    for is_train in (False, True, False):
        np.testing.assert_array_equal(bound.forward(is_train)[0], evaluate(heads, values)[0])
    expected = expected_gradients(heads, values, [0])
    for v, g in bound.backward().items():
        np.testing.assert_array_equal(g, expected[v])


# ---- gradients ----


def test_write_replaces_and_add_adds_at_every_run():
    x, y = variable("x"), variable("y")
    values = {x: array(3), y: array(3)}
    bound = Bound([apply("_mul", x, y)], values, {x: "write", y: "add"})
    for run in (1, 2, 3):
        bound.forward()
        found = bound.backward([2.0])
        np.testing.assert_allclose(found[x], 2 * values[y])
        np.testing.assert_allclose(found[y], 7 + run * 2 * values[x])


def test_the_producer_writes_into_the_gradient_array():
    heads, values = mlp()
    bound = Bound(heads, values, {v: "write" for v in values if v.node.name != "label"})
    assert not {"_copy", "_plus"} & set(bound.ops("backward"))


def test_a_zero_gradient_is_written_and_not_added():
    heads, values = mlp()
    label = next(v for v in values if v.node.name == "label")
    for req, expected in (("write", 0), ("add", 7)):
        bound = Bound(heads, values, {label: req})
        bound.forward()
        np.testing.assert_array_equal(bound.backward()[label], expected)


def test_gradients_of_two_variables_in_one_array():
    """The same array for both: additions meet there; of writes the last one stays, whole."""
    x, y = variable("x"), variable("y")
    values = {x: array(3), y: array(3)}
    head = apply("_plus", apply("_mul", x, x), apply("exp", y))
    bound = Bound([head], values, {x: "add", y: "add"}, alias={y: x})
    bound.forward()
    np.testing.assert_allclose(bound.backward([1.0])[x], 7 + 2 * values[x] + np.exp(values[y]))
    bound = Bound([head], values, {x: "write", y: "write"}, alias={y: x})
    bound.forward()
    np.testing.assert_allclose(bound.backward([1.0])[x], 2 * values[x])
    assert bound.ops("backward").count("_copy") == 2, "nothing is computed in an array that somebody else writes"


def test_kernels_do_not_write_strided_gradient_arrays():
    x, y = variable("x"), variable("y")
    bound = Bound([apply("_mul", x, y)], {x: array(3), y: array(3)}, {x: "write", y: "write"}, strided=[x])
    assert bound.steps("backward") == ["_mul_backward", "x_grad"]


def test_one_gradient_for_two_variables():
    x, y = variable("x"), variable("y")
    heads = [x, y]
    bound = Bound(heads, {x: array(3), y: array(3)}, {x: "write", y: "add"})
    bound.forward()
    found = bound.backward([2.0, 3.0])
    np.testing.assert_array_equal(found[x], 2.0)
    np.testing.assert_array_equal(found[y], 10.0)


def test_only_used_head_gradients_are_asked_for():
    x, label = variable("x"), variable("label")
    specs = {x.node: Spec((2, 3), np.dtype("float64")), label.node: Spec((2,), np.dtype("float64"))}
    heads = [apply("SoftmaxOutput", x, label), apply("exp", x, name="e"), apply("BlockGrad", x), label]
    traced = trace(heads, specs, [x.node])
    assert [g and g.name for g in traced.head_grads] == [None, "e_output_grad", None, None]
    assert trace(heads, specs).head_grads == [None] * 4


# ---- outputs ----


def test_an_argument_that_is_an_output_is_copied():
    x = variable("x")
    bound = Bound([x, apply("exp", x, name="e")], {x: array(3)})
    output = bound.forward()[0]
    np.testing.assert_array_equal(output, bound.device[bound.of[x]])
    assert not np.shares_memory(output, bound.device[bound.of[x]])
    assert bound.steps("forward") == ["e", "x_output"]


def test_an_output_that_stands_twice_is_made_once_and_copied():
    x = variable("x")
    head = apply("exp", x, name="e")
    bound = Bound([head, head], {x: array(3)})
    first, second = bound.forward()
    np.testing.assert_array_equal(first, second)
    assert bound.steps("forward") == ["e", "e_output"]


def test_an_output_is_never_overwritten_by_later_steps():
    x = variable("x")
    inner = apply("exp", x)
    bound = Bound([inner, apply("tanh", inner)], {x: array(3)})
    first, second = bound.forward()
    np.testing.assert_array_equal(second, np.tanh(first))


def test_a_changed_output_does_not_spoil_what_backward_reads_elsewhere():
    """The user may write into the output of a Reshape; the value behind it, which backward needs, is another array."""
    x = variable("x")
    values = {x: array(2, 3)}
    bound = Bound([apply("Reshape", apply("tanh", x), shape=(6,))], values, {x: "write"})
    bound.forward()[0][:] = 100
    np.testing.assert_allclose(bound.backward([1.0])[x], 1 - np.tanh(values[x]) ** 2)


# ---- memory ----


def chain(n: int, op="tanh"):
    x = head = variable("x")
    for i in range(n):
        head = apply(op, head, name=f"n{i}")
    return x, head


def test_inference_on_a_chain_needs_one_buffer():
    """Each step writes in place, the last one into the output."""
    x, head = chain(10)
    bound = Bound([head], {x: array(8, 8)})
    assert bound.program.arena_nbytes == 512
    assert bound.compiled.unplanned_nbytes == 9 * 512


def test_an_input_that_a_step_reads_twice_is_not_overwritten():
    x = variable("x")
    inner = apply("exp", x)
    for inputs, in_place in (([inner, inner], False), ([inner, x], True)):
        head = apply("tanh", Entry(Node(AddReversed(), "sum", inputs=inputs)))
        step = Bound([head], {x: array(8)}).program.phases["forward"][1]
        slots = Bound([head], {x: array(8)}).program.slots
        assert (slots[step.ins[0]] == slots[step.outs[0]]) == in_place


def test_training_keeps_what_backward_reads_and_reuses_the_rest():
    x, head = chain(10)
    bound = Bound([head], {x: array(8, 8)}, {x: "write"})
    assert bound.program.arena_nbytes <= 11 * 512 < bound.compiled.unplanned_nbytes


def test_forward_again_after_backward_began_anew_is_right():
    """What backward reused is written again by every forward."""
    x, head = chain(6)
    values = {x: array(8, 8)}
    bound = Bound([head], values, {x: "write"})
    expected = expected_gradients([head], values, [np.ones((8, 8))])[x]
    for _ in range(3):
        bound.forward(False)
        bound.forward(True)
        np.testing.assert_array_equal(bound.backward([1.0])[x], expected)


def test_repeatable_tells_whether_backward_can_run_twice():
    x, y = variable("x"), variable("y")
    values = {x: array(8, 8), y: array(8, 8)}
    simple = Bound([apply("_mul", x, y)], values, {x: "write"})
    assert simple.compiled.repeatable
    deep_x, deep = chain(6)
    bound = Bound([deep], {deep_x: array(8, 8)}, {deep_x: "write"})
    bound.forward()
    first = bound.backward([1.0])[deep_x].copy()
    again = bound.backward([1.0])[deep_x]
    assert bound.compiled.repeatable == np.array_equal(first, again)
    assert not bound.compiled.repeatable


def test_a_mask_lives_until_backward():
    x = variable("x")
    values = {x: np.ones((50, 50))}
    head = apply("Dropout", apply("exp", x), p=0.5, name="drop")
    bound = Bound([head], values, {x: "write"})
    outputs = bound.forward(True)[0]
    assert 0.3 < (outputs == 0).mean() < 0.7
    np.testing.assert_array_equal(bound.backward([1.0])[x], outputs)
    assert bound.compiled.random == {"forward"}
    assert (bound.forward(False)[0] == np.e).all()
    np.testing.assert_array_equal(bound.backward([1.0])[x], np.e)


def test_scratch_is_planned_and_reaches_the_kernel():
    x = variable("x")
    bound = Bound([apply("Activation", x, act_type="relu", name="r")], {x: array(4, 4)}, {x: "write"})
    (step,) = bound.program.phases["backward"]
    ((name, slot),) = step.scratch
    assert name == "alive" and bound.program.slots[slot] == Slot((4, 4), "bool", None, 0)
    assert bound.program.arena_nbytes == 64


def test_places_are_aligned():
    heads, values = mlp()
    bound = Bound(heads, values, dict.fromkeys(values, "write"))
    assert all(slot.offset % 64 == 0 for slot in bound.program.slots)


def test_the_program_tells_what_each_phase_reads_and_writes():
    x, y = variable("x"), variable("y")
    bound = Bound([apply("_mul", x, y)], {x: array(3), y: array(3)}, {x: "write", y: "add"})
    number = {v: bound.of[v] for v in (x, y)}
    program = bound.program
    program.arena = 99
    assert set(program.reads("forward")) == {number[x], number[y]}
    assert set(program.writes("forward")) == set(bound.outputs)
    assert set(program.reads("backward")) == {number[x], number[y], bound.head_grads[0], bound.grads[y]}
    assert set(program.writes("backward")) == {bound.grads[x], bound.grads[y], 99}


def test_backward_reads_the_arena_when_forward_left_something_there():
    x, head = chain(3)
    bound = Bound([head], {x: array(3)}, {x: "write"})
    bound.program.arena = 99
    assert 99 in bound.program.writes("forward") and 99 not in bound.program.reads("forward")
    assert 99 in bound.program.reads("backward") and 99 in bound.program.writes("backward")


def test_a_view_shares_its_inputs_bytes_while_both_live():
    """Both the value and its view are read afterwards, yet there is one buffer and nothing is copied."""
    x = variable("x")
    inner = apply("exp", x, name="inner")
    renamed = Entry(Node(Rename(), "renamed", inputs=[inner]))
    heads = [apply("_plus", apply("tanh", inner, name="a"), apply("tanh", renamed, name="b"), name="sum")]
    bound = Bound(heads, {x: array(2, 8)})
    step = next(s for s in bound.program.phases["forward"] if s.name == "renamed")
    assert bound.program.is_view(step, step.outs[0])
    np.testing.assert_allclose(bound.forward()[0], 2 * np.tanh(np.exp(bound.device[bound.of[x]])))
    events = []
    bound.prepared.run("forward", False, events)
    assert [name for name, _, _ in events] == ["inner", "a", "b", "sum"]


def test_a_view_of_an_argument_is_the_argument():
    x = variable("x")
    renamed = Entry(Node(Rename(), "renamed", inputs=[x]))
    bound = Bound([apply("exp", renamed)], {x: array(4)})
    assert bound.program.arena_nbytes == 0 and bound.program.writes("forward") == tuple(bound.outputs)
    np.testing.assert_allclose(bound.forward()[0], np.exp(bound.device[bound.of[x]]))


# ---- keeping everything, gradients as graphs, errors ----


def test_kept_values_are_all_there_after_a_run():
    x, head = chain(4)
    values = {x: array(3)}
    bound = Bound([head], values, {x: "write"}, keep=True)
    bound.forward()
    for i, node in enumerate(bound.traced.forward):
        np.testing.assert_array_equal(bound.device[bound.kept[Entry(node)]], evaluate([Entry(node)], values)[0], str(i))
    assert bound.program.arena_nbytes == 0


def test_a_gradient_graph_is_a_graph_like_any_other():
    """Its arrays take their shapes from what was differentiated, even where that does not run."""
    x, y = variable("x"), variable("y")
    incoming = head_gradients([head := apply("_mul", apply("exp", x), y)])
    found = gradient([head], [x.node], incoming)[x.node]
    values = {x: array(2, 2), y: array(2, 2), incoming[0]: array(2, 2)}
    (output,) = Bound([found], values).forward()
    np.testing.assert_allclose(output, values[incoming[0]] * values[y] * np.exp(values[x]))


def test_zeros_like_does_not_keep_its_input_alive():
    x, head = chain(3)
    bound = Bound([apply("zeros_like", head)], {x: array(3)})
    np.testing.assert_array_equal(bound.forward()[0], 0)
    assert bound.program.phases["forward"][-1].ins == ()


def test_shapes_that_contradict_name_the_node():
    x, w = variable("x"), variable("w")
    specs = {x.node: Spec((2, 3), np.dtype("float32")), w.node: Spec((4, 4), np.dtype("float32"))}
    with pytest.raises(ShapeError, match=r"FullyConnected 'fc': weight must be \(4, 3\)"):
        trace([apply("FullyConnected", x, w, num_hidden=4, no_bias=True, name="fc")], specs)


def test_shapes_that_cannot_be_told_are_an_error():
    x = Entry(Node(None, "x"))
    with pytest.raises(ShapeError, match=r"variable 'x': its shape or dtype cannot be told"):
        trace([apply("exp", x)], {})
