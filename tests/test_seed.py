"""The examples that raymx was asked for, as a person types them: what they print is what is expected.

They are transcripts in Python 3 and NumPy 2's way of printing; an expression without output below it is not shown.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import itertools
import json
import textwrap

import fsspec
import numpy as np
import pytest

import raymx as mx
from raymx import storage


def transcript(text: str, **names) -> dict:
    """Run the `>>>` lines of `text` and compare what each prints; returns the names at the end."""
    scope = {"mx": mx, **names}
    for example in doctest.DocTestParser().get_examples(textwrap.dedent(text)):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(example.source, "<transcript>", "single" if example.want else "exec"), scope)
        assert printed.getvalue() == example.want, f">>> {example.source}"
    return scope


# ---- NDArray ----


@pytest.mark.ray
def test_arrays_on_devices():
    transcript("""
        >>> import raymx as mx
        >>> a = mx.nd.empty((2, 3))
        >>> b = mx.nd.empty((2, 3), mx.gpu())
        >>> c = mx.nd.empty((2, 3), mx.gpu(2))
        >>> c.shape
        (2, 3)
        >>> c.context
        gpu(2)
        >>> b.context
        gpu(0)
    """)


def test_other_ways_to_begin():
    transcript("""
        >>> a = mx.nd.zeros((2, 3))
        >>> b = mx.nd.ones((2, 3))
        >>> b[:] = 2
        >>> print(a.asnumpy())
        [[0. 0. 0.]
         [0. 0. 0.]]
        >>> print(b.asnumpy())
        [[2. 2. 2.]
         [2. 2. 2.]]
    """)


@pytest.mark.ray
def test_copies_between_devices():
    transcript("""
        >>> a = mx.nd.ones((2, 3))
        >>> b = mx.nd.zeros((2, 3), mx.gpu())
        >>> a.copyto(b)
        >>> print(b.asnumpy())
        [[1. 1. 1.]
         [1. 1. 1.]]
        >>> b.context
        gpu(0)
    """)


def test_to_numpy():
    transcript("""
        >>> a = mx.nd.ones((2, 3))
        >>> b = a.asnumpy()
        >>> type(b)
        <class 'numpy.ndarray'>
        >>> print(b)
        [[1. 1. 1.]
         [1. 1. 1.]]
    """)


def test_from_numpy():
    np.random.seed(0)
    transcript("""
        >>> import numpy as np
        >>> a = mx.nd.empty((2, 3))
        >>> a[:] = np.random.uniform(-0.1, 0.1, a.shape)
        >>> print(a.asnumpy())
        [[ 0.0097627   0.04303787  0.02055267]
         [ 0.00897664 -0.01526904  0.02917882]]
    """)


def test_arithmetic():
    transcript("""
        >>> a = mx.nd.ones((2, 3)) * 2
        >>> b = mx.nd.ones((2, 3)) * 4
        >>> print(b.asnumpy())
        [[4. 4. 4.]
         [4. 4. 4.]]
        >>> c = a + b
        >>> print(c.asnumpy())
        [[6. 6. 6.]
         [6. 6. 6.]]
        >>> d = a * b
        >>> print(d.asnumpy())
        [[8. 8. 8.]
         [8. 8. 8.]]
    """)


@pytest.mark.ray
def test_arithmetic_needs_one_device():
    transcript("""
        >>> a = mx.nd.ones((2, 3)) * 2
        >>> b = mx.nd.ones((2, 3), mx.gpu()) * 3
        >>> c = a.copyto(mx.gpu()) * b
        >>> print(c.asnumpy())
        [[6. 6. 6.]
         [6. 6. 6.]]
    """)
    with pytest.raises(mx.MXNetError, match=r"cpu\(0\).*gpu\(0\)|gpu\(0\).*cpu\(0\)"):
        mx.nd.ones((2, 3)) * mx.nd.ones((2, 3), mx.gpu())


def test_pickle():
    transcript("""
        >>> import raymx as mx
        >>> import pickle as pkl
        >>> a = mx.nd.ones((2, 3)) * 2
        >>> data = pkl.dumps(a)
        >>> b = pkl.loads(data)
        >>> print(b.asnumpy())
        [[2. 2. 2.]
         [2. 2. 2.]]
    """)


def test_save_and_load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    transcript("""
        >>> a = mx.nd.ones((2,3))*2
        >>> b = mx.nd.ones((2,3))*3
        >>> mx.nd.save('mydata.bin', [a, b])
        >>> c = mx.nd.load('mydata.bin')
        >>> print(c[0].asnumpy())
        [[2. 2. 2.]
         [2. 2. 2.]]
        >>> print(c[1].asnumpy())
        [[3. 3. 3.]
         [3. 3. 3.]]
    """)


def test_save_to_clouds_as_written(monkeypatch):
    """`s3://` and `hdfs///` (sic), with a file system in memory in the place of both clouds."""
    memory = fsspec.filesystem("memory")
    monkeypatch.setattr(storage, "_filesystem", lambda url: (memory, f"/{url}"))
    transcript("""
        >>> a = mx.nd.ones((2,3))*2
        >>> b = mx.nd.ones((2,3))*3
        >>> mx.nd.save('s3://mybucket/mydata.bin', [a,b])
        >>> mx.nd.save('hdfs///users/myname/mydata.bin', [a,b])
        >>> for url in ('s3://mybucket/mydata.bin', 'hdfs:///users/myname/mydata.bin'):
        ...     print([x.asnumpy().mean().item() for x in mx.nd.load(url)])
        [2.0, 3.0]
        [2.0, 3.0]
    """)


def test_save_to_a_url():
    transcript("""
        >>> a = mx.nd.ones((2,3))*2
        >>> b = mx.nd.ones((2,3))*3
        >>> mx.nd.save('memory://seed/mydata.bin', [a,b])
        >>> print(mx.nd.load('memory://seed/mydata.bin')[1].asnumpy())
        [[3. 3. 3.]
         [3. 3. 3.]]
    """)


# ---- operations run in parallel ----

PARALLEL = """
    >>> a = mx.nd.ones((2,3){a})
    >>> b = a
    >>> c = a.copyto({c})
    >>> a += 1
    >>> b *= 3
    >>> c *= 3
    >>> print(a.asnumpy())
    [[6. 6. 6.]
     [6. 6. 6.]]
    >>> b is a
    True
    >>> print(c.asnumpy())
    [[3. 3. 3.]
     [3. 3. 3.]]
