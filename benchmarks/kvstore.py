"""Rounds of a distributed store with 2 workers and 2 shards (ps-lite: servers), all on this machine; and a local push.

A round is a push, a pull and the wait for what was pulled, by both workers at once, without an optimizer. MXNet's
scheduler, servers and workers are processes that this script starts, with the variables that ps-lite reads; raymx's
are a job of `mx.launch`. Both run the function `member` here, which does a round when it is told to.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import tempfile
import threading
from multiprocessing.connection import Client, Listener

import models
from harness import Bar, Benchmark, main, seconds

WORKERS = SERVERS = 2
LOCAL_VALUES = 4
LARGE, MODEL, LOCAL = "one large array", "ResNet-20's keys", "local push and pull"
KEPT = " with a replica"
groups: list[Group] = []  # that are running


# ---- a worker of either system ----


def member(mx, address: str, context, large: int, counts: dict[str, int]) -> None:
    """Join the store, and do the rounds that come by name through `address`, until an empty name."""
    kv = mx.kv.create("dist_sync")
    shapes = {LARGE: [(large,)], MODEL: shapes_of_resnet(mx)}
    tasks = {name: rounds(mx, kv, name, shapes[name], context, counts[name]) for name in shapes}
    with Client(address) as connection:
        connection.send("here")
        while name := connection.recv():
            connection.send(tasks[name]())


def rounds(mx, kv, name: str, shapes, context, count: int):
    """A function that takes the time of `count` rounds of new keys: ms a round."""
    keys = [(1000 if name == LARGE else 0) + i for i in range(len(shapes))]
    gradients = [mx.nd.ones(shape, context) * (kv.rank + 1) for shape in shapes]
    outs = [mx.nd.zeros(shape, context) for shape in shapes]
    kv.init(keys, outs)

    def work(times):
        for _ in range(times):
            kv.push(keys, gradients)
            kv.pull(keys, out=outs)
            mx.nd.waitall()

    work(1)
    found, total = {float(out.asnumpy().reshape(-1)[-1]) for out in outs}, WORKERS * (WORKERS + 1) / 2
    assert found == {total}, f"{name}: a round must give {total}, got {found}"
    for gradient in gradients:
        gradient[:] = 0  # MXNet pulls into an array of cpu() that it has pushed: the values would grow

    def task():
        mx.nd.waitall()
        kv._barrier()
        return seconds(work, count) / count * 1e3

    return task


def shapes_of_resnet(mx):
    symbol = models.resnet(mx)
    shapes, _, _ = symbol.infer_shape(data=(32, 3, 32, 32), softmax_label=(32,))
    named = zip(symbol.list_arguments(), shapes)  # noqa: B905 (MXNet's Python may be an old one)
    return [shape for name, shape in named if name not in ("data", "softmax_label")]


# ---- the side that tells them ----


class Group:
    """Workers that do the same rounds at once. `start(address)` starts them; returns a function that ends them."""

    def __init__(self, start):
        self._folder = tempfile.TemporaryDirectory()
        address = os.path.join(self._folder.name, "tell")
        groups.append(self)
        with Listener(address) as listener:
            self._end = start(address)
            self._members = [listener.accept() for _ in range(WORKERS)]
        for each in self._members:
            each.recv()

    def task(self, name: str):
        """A function that lets every worker do rounds: those of the slowest, ms a round."""
        return lambda: self._tell(name)

    def close(self) -> None:
        for each in self._members:
            each.send("")
        self._end()
        self._folder.cleanup()

    def _tell(self, name: str) -> float:
        for each in self._members:
            each.send(name)
        return max(each.recv() for each in self._members)


@atexit.register
def close() -> None:
    """End all groups."""
    while groups:
        groups.pop().close()


def arguments(address, options, device: int) -> list[str]:
    return [address, str(device), *map(str, (options.large, options.large_rounds, options.model_rounds))]


def joined(mx, address, device, large, large_rounds, model_rounds) -> None:
    """What a worker's process does with its command line."""
    counts = {LARGE: int(large_rounds), MODEL: int(model_rounds)}
    member(mx, address, mx.cpu(int(device)), int(large), counts)


