"""PythonModule and PythonLossModule: what they pass on, and what they refuse."""

import numpy as np
import pytest

import raymx as mx
from raymx.errors import BindError, ParameterError


def bound(**options):
    module = mx.mod.PythonLossModule(grad_func=lambda scores, labels: scores.asnumpy() * 2)
    module.bind([("data", (2, 3))], [("softmax_label", (2,))], **options)
    module.init_params()
    module.init_optimizer()
    return module


BATCH = mx.io.DataBatch([mx.nd.ones((2, 3))], [mx.nd.array([0, 1])])


def test_a_loss_puts_out_its_data_and_takes_its_gradient_from_a_function():
    module = bound()
    assert [tuple(d) for d in module.data_shapes] == [("data", (2, 3))]
    assert module.output_shapes == [("pyloss_output", (2, 3))]
    assert module.output_names == ["pyloss_output"]
    module.forward_backward(BATCH)
    module.update()
    assert module.get_outputs() == [BATCH.data[0]]
    assert (module.get_input_grads()[0].asnumpy() == 2).all()
    assert module.get_params() == ({}, {})
    metric = mx.metric.create("acc")
    module.update_metric(metric, BATCH.label)
    assert metric.num_inst == 2


def test_a_subclass_may_compute_the_gradient():
    class Mine(mx.mod.PythonLossModule):
        def _backward_impl(self):
            self._scores_grad = mx.nd.array(np.full((2, 3), 5.0))

    module = Mine()
    module.bind([("data", (2, 3))], [("softmax_label", (2,))])
    module.forward_backward(BATCH)
    assert (module.get_input_grads()[0].asnumpy() == 5).all()


def test_without_labels_metrics_pass_by():
    module = mx.mod.PythonLossModule()
    module.bind([("data", (2, 3))], for_training=False)
    module.forward(BATCH)
    metric = mx.metric.create("acc")
    module.update_metric(metric, [])
    assert metric.num_inst == 0
    with pytest.raises(BindError, match="for_training=False"):
        module.backward()


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda: bound(grad_req="add"), BindError, "grad_req must be 'write', got 'add'"),
        (lambda: bound().backward([1]), ParameterError, "a loss takes no out_grads"),
        (lambda: bound().get_outputs(merge_multi_context=False), ParameterError, "merge_multi_context must be True"),
        (lambda: mx.mod.PythonLossModule(data_names=("a", "b")), ParameterError, "needs one data name and one label"),
        (lambda: mx.mod.PythonLossModule(grad_func=3), ParameterError, "grad_func must be a function, got 3"),
        (lambda: mx.mod.PythonModule(["a"], [], ["o"]).bind([("b", (1,))]), BindError, "data_shapes has 'b'"),
        (lambda: mx.mod.PythonModule(["a"], [], ["o"]).bind([("a", (1,))]), NotImplementedError,
         "PythonModule must define _compute_output_shapes"),
    ],
)  # fmt: skip
def test_refusals(act, error, text):
    with pytest.raises(error, match=text):
        act()
