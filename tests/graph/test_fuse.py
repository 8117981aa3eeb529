import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymx.graph.compile import Spec, trace
from raymx.graph.fuse import fuse
from raymx.graph.node import Entry, topological
from tests.graph.build import apply, variable
from tests.graph.run import Bound
from tests.graph.test_compile import array, graphs

RNG = np.random.default_rng(17)


def fused(heads, pairs=True, dtype="float32", **shapes):
    """The new heads; `shapes` are those of the variables by name."""
    order = topological(heads)
    specs = {n: Spec(shapes[n.name], np.dtype(dtype)) for n in order if n.is_variable}
    found = []

    def simplify(heads, specs):
        found.extend(fuse(heads, specs, pairs)[0])
        return fuse(heads, specs, pairs)

    trace(heads, specs, simplify=simplify)
    return found


def words(heads):
    """Operators and their parameters that count, in the order in which they run."""
    return [
        node.op.name + "".join(f" {node.op.attrs[k]:g}" for k in ("scalar", "value") if k in node.op.attrs)
        for node in topological(heads)
        if node.op
    ]


def convolution(data, name="conv", **attrs):
    weight, bias = variable(f"{name}_w"), variable(f"{name}_b")
    out = apply("Convolution", data, weight, bias, name=name, kernel=(3, 3), num_filter=4, pad=(1, 1))
    out.node.attrs.update(attrs)
    return out


def normalized(data, name="bn"):
    states = [variable(f"{name}_{n}") for n in ("gamma", "beta", "mean", "var")]
    return apply("BatchNorm", data, *states, name=name, fix_gamma=False)


def relu(data, name="act", **attrs):
    out = apply("Activation", data, act_type="relu", name=name)
    out.node.attrs.update(attrs)
    return out


IMAGE, PER_CHANNEL = (2, 4, 5, 5), dict.fromkeys(("bn_gamma", "bn_beta", "bn_mean", "bn_var"), (4,))
WEIGHTS = {"conv_w": (4, 4, 3, 3), "conv_b": (4,)}


# ---- pairs ----


def test_convolution_and_activation_are_one_node_named_after_both():
    (head,) = fused([relu(convolution(variable("x")))], x=IMAGE, **WEIGHTS)
    assert (head.node.op.name, head.node.name) == ("_conv_act", "conv+act")
    assert head.node.op.act_type == "relu" and head.node.op.pad == (1, 1)
    assert [e.node.name for e in head.node.inputs] == ["x", "conv_w", "conv_b"]


@pytest.mark.parametrize("act_type", ["tanh", "sigmoid", "softrelu"])
def test_any_activation_goes_with_a_convolution(act_type):
    head = apply("Activation", convolution(variable("x")), act_type=act_type)
    assert words(fused([head], x=IMAGE, **WEIGHTS)) == ["_conv_act"]


def test_batchnorm_and_relu_keep_their_states():
    (head,) = fused([relu(normalized(variable("x")))], x=IMAGE, **PER_CHANNEL)
    assert (head.node.op.name, head.node.op.fix_gamma) == ("_batchnorm_relu", False)
    assert [e.node.name for e in head.node.inputs] == ["x", "bn_gamma", "bn_beta", "bn_mean", "bn_var"]


@pytest.mark.parametrize(
    "make", [lambda a, b: apply("_plus", a, b), lambda a, b: apply("ElementWiseSum", a, b, num_args=2)]
)
def test_a_sum_of_two_and_relu(make):
    assert words(fused([relu(make(variable("a"), variable("b")))], a=IMAGE, b=IMAGE)) == ["_add_relu"]
    assert words(fused([apply("relu", make(variable("a"), variable("b")))], a=IMAGE, b=IMAGE)) == ["_add_relu"]


def test_what_others_use_is_no_part_of_a_pair():
    conv = convolution(variable("x"))
    assert words(fused([relu(conv), conv], x=IMAGE, **WEIGHTS)) == ["Convolution", "Activation"]
    assert words(fused([apply("_mul", relu(conv), conv)], x=IMAGE, **WEIGHTS)) == ["Convolution", "Activation", "_mul"]


def test_what_others_use_by_way_of_a_node_that_falls_away_is_no_part_of_a_pair():
    same = apply("_mul_scalar", convolution(variable("x")), scalar=1)
    assert words(fused([apply("_mul", relu(same), same)], x=IMAGE, **WEIGHTS)) == ["Convolution", "Activation", "_mul"]
    assert words(fused([relu(same)], x=IMAGE, **WEIGHTS)) == ["_conv_act"]