def launched(options, replicas: int, device: int) -> Group:
    """A job of raymx."""
    import raymx as mx

    def start(address):
        def work():
            mx.launch(__file__, WORKERS, SERVERS, replicas, resources={"CPU": 0},
                      args=["--member=raymx", *arguments(address, options, device)])  # fmt: skip

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return lambda: thread.join(timeout=30)

    return Group(start)


def ps_lite(options) -> Group:
    """MXNet's processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "DMLC_PS_ROOT_URI": "127.0.0.1", "DMLC_PS_ROOT_PORT": str(port), "DMLC_NODE_HOST": "127.0.0.1",
        "DMLC_NUM_SERVER": str(SERVERS), "DMLC_NUM_WORKER": str(WORKERS),
    }  # fmt: skip

    def process(role, *command):
        return subprocess.Popen([sys.executable, *command], env={**os.environ, **common, "DMLC_ROLE": role}, stdout=2)

    def start(address):
        serving = [process(role, "-c", "import mxnet") for role in ("scheduler", *["server"] * SERVERS)]
        command = [__file__, "--member=mxnet", *arguments(address, options, 0)]
        working = [process("worker", *command) for _ in range(WORKERS)]
        return lambda: end(working + serving)

    return Group(start)


def end(processes) -> None:
    """Wait for processes to end by themselves, and end those that do not."""
    for each in processes:
        try:
            each.wait(timeout=10)
        except subprocess.TimeoutExpired:
            each.kill()
            each.wait()


# ---- workers of the benchmark ----


def local(mx, options):
    """ms of a local push of several large values of one key, and a pull."""
    kv = mx.kv.create("local")
    values = [mx.nd.ones((options.local,)) for _ in range(LOCAL_VALUES)]
    out = mx.nd.zeros((options.local,))
    kv.init(0, out)

    def work():
        kv.push(0, values)
        kv.pull(0, out=out)
        out.wait_to_read()

    return lambda: seconds(work) * 1e3


def both(group: Group, words: str = ""):
    return {name + words: group.task(name) for name in (LARGE, MODEL)}


def raymx_job(options, device: int):
    import raymx as mx

    mx.init(address="local", object_store_memory=2 << 30, log_to_driver=False)
    return both(launched(options, 0, device)) | both(launched(options, 1, device), KEPT)


def raymx(options):
    import raymx as mx

    return {**raymx_job(options, 0), LOCAL: local(mx, options)}


def raymx_actor(options):
    return raymx_job(options, 1)


def mxnet(options):
    import mxnet as mx

    return {**both(ps_lite(options)), LOCAL: local(mx, options)}


BENCH = Benchmark(
    name="kvstore",
    title="a round of a distributed store, 2 workers and 2 shards on this machine; a local store",
    unit="ms",
    workers={"raymx": raymx, "raymx-actor": raymx_actor, "mxnet": mxnet},
    options={"large": 10_000_000, "large_rounds": 5, "model_rounds": 30, "local": 25_000_000},
    bars=[
        *(Bar(name, system, limit, [(name, "mxnet")]) for system in ("raymx", "raymx-actor")
          for name, limit in ((LARGE, 0.5), (MODEL, 1))),
        *(Bar(name + KEPT, system, 1.5, [(name, system)]) for system in ("raymx", "raymx-actor")
          for name in (LARGE, MODEL)),
        Bar(LOCAL, "raymx", 1, [(LOCAL, "mxnet")]),
    ],
)  # fmt: skip

if __name__ == "__main__":
    if sys.argv[1].startswith("--member="):
        sys.exit(joined(__import__(sys.argv[1].partition("=")[2]), *sys.argv[2:]))
    sys.exit(main(BENCH))
