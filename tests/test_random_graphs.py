"""Random symbols bound in every way: recomputed, fused, spread over devices, on shared and reshaped memory. Outputs and
gradients are those of plain evaluation, every value in an array of its own."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import raymx as mx
from raymx import config
from raymx.graph.node import topological
from raymx.graph.recompute import MODES
from raymx.symbol import Symbol
from tests import devices
from tests.graph.build import evaluate
from tests.graph.test_compile import array, expected_gradients, graphs

GROUPS = {"a": mx.cpu(1), "b": mx.cpu(2)}


class Case:
    """One symbol, bound over values of its own."""

    def __init__(self, graph, mode, groups, shared=None):
        heads, shapes = graph
        self.heads, symbol = heads, Symbol(list(heads))
        used = set(topological(list(heads)))
        self.values = {v: array(*shape) - 0.5 for v, shape in shapes.items() if v.node in used}
        args = {v.node.name: mx.nd.array(x, dtype="float64") for v, x in self.values.items()}
        self.grads = {name: mx.nd.full(x.shape, 7, dtype="float64") for name, x in args.items()}
        with config.using(recompute=mode):
            self.exe = symbol.bind(
                mx.cpu(), args, self.grads, "write", group2ctx=groups, shared_exec=shared and shared.exe
            )

    def check(self, passes: int) -> None:
        """Run forward so many times and backward once, and compare."""
        for _ in range(passes):
            outputs = self.exe.forward(is_train=True)
        expected = evaluate(self.heads, self.values, True)
        for output, value in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(output.asnumpy(), value, rtol=1e-12)
        if self.grads:
            given = [array(*x.shape) for x in outputs]
            self.exe.backward([mx.nd.array(g, dtype="float64") for g in given])
            for v, value in expected_gradients(self.heads, self.values, given).items():
                np.testing.assert_allclose(self.grads[v.node.name].asnumpy(), value, rtol=1e-9, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(graphs(), graphs(), st.data())
def test_two_random_symbols_share_their_memory(first, second, data):
    """They run in turns: each overwrites what the other left, but never what is read again."""
    modes = [data.draw(st.sampled_from(MODES)) for _ in range(2)]
    placed = data.draw(st.booleans())
    for heads, _ in (first, second):
        for node in topological(list(heads)):
            if node.op and placed and data.draw(st.booleans()):
                node.attrs["ctx_group"] = data.draw(st.sampled_from("ab"))
    with devices.in_this_process(data.draw(st.integers(0, 99))):
        groups = GROUPS if placed else None
        large = Case(first, modes[0], groups)
        small = Case(second, modes[1], groups, large)
        for _ in range(2):
            for case in (large, small):
                case.check(data.draw(st.integers(1, 2)))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.sampled_from(MODES))
def test_reshaped_executors_run_in_turns(rows, mode):
    """Smaller, larger and equal batches on one memory, as buckets do."""
    net = mx.sym.Variable("data")
    for i in range(4):
        net = mx.sym.Activation(mx.sym.FullyConnected(net, num_hidden=5, name=f"fc{i}"), act_type="tanh")
    net = mx.sym.SoftmaxOutput(net, name="softmax")
    with config.using(recompute=mode):
        exe = net.simple_bind(mx.cpu(), data=(5, 3))
        for each in exe.arg_arrays:
            each[:] = array(*each.shape) - 1
        bound = [exe.reshape(allow_up_sizing=True, data=(n, 3), softmax_label=(n,)) for n in rows]
        for each in (*bound, exe, *bound):
            n = each.arg_dict["data"].shape[0]
            fresh = net.simple_bind(mx.cpu(), data=(n, 3))
            given_data, labels = array(n, 3), np.arange(n) % 5
            for executor in (each, fresh):
                executor.copy_params_from({k: v for k, v in exe.arg_dict.items() if k.startswith("fc")})
                executor.forward(is_train=True, data=given_data, softmax_label=labels)
                executor.backward()
            for name in fresh.grad_dict:
                np.testing.assert_array_equal(each.grad_dict[name].asnumpy(), fresh.grad_dict[name].asnumpy())