@pytest.mark.parametrize("key", ["ctx_group", "force_mirroring", "__ctx_group__"])
def test_nodes_that_the_user_tells_apart_stay_apart(key):
    head = relu(convolution(variable("x")), **{key: "True"})
    assert words(fused([head], x=IMAGE, **WEIGHTS)) == ["Convolution", "Activation"]
    head = relu(convolution(variable("x"), **{key: "True"}), **{key: "True"})
    assert words(fused([head], x=IMAGE, **WEIGHTS)) == ["_conv_act"]


def test_pairs_need_kernels_and_float32():
    head = relu(convolution(variable("x")))
    assert words(fused([head], pairs=False, x=IMAGE, **WEIGHTS)) == ["Convolution", "Activation"]
    assert words(fused([head], dtype="float64", x=IMAGE, **WEIGHTS)) == ["Convolution", "Activation"]


def test_a_sum_of_three_or_another_activation_is_no_pair():
    a, b = variable("a"), variable("b")
    three = apply("ElementWiseSum", a, b, a, num_args=3)
    assert words(fused([relu(three)], a=IMAGE, b=IMAGE)) == ["ElementWiseSum", "Activation"]
    tanh = apply("Activation", apply("_plus", a, b), act_type="tanh")
    assert words(fused([tanh], a=IMAGE, b=IMAGE)) == ["_plus", "Activation"]


def test_the_given_graph_is_not_changed():
    head = apply("_plus", relu(convolution(variable("x"))), relu(normalized(variable("y"))))
    before = [(node, node.op, list(node.inputs)) for node in topological([head])]
    fused([head], x=IMAGE, y=IMAGE, **WEIGHTS, **PER_CHANNEL)
    assert [(node, node.op, list(node.inputs)) for node in topological([head])] == before


# ---- fewer steps ----


def scalar(op, data, value):
    return apply(op, data, scalar=value)


def chain(data, *links):
    for op, *value in links:
        data = scalar(op, data, *value) if value else apply(op, data)
    return apply("exp", data)


@pytest.mark.parametrize(
    ("links", "left"),
    [
        ([("_mul_scalar", 1)], []),
        ([("_div_scalar", 1.0), ("_power_scalar", 1), ("_plus_scalar", 0), ("_minus_scalar", 0.0)], []),
        ([("_mul_scalar", 2), ("_mul_scalar", 3)], ["_mul_scalar 6"]),
        ([("_mul_scalar", 2), ("_mul_scalar", 0.5)], ["_mul_scalar 1"]),
        ([("_div_scalar", 2), ("_div_scalar", 4)], ["_div_scalar 8"]),
        ([("_plus_scalar", 2), ("_plus_scalar", 3), ("_plus_scalar", 4)], ["_plus_scalar 9"]),
        ([("_minus_scalar", 2), ("_minus_scalar", 3)], ["_minus_scalar 5"]),
        ([("_mul_scalar", 1e30), ("_mul_scalar", 1e-30)], ["_mul_scalar 1e+30", "_mul_scalar 1e-30"]),
        ([("_plus_scalar", 1e8), ("_plus_scalar", -1e8)], ["_plus_scalar 1e+08", "_plus_scalar -1e+08"]),
        ([("_mul_scalar", 0), ("_mul_scalar", 2)], ["_mul_scalar 0", "_mul_scalar 2"]),
        ([("_mul_scalar", 2), ("_plus_scalar", 3)], ["_mul_scalar 2", "_plus_scalar 3"]),
        ([("zeros_like",)], ["_full 0"]),
        ([("ones_like",), ("_mul_scalar", 3), ("_plus_scalar", 2)], ["_full 5"]),
        ([("zeros_like",), ("_rminus_scalar", 1), ("negative",)], ["_full -1"]),
        ([("zeros_like",), ("_minus_scalar", 1e300)], ["_full 0", "_minus_scalar 1e+300"]),
    ],
)
def test_scalars_and_constants_are_folded(links, left):
    assert words(fused([chain(variable("x"), *links)], x=(2, 3))) == [*left, "exp"]


def test_folding_leaves_other_users_what_they_use():
    twice = scalar("_mul_scalar", variable("x"), 2)
    heads = fused([scalar("_mul_scalar", twice, 3), twice], x=(2,))
    assert words(heads) == ["_mul_scalar 2", "_mul_scalar 3"]


def test_integers_are_left_alone_as_they_may_overflow():
    head = chain(variable("x"), ("_mul_scalar", 2), ("_mul_scalar", 3)).node.inputs[0]
    assert words(fused([head], dtype="int8", x=(2,))) == ["_mul_scalar 2", "_mul_scalar 3"]


@pytest.mark.parametrize(
    ("op", "constant", "first"),
    [("_plus", "_zeros", True), ("_plus", "_zeros", False), ("_mul", "_ones", True), ("_mul", "_ones", False),
     ("_minus", "_zeros", False), ("_div", "_ones", False)],
)  # fmt: skip
def test_neutral_arrays_fall_away(op, constant, first):
    x, c = variable("x"), apply(constant, shape=(2, 3))
    assert words(fused([apply("exp", apply(op, *((c, x) if first else (x, c))))], x=(2, 3))) == ["exp"]


