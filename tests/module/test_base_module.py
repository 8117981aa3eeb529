"""BaseModule: a subclass that defines the steps can be trained; what it leaves out is named."""

import pytest

import raymx as mx


class Counter(mx.mod.BaseModule):
    """Learns nothing, and counts what is asked of it."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def bind(self, data_shapes, label_shapes=None, for_training=True, *args, **kwargs):
        self.binded, self.for_training = True, for_training

    def init_params(self, *args, **kwargs):
        self.params_initialized = True

    def init_optimizer(self, *args, **kwargs):
        self.optimizer_initialized = True

    def forward(self, data_batch, is_train=None):
        self.calls.append(f"forward {is_train}")

    def backward(self, out_grads=None):
        self.calls.append("backward")

    def update(self):
        self.calls.append("update")

    def update_metric(self, eval_metric, labels, pre_sliced=False):
        eval_metric.update(labels, labels)


def test_the_loop_runs_whatever_defines_the_steps():
    module, data = Counter(), mx.io.NDArrayIter(mx.nd.ones((4, 1)), mx.nd.ones((4,)), 2)
    seen = []
    module.fit(data, num_epoch=1, batch_end_callback=lambda p: seen.append(p.eval_metric.get()))
    assert module.calls == ["forward True", "backward", "update"] * 2
    assert seen == [("accuracy", 1.0)] * 2
    assert module.score(data, "acc") == [("accuracy", 1.0)]
    assert module.calls[-1] == "forward False"


@pytest.mark.parametrize("what", ["bind", "forward", "update", "get_outputs", "get_params"])
def test_what_a_subclass_leaves_out_is_named(what):
    arguments = {"bind": ([],), "forward": (None,)}.get(what, ())
    with pytest.raises(NotImplementedError, match=f"BaseModule must define {what}"):
        getattr(mx.mod.BaseModule(), what)(*arguments)
