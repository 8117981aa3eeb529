"""Layers here multiply each channel by a weight: they can be told apart and computed in every layout."""

import numpy as np
import pytest

from raymx.graph.compile import Spec, trace
from raymx.graph.layout import lay_out
from raymx.graph.node import Entry, Node
from raymx.ops.layout import BLOCK, BLOCKED, NHWC, PLAIN, Blocked
from raymx.ops.op import Op, Signature, make
from tests.graph.build import apply, variable
from tests.graph.run import Bound

RNG = np.random.default_rng(5)


def per_channel(vector, like):
    """The vector (C,) as it meets an array (N, C, …)."""
    if isinstance(like, Blocked):
        return vector.reshape(-1, *(1,) * (like.ndim - 3), BLOCK)
    return vector.reshape(-1, *(1,) * (like.ndim - 2))


def sum_to_channels(array):
    if isinstance(array, Blocked):
        return np.asarray(array).sum((0, *range(2, array.ndim - 1))).reshape(-1)
    return array.sum((0, *range(2, array.ndim)))


class Scale(Op):
    """out = data, times weight (C,)."""

    name, channelled, gains = "scale", ("data", "out"), True

    def inputs(self):
        return ("data", "weight")

    def infer_shape(self, data):
        return {"weight": data[1:2], "out": data}

    def forward(self, xp, data, weight, *, out):
        self.layouts.append([_layout(data), _layout(out)])
        xp.multiply(data, per_channel(weight, data), out=out)

    def backward(self, xp, g, data, weight, *, d_data=None, d_weight=None):
        self.layouts.append([_layout(x) for x in (g, data, d_data) if x is not None])
        if d_data is not None:
            xp.multiply(g, per_channel(weight, g), out=d_data)
        if d_weight is not None:
            d_weight[:] = sum_to_channels(g * data)

    forward_names, backward_names = Signature(forward), Signature(backward)


class Widen(Scale):
    """out (N, F, …) = the sum of data's channels, times weight (F,); reads C order as well."""

    name = "widen"

    def infer_shape(self, weight, data):
        return {"out": (data[0], weight[0], *data[2:])}

    def forward(self, xp, data, weight, *, out):
        self.layouts.append([_layout(data), _layout(out)])
        total = np.broadcast_to(self._total(data), (data.shape[0], weight.size, *self._total(data).shape[2:]))
        wide = np.ascontiguousarray(total) * per_channel(weight, total)
        make("_reorder").forward(xp, wide, out=out)

    def _total(self, data):
        if isinstance(data, Blocked):
            return np.asarray(data).sum((1, -1))[:, None]
        return np.asarray(data).sum(1, keepdims=True)

    backward = backward_names = None
    forward_names = Signature(forward)


class Threshold(Op):
    """out = max(data, 0)."""

    name, elementwise, inplace = "threshold", True, (("data", "out"),)
    inplace_backward = (("g", "d_data"),)

    def infer_shape(self, data):
        return {"out": data}

    def scratch_backward(self, shapes, dtype):
        return {"alive": (shapes["out"], "bool")}

    def forward(self, xp, data, *, out):
        xp.maximum(data, 0, out=out)

    def backward(self, xp, g, out, *, d_data=None, alive=None):
        assert alive.shape == out.shape and alive.strides == tuple(s // 4 for s in out.strides)
        xp.greater(out, 0, out=alive)
        xp.multiply(g, alive, out=d_data)

    forward_names, backward_names = Signature(forward), Signature(backward)


class Both(Op):
    """out = lhs + rhs."""

    name, elementwise, inplace = "both", True, (("lhs", "out"),)

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs, rhs):
        return {"out": lhs}

    def forward(self, xp, lhs, rhs, *, out):
        xp.add(lhs, rhs, out=out)

    def backward(self, xp, g, *, d_lhs=None, d_rhs=None):
        for target in (d_lhs, d_rhs):
            if target is not None:
                xp.copyto(target, g)

    forward_names, backward_names = Signature(forward), Signature(backward)