def test_zero_minus_something_and_a_constant_of_another_type_stay():
    x = variable("x")
    assert words(fused([apply("exp", apply("_minus", apply("_zeros", shape=(2,)), x))], x=(2,)))[1:] == [
        "_minus",
        "exp",
    ]


def test_casts_to_the_same_type_and_dropout_of_nothing_fall_away():
    x = variable("x")
    cast = apply("Cast", apply("Dropout", x, p=0), dtype="float32")
    assert words(fused([apply("exp", cast)], x=(2,))) == ["exp"]
    assert words(fused([apply("exp", cast)], dtype="float64", x=(2,))) == ["Cast", "exp"]


def test_transposes_are_joined():
    x = variable("x")
    there = apply("transpose", x, axes=(1, 2, 0))
    back = apply("transpose", there, axes=(2, 0, 1))
    assert words(fused([apply("exp", back)], x=(2, 3, 4))) == ["exp"]
    (head,) = fused([apply("exp", apply("transpose", there, axes=(0, 2, 1)))], x=(2, 3, 4))
    assert head.node.inputs[0].node.op.axes == (1, 0, 2)


def test_what_stands_twice_is_computed_once():
    x = variable("x")
    heads = fused([apply("_plus", apply("exp", x, name="one"), apply("exp", x, name="two"))], x=(2,))
    assert words(heads) == ["exp", "_plus"]


@pytest.mark.parametrize("op", ["MakeLoss", "Dropout"])
def test_losses_and_chance_stand_as_often_as_they_are_written(op):
    x = variable("x")
    assert words(fused([apply("_plus", apply(op, x), apply(op, x))], x=(2,))) == [op, op, "_plus"]


def test_a_head_that_changes_nothing_stays():
    """It takes a head gradient where the loss before it does not."""
    loss = apply("MakeLoss", variable("x"))
    assert words(fused([scalar("_mul_scalar", loss, 1)], x=(2,))) == ["MakeLoss", "_mul_scalar 1"]


# ---- the same values ----


@settings(max_examples=100, deadline=None)
@given(graphs(), st.data())
def test_random_graphs_have_the_same_values_and_gradients(graph, data):
    heads, shapes = graph
    kinds = st.sampled_from(("_mul_scalar", "_plus_scalar", "_minus_scalar", "_div_scalar"))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(heads) - 1))
        heads = [*heads]
        heads[at] = scalar(data.draw(kinds), heads[at], data.draw(st.sampled_from((1, 0.5, 3, 2))))
    values = {v: array(*shape) - 0.5 for v, shape in shapes.items()}
    reqs = dict.fromkeys(shapes, "write")
    plain, simpler = (Bound(heads, values, reqs, fused=x) for x in (False, True))
    for got, expected in zip(simpler.forward(), plain.forward(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    head_grads = [RNG.normal(size=plain.traced.specs[h].shape) for h in heads]
    found, expected = simpler.backward(head_grads), plain.backward(head_grads)
    for v in shapes:
        np.testing.assert_allclose(found[v], expected[v], rtol=1e-10, atol=1e-12)


def test_pairs_have_the_same_values_and_gradients():
    x = variable("x")
    branch = relu(normalized(convolution(x)), "act1")
    heads = [relu(apply("_plus", branch, relu(convolution(x, "conv2"), "act2")), "act3")]
    names = {e for n in topological(heads) for e in n.inputs if e.node.is_variable}
    shapes = {"x": IMAGE, **WEIGHTS, "conv2_w": (4, 4, 3, 3), "conv2_b": (4,), **PER_CHANNEL}
    values = {v: RNG.uniform(0.2, 1, shapes[v.node.name]).astype("float32") for v in names}
    reqs = {v: "write" for v in names if v.node.name not in ("bn_mean", "bn_var")}
    plain, paired = (Bound(heads, values, reqs, fused=f) for f in (False, True))
    assert sorted(paired.ops("forward")) == ["Convolution", "_add_relu", "_batchnorm_relu", "_conv_act"]
    for _ in range(2):
        np.testing.assert_allclose(paired.forward()[0], plain.forward()[0], rtol=1e-5)
    g = [RNG.normal(size=IMAGE).astype("float32")]
    found, expected = paired.backward(g), plain.backward(g)
    for v in reqs:
        np.testing.assert_allclose(found[v], expected[v], rtol=1e-4, atol=1e-4)
    for v in names - set(reqs):
        np.testing.assert_allclose(paired.device[paired.of[v]], plain.device[plain.of[v]], rtol=1e-6)
    assert Entry(paired.traced.forward[-1]) == paired.traced.heads[0]
