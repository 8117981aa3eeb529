"""Products with one weight are one product, where none needs the result of another."""

from __future__ import annotations

import numpy as np
import pytest

from raymx.graph.batch import batch
from raymx.graph.compile import Spec, trace
from raymx.graph.node import Entry, topological
from tests.graph.build import apply, others, variable
from tests.graph.run import Bound

STEPS = 5
RNG = np.random.default_rng(0)
weight, bias, state_weight, first = map(variable, ("weight", "bias", "state_weight", "first"))
SHARED = {weight: RNG.random((6, 4)), bias: RNG.random(6), state_weight: RNG.random((6, 6)), first: RNG.random((3, 6))}


def product(data, number):
    return apply("FullyConnected", data, weight, bias, num_hidden=6, name=f"i2h{number}")


def recurrent(steps):
    """The states of a plain recurrent network over the inputs in `steps`."""
    state, states = first, []
    for number, data in enumerate(steps):
        own = apply("FullyConnected", state, state_weight, num_hidden=6, no_bias=True, name=f"h2h{number}")
        state = apply("Activation", apply("_plus", product(data, number), own, name=f"sum{number}"), act_type="tanh",
                      name=f"h{number}")  # fmt: skip
        states.append(state)
    return states


def cut(data, axis, squeeze=True):
    return others(apply("SliceChannel", data, num_outputs=STEPS, axis=axis, squeeze_axis=squeeze, name="cut"))


def batched(heads, values):
    specs = {v.node: Spec(x.shape, x.dtype) for v, x in values.items()}
    traced = trace(heads, specs, [v.node for v in values], "none", batch)
    return traced, [node.op.name for node in traced.forward]


data = variable("data")
separate = [variable(f"data{i}") for i in range(STEPS)]
INPUTS = {
    "separate": (separate, {v: RNG.random((3, 4)) for v in separate}),
    "TNC": (cut(data, 0), {data: RNG.random((STEPS, 3, 4))}),
    "NTC": (cut(data, 1), {data: RNG.random((3, STEPS, 4))}),
    "rows": (cut(data, 0, squeeze=False), {data: RNG.random((STEPS * 3, 4))}),
}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("joined", [False, True])
def test_same_values_and_gradients(kind, joined):
    steps, inputs = INPUTS[kind]
    values = {**inputs, **SHARED}
    states = recurrent(steps)
    heads = [apply("Concat", *states, num_args=STEPS, dim=0)] if joined else states
    _, ops = batched(heads, values)
    assert ops.count("FullyConnected") == 1 + STEPS  # one for all inputs, and one in each step for the state
    plain, new = (Bound(heads, values, dict.fromkeys(values, "write"), simplify=s) for s in (None, batch))
    head_grads = [RNG.random(new.traced.specs[h].shape) for h in new.traced.heads]
    for expected, got in zip(plain.forward(), new.forward(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    expected, got = plain.backward(head_grads), new.backward(head_grads)
    for name in values:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-12, err_msg=name.node.name)


def test_the_layer_above_waits_for_the_one_below():
    above = variable("above")
    states = recurrent(separate)
    outs = [apply("FullyConnected", h, above, num_hidden=2, no_bias=True, name=f"out{i}") for i, h in enumerate(states)]
    values = {**INPUTS["separate"][1], **SHARED, above: RNG.random((2, 6))}
    traced, ops = batched(outs, values)
    assert ops.count("FullyConnected") == 2 + STEPS
    names = [node.name for node in traced.forward if node.op.name == "FullyConnected"]
    assert names[-1] == "out0...out4"


def test_values_are_made_side_by_side():
    above = variable("above")
    outs = [apply("FullyConnected", h, above, num_hidden=2, no_bias=True, name="out") for h in recurrent(separate)]
    values = {**INPUTS["separate"][1], **SHARED, above: RNG.random((2, 6))}
    bound = Bound(outs, values, {weight: "write", above: "write"}, simplify=batch)
    assert bound.ops("forward").count("Concat") == 1  # of the inputs, which are the user's arrays
    assert "SliceChannel" not in bound.ops("forward")


def test_what_stays_as_it_is():
    few = [product(d, i) for i, d in enumerate(separate[:3])]
    large = [product(variable(f"large{i}"), i) for i in range(STEPS)]
    chain = recurrent([separate[0]])
    for heads, shape in ((few, (3, 4)), (large, (300, 4)), (chain, (3, 4))):
        order = topological(heads)
        given = {Entry(n): Spec(shape, np.dtype("float64")) for n in order if n.op is None}
        given |= {v: Spec(x.shape, x.dtype) for v, x in SHARED.items()}
        traced = trace(heads, {e.node: spec for e, spec in given.items()})
        assert batch(heads, traced.specs)[0] == heads


def test_the_given_graph_stays_as_it_is():
    heads = [product(d, i) for i, d in enumerate(separate)]
    before = [list(node.inputs) for node in topological(heads)]
    batched(heads, {**INPUTS["separate"][1], **SHARED})
    assert [list(node.inputs) for node in topological(heads)] == before