def _layout(array):
    if isinstance(array, Blocked):
        return BLOCKED
    if array.ndim < 3 or array.flags.c_contiguous:
        return PLAIN
    assert np.moveaxis(array, 1, -1).flags.c_contiguous
    return NHWC


def scale(data, weight, name="scale"):
    op = Scale()
    op.layouts = []
    return Entry(Node(op, name, inputs=[data, weight]))


def widen(data, weight, name="widen"):
    op = Widen()
    op.layouts = []
    return Entry(Node(op, name, inputs=[data, weight]))


def threshold(data, name="threshold"):
    return Entry(Node(Threshold(), name, inputs=[data]))


def both(lhs, rhs, name="both"):
    return Entry(Node(Both(), name, inputs=[lhs, rhs]))


def values_of(**shapes):
    """Variables and arrays for them."""
    found = {variable(name): RNG.uniform(0.5, 1.5, shape).astype("float32") for name, shape in shapes.items()}
    return list(found), found


def laid_out(heads, values, wrt=()):
    specs = {v.node: Spec(x.shape, x.dtype) for v, x in values.items()}
    return lay_out(trace(heads, specs, [v.node for v in wrt]))


def layouts_of(traced):
    """Layout of every value in order, by the name of its node; copies are marked with a +."""
    made = traced.forward + traced.backward
    return {
        ("+" if node.op.name == "_reorder" else "") + node.name: traced.layouts.get(Entry(node), PLAIN) for node in made
    }


def residual(channels, spatial=(4, 3)):
    """Heads, variables and values of two layers with a sum around them."""
    (x, a, b), values = values_of(x=(2, channels, *spatial), a=(channels,), b=(channels,))
    first = threshold(scale(x, a, "first"), "act")
    return [both(scale(first, b, "second"), first)], (x, a, b), values


@pytest.mark.parametrize(("channels", "layout"), [(32, BLOCKED), (16, BLOCKED), (20, NHWC)])
def test_a_chain_has_one_layout_forward_and_backward(channels, layout):
    heads, variables, values = residual(channels)
    traced = laid_out(heads, values, variables)
    found = layouts_of(traced)
    copies = {name: found.pop(name) for name in list(found) if name.startswith("+")}
    assert copies == {"+x": layout, "+both": PLAIN, "+both_output_grad": layout, "+first_backward": PLAIN}
    assert set(found.values()) == {layout}
    assert traced.heads[0].node.op.name == "_reorder"


@pytest.mark.parametrize("channels", [32, 20])
@pytest.mark.parametrize("spatial", [(4, 3), (5,), (2, 3, 2), (1, 1)])
def test_results_are_those_of_c_order(channels, spatial):
    heads, variables, values = residual(channels, spatial)
    g = RNG.normal(size=values[variables[0]].shape).astype("float32")
    plain, laid = (Bound(heads, values, dict.fromkeys(variables, "write"), layouts=x) for x in (False, True))
    for _ in range(2):
        for got, expected in zip(laid.forward(), plain.forward(), strict=True):
            np.testing.assert_array_equal(got, expected)
        gradients = laid.backward([g])
        for v, expected in plain.backward([g]).items():
            np.testing.assert_allclose(gradients[v], expected, rtol=1e-5)


def test_kernels_get_what_the_chain_has():
    heads, variables, values = residual(16)
    bound = Bound(heads, values, dict.fromkeys(variables, "write"), layouts=True)
    bound.forward()
    bound.backward([1])
    (second,) = [n.op for n in bound.traced.forward if n.name == "second"]
    assert second.layouts == [[BLOCKED, BLOCKED], [BLOCKED, BLOCKED, BLOCKED]]


def test_the_first_layer_reads_few_channels_in_c_order():
    (x, w, a), values = values_of(x=(2, 3, 4, 4), w=(16,), a=(16,))
    first = widen(x, w)
    bound = Bound([scale(first, a)], values, layouts=True)
    bound.forward()
    assert first.node.op.layouts == [[PLAIN, BLOCKED]]
    assert bound.ops("forward") == ["widen", "scale", "_reorder"]


