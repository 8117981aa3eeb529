"""Gradients of a weight that is used in many steps are added up where they lie."""

from __future__ import annotations

import numpy as np
import pytest

from raymx.graph.compile import Spec, trace
from raymx.graph.gradient import differentiate, head_gradients
from tests.graph.build import apply, evaluate, variable
from tests.graph.run import Bound

STEPS = 5
data, weight, bias = variable("data"), variable("weight"), variable("bias")
RNG = np.random.default_rng(0)
VALUES = {data: RNG.random((4, 6)), weight: RNG.random((6, 6)), bias: RNG.random(6)}


def chain():
    out = data
    for step in range(STEPS):
        out = apply("Activation", apply("FullyConnected", out, weight, bias, num_hidden=6, name=f"fc{step}"),
                    act_type="tanh", name=f"act{step}")  # fmt: skip
    return out


def expected(head, head_grad):
    gradients = differentiate([head], [weight.node, bias.node], head_gradients([head]))
    incoming = next(e for n in gradients.nodes for e in n.inputs if e.node.op is None and e.node.name.endswith("_grad"))
    return evaluate([gradients.of[weight.node], gradients.of[bias.node]], {**VALUES, incoming: head_grad}, True)


@pytest.mark.parametrize("req", ["write", "add"])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("strided", [(), (weight,)])
def test_same_gradients_without_a_sum(req, keep, strided):
    head, head_grad = chain(), RNG.random((4, 6))
    bound = Bound([head], VALUES, {weight: req, bias: "write"}, strided=strided, keep=keep)
    assert "ElementWiseSum" not in bound.ops("backward")
    for times in (1, 2):
        bound.forward()
        got = bound.backward([head_grad])
        d_weight, d_bias = expected(head, head_grad)
        np.testing.assert_allclose(got[weight], 7 + times * d_weight if req == "add" else d_weight, rtol=1e-12)
        np.testing.assert_allclose(got[bias], d_bias, rtol=1e-12)


def test_memory_does_not_grow_with_the_steps():
    bound = Bound([chain()], VALUES, {weight: "write", bias: "write"})
    sizes = [slot.array is None and slot.shape == (6, 6) for slot in bound.program.slots]
    offsets = {slot.offset for slot, wide in zip(bound.program.slots, sizes, strict=True) if wide}
    assert len(offsets) == 1  # only the term that NumPy adds; the sum itself lies in the gradient's array


def test_other_sums_stay():
    specs = {v.node: Spec(x.shape, x.dtype) for v, x in VALUES.items()}
    traced = trace([apply("_plus", chain(), data)], specs, [data.node])
    assert [n.op.name for n in traced.backward].count("ElementWiseSum") == 1
