"""BucketingModule: networks of several lengths learn one set of parameters in one memory."""

import numpy as np
import pytest

import raymx as mx
from raymx.errors import BindError, ParameterError

WIDTH = 4
rng = np.random.RandomState(0)


def sym_gen(length):
    net = mx.sym.Variable("data")
    weight, bias = mx.sym.Variable("step_weight"), mx.sym.Variable("step_bias")
    for i in range(length):
        net = mx.sym.FullyConnected(net, weight, bias, num_hidden=WIDTH, name=f"step{i}")
        net = mx.sym.Activation(net, act_type="tanh", name=f"tanh{i}")
    return mx.sym.SoftmaxOutput(net, name="softmax"), ("data",), ("softmax_label",)


class Buckets(mx.io.DataIter):
    """Batches of 6 samples, by turns for networks of these lengths."""

    default_bucket_key = 4
    provide_data, provide_label = [("data", (6, WIDTH))], [("softmax_label", (6,))]

    def __init__(self, keys=(1, 4, 2, 1, 4)):
        super().__init__(6)
        self.keys, self.at = keys, 0

    def reset(self):
        self.at = 0

    def next(self):
        if self.at == len(self.keys):
            raise StopIteration
        self.at += 1
        x = np.random.RandomState(self.at).randn(6, WIDTH).astype("float32")
        return mx.io.DataBatch([mx.nd.array(x)], [mx.nd.array(x.argmax(axis=1))], 0, None, self.keys[self.at - 1],
                               self.provide_data, self.provide_label)  # fmt: skip


def bound(context=None):
    module = mx.mod.BucketingModule(sym_gen, 4, context=context)
    module.bind(Buckets.provide_data, Buckets.provide_label)
    mx.random.seed(0)
    module.init_params(mx.init.Xavier())
    return module


@pytest.mark.parametrize("context", [None, [mx.cpu()] * 2])
def test_buckets_learn_one_set_of_parameters(context):
    module, data = mx.mod.BucketingModule(sym_gen, 4, context=context), Buckets()
    mx.random.seed(0)
    module.fit(data, num_epoch=60, initializer=mx.init.Xavier(), eval_data=Buckets((1, 2)),
               optimizer_params={"learning_rate": 0.2})  # fmt: skip
    assert sorted(module._buckets) == [1, 2, 4]
    assert dict(module.score(data, "acc"))["accuracy"] > 0.8
    arrays = [m._exec_group.param_arrays[0][0] for m in module._buckets.values()]
    assert arrays[0] is arrays[1] is arrays[2]


def test_buckets_use_the_memory_of_the_largest():
    module = bound()
    for key in (1, 2):
        module.switch_bucket(key, Buckets.provide_data, Buckets.provide_label)
    arenas = [m._exec_group.execs[0]._loaded[0].arena for m in module._buckets.values()]
    assert arenas[0] is arenas[1] is arenas[2]
    data = [m._exec_group.execs[0].arg_dict["data"] for m in module._buckets.values()]
    assert data[0] is data[1] is data[2]
    before = module._buckets[4]._total_exec_bytes
    del module._buckets[2]
    module.switch_bucket(2, Buckets.provide_data, Buckets.provide_label)
    assert module._buckets[4]._total_exec_bytes == before


def test_what_a_small_bucket_learns_the_others_know():
    module = bound()
    module.init_optimizer(optimizer_params={"learning_rate": 0.5})
    before = module.get_params()[0]["step_weight"].asnumpy()
    batch = Buckets().next()
    assert batch.bucket_key == 1
    module.prepare(batch)
    assert module._curr_bucket_key == 4
    module.forward_backward(batch)
    module.update()
    assert module._curr_bucket_key == 1
    assert (module.get_params()[0]["step_weight"].asnumpy() != before).any()
    assert module.symbol.list_outputs() == ["softmax_output"]
    assert (module.data_names, module.output_shapes) == (["data"], [("softmax_output", (6, WIDTH))])


def test_checkpoints(tmp_path):
    module = bound()
    module.init_optimizer(optimizer_params={"learning_rate": 0.1, "momentum": 0.9})
    for batch in Buckets():
        module.forward_backward(batch)
        module.update()
    module.save_checkpoint(tmp_path / "net", 1, save_optimizer_states=True)
    other = mx.mod.BucketingModule.load(tmp_path / "net", 1, sym_gen, 4, load_optimizer_states=True)
    other.bind(Buckets.provide_data, Buckets.provide_label)
    other.init_optimizer(optimizer_params={"learning_rate": 0.1, "momentum": 0.9})
    for each in (module, other):
        each.forward_backward(Buckets().next())
        each.update()
    one, two = (m.get_params()[0] for m in (module, other))
    for name, value in one.items():
        np.testing.assert_array_equal(value.asnumpy(), two[name].asnumpy())


def test_a_monitor_watches_buckets_to_come():
    module, monitor = bound(), mx.mon.Monitor(1, pattern="softmax_output")
    module.install_monitor(monitor)
    monitor.tic()
    module.forward(Buckets((2,)).next(), is_train=False)
    assert [name for _, name, _ in monitor.toc()] == ["softmax_output"]


def test_refusals():
    with pytest.raises(ParameterError, match="default_bucket_key is missing"):
        mx.mod.BucketingModule(sym_gen)
    with pytest.raises(ParameterError, match=r"sym_gen must return \(symbol, data names, label names\), got None"):
        mx.mod.BucketingModule(lambda key: None, 1).bind([("data", (1, 1))])
    module = mx.mod.BucketingModule(sym_gen, 4)
    with pytest.raises(BindError, match="the module has no memory yet"):
        module.forward(Buckets().next())
    module.bind(Buckets.provide_data, Buckets.provide_label)
    with pytest.raises(BindError, match=r"call init_params\(\) first; networks share"):
        module.switch_bucket(1, Buckets.provide_data)
    with pytest.raises(BindError, match="cannot share another module's memory"):
        mx.mod.BucketingModule(sym_gen, 4).bind(Buckets.provide_data, shared_module=module)


def test_a_parameter_of_one_bucket_only_is_named_when_it_is_needed():
    def named(key):
        net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=WIDTH, name=f"fc{key}")
        return mx.sym.SoftmaxOutput(net, name="softmax"), ("data",), ("softmax_label",)

    module = mx.mod.BucketingModule(named, 4)
    module.bind(Buckets.provide_data, Buckets.provide_label)
    module.init_params()
    module.switch_bucket(1, Buckets.provide_data, Buckets.provide_label)
    with pytest.raises(BindError, match="has the parameter 'fc1_weight', which the first symbol does not; did"):
        module.forward(Buckets().next())