def test_what_cannot_have_blocks_has_channels_last_and_the_rest_has_blocks():
    (x, a, w, b), values = values_of(x=(2, 32, 3, 3), a=(32,), w=(10,), b=(10,))
    found = layouts_of(laid_out([scale(threshold(widen(scale(x, a, "one"), w, "two")), b, "three")], values))
    assert (found["one"], found["two"], found["threshold"], found["three"]) == (BLOCKED, NHWC, NHWC, NHWC)


def test_values_of_one_element_an_image_are_renamed_not_copied():
    heads, variables, values = residual(32, (1, 1))
    bound = Bound([apply("Flatten", heads[0])], values, layouts=True)
    ran = []
    bound.prepared.run("forward", True, ran)
    assert [name for name, _, _ in ran] == ["first", "act", "second", "both"]


def test_renaming_a_strided_argument_is_a_copy_after_all():
    (x, a), values = values_of(x=(2, 32, 1, 1), a=(32,))
    bound = Bound([scale(x, a)], values, layouts=True)
    wide = np.zeros((2, 32, 1, 2), "float32")
    bound.device[bound.of[x]] = wide[..., :1]
    for value in (1, 2):
        wide[:] = value
        np.testing.assert_array_equal(bound.forward()[0].reshape(2, 32), value * np.tile(values[a], (2, 1)))


def test_without_a_layer_that_gains_there_is_no_layout():
    (x,), values = values_of(x=(2, 16, 3))
    traced = laid_out([threshold(threshold(x))], values, [x])
    assert not traced.layouts and all(n.op.name != "_reorder" for n in traced.forward + traced.backward)


def test_what_needs_c_order_gets_a_copy_once():
    (x, a), values = values_of(x=(2, 16, 3), a=(16,))
    out = scale(x, a)
    heads = [apply("sum", out, axis=(1,)), apply("Flatten", out), out]
    traced = laid_out(heads, values)
    assert [n.op.name for n in traced.forward] == ["_reorder", "scale", "_reorder", "sum", "Flatten"]
    bound = Bound(heads, values, layouts=True)
    expected = values[x] * values[a][:, None]
    got = bound.forward()
    np.testing.assert_allclose(got[0], expected.sum(1), rtol=1e-6)
    np.testing.assert_array_equal(got[1], expected.reshape(2, -1))
    np.testing.assert_array_equal(got[2], expected)


def test_other_types_than_float32_stay_in_c_order():
    (x, a), values = values_of(x=(2, 16, 3), a=(16,))
    values = {v: value.astype("float64") for v, value in values.items()}
    assert not laid_out([scale(x, a)], values).layouts


def test_the_given_graph_is_not_changed():
    heads, variables, values = residual(16)
    before = [
        (n, list(n.inputs)) for n in trace(heads, {v.node: Spec(x.shape, x.dtype) for v, x in values.items()}).forward
    ]
    laid_out(heads, values, variables)
    assert all(n.inputs == inputs for n, inputs in before)


def convolution(data, weight, size, name):
    op = make("Convolution", kernel=(size, size), pad=(size // 2, size // 2), num_filter=16, no_bias=True)
    return Entry(Node(op, name, inputs=[data, weight]))


@pytest.mark.parametrize(("sizes", "layout"), [((3, 3), NHWC), ((1, 1), BLOCKED), ((1, 3), NHWC)])
def test_blocks_are_for_what_multiplies_by_single_points(sizes, layout):
    (x, a, b), values = values_of(x=(2, 16, 6, 6), a=(16, 16, sizes[0], sizes[0]), b=(16, 16, sizes[1], sizes[1]))
    heads = [convolution(convolution(x, a, sizes[0], "one"), b, sizes[1], "two")]
    found = layouts_of(laid_out(heads, values, [x, a, b]))
    assert found["one"] == found["two"] == layout


def test_only_layouts_that_the_device_knows_are_given():
    heads, variables, values = residual(16)
    traced = trace(heads, {v.node: Spec(x.shape, x.dtype) for v, x in values.items()})
    assert set(lay_out(traced, (NHWC,)).layouts.values()) == {NHWC}
    assert lay_out(traced, ()) is traced