"""


def test_in_place_operations():
    transcript(PARALLEL.format(a="", c="mx.cpu()"))


@pytest.mark.ray
def test_in_place_operations_on_two_devices():
    transcript(PARALLEL.format(a=", mx.gpu(0)", c="mx.cpu()"))
    transcript(PARALLEL.format(a=", mx.gpu(0)", c="mx.gpu(1)"))


@pytest.mark.ray
def test_the_trace_shows_that_two_devices_work_at_once(tmp_path):
    path = tmp_path / "trace.json"
    first, second = mx.cpu(6), mx.cpu(7)  # not used elsewhere: a device traces from its start or never
    with mx.config.using(trace=str(path)):
        a = mx.nd.ones((4000, 1000), first)
        b = a
        c = a.copyto(second)
        mx.nd.waitall()
        for _ in range(10):
            a += 1
            b *= 3
            c *= 3
        mx.nd.waitall()
        mx.trace.write()
    rows = rows_of(json.loads(path.read_text())["traceEvents"])
    of_a_and_b, of_c = rows[str(first)], rows[str(second)]
    assert len(of_a_and_b) >= 20 and len(of_c) >= 10
    assert any(overlap(task, other) for task in of_a_and_b for other in of_c)
    for row in (of_a_and_b, of_c):  # on one device, one task at a time
        assert not any(overlap(task, other) for task, other in itertools.combinations(row, 2))


def overlap(task: tuple[float, float], other: tuple[float, float]) -> bool:
    return task[0] < other[1] and other[0] < task[1]


def rows_of(events: list[dict]) -> dict[str, list[tuple[float, float]]]:
    """Device → (start, end) of its tasks in microseconds, in order."""
    names = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in names.values()}
    for event in events:
        if event["ph"] == "X":
            rows[names[event["tid"]]].append((event["ts"], event["ts"] + event["dur"]))
    return {name: sorted(row) for name, row in rows.items()}


# ---- Symbol ----


def test_a_perceptron_of_two_layers():
    transcript("""
        >>> import raymx as mx
        >>> net = mx.symbol.Variable('data')
        >>> net = mx.symbol.FullyConnected(data=net, name='fc1', num_hidden=128)
        >>> net = mx.symbol.Activation(data=net, name='relu1', act_type="relu")
        >>> net = mx.symbol.FullyConnected(data=net, name='fc2', num_hidden=64)
        >>> net = mx.symbol.SoftmaxOutput(data=net, name='out')
        >>> type(net)
        <class 'raymx.symbol.Symbol'>
        >>> net.list_arguments()
        ['data', 'fc1_weight', 'fc1_bias', 'fc2_weight', 'fc2_bias', 'out_label']
    """)


def test_named_parameters():
    transcript("""
        >>> net = mx.symbol.Variable('data')
        >>> w = mx.symbol.Variable('myweight')
        >>> net = mx.symbol.FullyConnected(data=net, weight=w, name='fc1', num_hidden=128)
        >>> net.list_arguments()
        ['data', 'myweight', 'fc1_bias']
    """)


def test_symbols_combine():
    transcript("""
        >>> lhs = mx.symbol.Variable('data1')
        >>> rhs = mx.symbol.Variable('data2')
        >>> net = mx.symbol.FullyConnected(data=lhs + rhs, name='fc1', num_hidden=128)
        >>> net.list_arguments()
        ['data1', 'data2', 'fc1_weight', 'fc1_bias']
    """)


def test_symbols_compose():
    transcript("""
        >>> net = mx.symbol.Variable('data')
        >>> net = mx.symbol.FullyConnected(data=net, name='fc1', num_hidden=128)
        >>> net2 = mx.symbol.Variable('data2')
        >>> net2 = mx.symbol.FullyConnected(data=net2, name='net2', num_hidden=128)
        >>> composed_net = net(data=net2, name='compose')
        >>> composed_net.list_arguments()
        ['data2', 'net2_weight', 'net2_bias', 'compose_fc1_weight', 'compose_fc1_bias']
    """)


def test_shape_inference():
    transcript("""
        >>> net = mx.symbol.Variable('data')
        >>> net = mx.symbol.FullyConnected(data=net, name='fc1', num_hidden=10)
        >>> arg_shape, out_shape, aux_shape = net.infer_shape(data=(100, 100))
        >>> dict(zip(net.list_arguments(), arg_shape))
        {'data': (100, 100), 'fc1_weight': (10, 100), 'fc1_bias': (10,)}
        >>> out_shape
        [(100, 10)]
    """)


def test_bind_and_forward():
    transcript("""
        >>> A = mx.symbol.Variable('A')
        >>> B = mx.symbol.Variable('B')
        >>> C = A * B
        >>> a = mx.nd.ones(3) * 4
        >>> b = mx.nd.ones(3) * 2
        >>> c_exec = C.bind(ctx=mx.cpu(), args={'A' : a, 'B': b})
        >>> c_exec.forward()
        >>> c_exec.outputs[0].asnumpy()
        array([8., 8., 8.], dtype=float32)
    """)


# ---- KVStore ----


@pytest.mark.ray
def test_kvstore():
    transcript("""
        >>> kv = mx.kv.create('local')
        >>> shape = (2,3)
        >>> kv.init(3, mx.nd.ones(shape)*2)
        >>> a = mx.nd.zeros(shape)
        >>> kv.pull(3, out = a)
        >>> print(a.asnumpy())
        [[2. 2. 2.]
         [2. 2. 2.]]

        >>> kv.push(3, mx.nd.ones(shape)*8)
        >>> kv.pull(3, out = a)
        >>> print(a.asnumpy())
        [[8. 8. 8.]
         [8. 8. 8.]]

        >>> gpus = [mx.gpu(i) for i in range(4)]
        >>> b = [mx.nd.ones(shape, gpu) for gpu in gpus]
        >>> kv.push(3, b)
        >>> kv.pull(3, out = a)
        >>> print(a.asnumpy())
        [[4. 4. 4.]
         [4. 4. 4.]]

        >>> def update(key, input, stored):
        ...     print("update on key: %d" % key)
        ...     stored += input * 2
        >>> kv._set_updater(update)
        >>> kv.pull(3, out=a)
        >>> print(a.asnumpy())
        [[4. 4. 4.]
         [4. 4. 4.]]
        >>> kv.push(3, mx.nd.ones(shape))
        update on key: 3
        >>> kv.pull(3, out=a)
        >>> print(a.asnumpy())
        [[6. 6. 6.]
         [6. 6. 6.]]

        >>> b = [mx.nd.ones(shape, gpu) for gpu in gpus]
        >>> kv.pull(3, out = b)
        >>> print(b[1].asnumpy())
        [[6. 6. 6.]
         [6. 6. 6.]]

        >>> keys = [5, 7, 9]
        >>> kv.init(keys, [mx.nd.ones(shape)]*len(keys))
        >>> kv.push(keys, [mx.nd.ones(shape)]*len(keys))
        update on key: 5
        update on key: 7
        update on key: 9
        >>> b = [mx.nd.zeros(shape)]*len(keys)
        >>> kv.pull(keys, out = b)
        >>> print(b[1].asnumpy())
        [[3. 3. 3.]
         [3. 3. 3.]]

        >>> b = [[mx.nd.ones(shape, gpu) for gpu in gpus]] * len(keys)
        >>> kv.push(keys, b)
        update on key: 5
        update on key: 7
        update on key: 9
        >>> kv.pull(keys, out = b)
        >>> print(b[1][1].asnumpy())
        [[11. 11. 11.]
         [11. 11. 11.]]
    """)


# ---- linear regression ----

REGRESSION = """
    >>> import raymx as mx
    >>> import numpy as np
    >>> import matplotlib.pyplot as plt

    >>> X_data = np.linspace(-1, 1, 100)
    >>> noise = np.random.normal(0, 0.5, 100)
    >>> y_data = 5 * X_data + noise

    >>> fig = plt.figure()
    >>> ax = fig.add_subplot(1, 1, 1)
    >>> ax.scatter(X_data, y_data)

    >>> X = mx.symbol.Variable('data')
    >>> Y = mx.symbol.Variable('softmax_label')

    >>> Y_ = mx.symbol.FullyConnected(data=X, num_hidden=1, name='pre')
    >>> loss = mx.symbol.LinearRegressionOutput(data=Y_, label=Y, name='loss')

    >>> model = mx.model.FeedForward(
    ...     ctx=mx.cpu(),
    ...     symbol=loss,
    ...     num_epoch=100,
    ...     learning_rate=0.001,
    ...     numpy_batch_size=1
    ... )

    >>> model.fit(X=X_data, y=y_data)

    >>> prediction = model.predict(X_data)
    >>> lines = ax.plot(X_data, prediction, 'r-', lw=5)
    >>> plt.show()
"""


def test_linear_regression(monkeypatch):
    from matplotlib import pyplot as plt

    np.random.seed(0)
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    try:
        names = transcript(REGRESSION)
        assert shown == [names["fig"]]
        np.testing.assert_array_equal(names["lines"][0].get_ydata(), names["prediction"].ravel())
    finally:
        plt.close("all")
    assert names["prediction"].shape == (100, 1)
    slope, _ = np.polyfit(names["X_data"], names["prediction"].ravel(), 1)
    assert slope == pytest.approx(5, abs=0.6)
    assert names["model"].arg_params["pre_weight"].asnumpy().item() == pytest.approx(slope, rel=1e-4)
