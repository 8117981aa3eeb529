"""What the script's process and the shards do per step, for 1 to 8 device actors or workers, and a line through it.

    python benchmarks/scaling.py                     # both tables, fits, and what they say of 64 and 512
    python benchmarks/scaling.py --only devices --counts 1 2 4 8 --steps 50

Each row is a run of its own, on a cluster that this script starts on this machine. Counted are processor seconds of
single processes, messages and bytes: these mean the same on a machine with few cores, where steps per second do not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np

ROWS, FEATURES, HIDDEN = 16, 256, 128  # of a device's part of a batch, and of the model
PARAMETERS = FEATURES * HIDDEN + HIDDEN + HIDDEN * HIDDEN + HIDDEN + HIDDEN * 10 + 10
FAR = (64, 512)
WARM = 10


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/scaling.py", description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--only", choices=STUDIES)
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)  # what a run of its own is started with
    args = parser.parse_args(argv)
    if args.row is not None:
        print(json.dumps(STUDIES[args.only](args.row, args.steps)))
        return 0
    print(f"a model of {PARAMETERS} parameters, {ROWS} rows a device or worker, {args.steps} steps a run\n")
    for name in [args.only] if args.only else STUDIES:
        show(name, [row(name, count, args.steps) for count in args.counts])
    return 0


def row(name: str, count: int, steps: int) -> dict[str, float]:
    """The figures of one run."""
    command = [sys.executable, __file__, "--only", name, "--row", str(count), "--steps", str(steps)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    return json.loads(done.stdout.splitlines()[-1])


def show(name: str, rows: list[dict[str, float]]) -> None:
    """A table, and for each figure but the first a line: fixed + each * count."""
    head, *measures = rows[0]
    counts = [each[head] for each in rows]
    print(f"{name}: per step")
    print("| " + " | ".join([head, *(f"{c:g}" for c in counts), "fixed", "each", *(f"at {n}" for n in FAR)]) + " |")
    print("|---" * (len(counts) + 3 + len(FAR)) + "|")
    for measure in measures:
        values = [each[measure] for each in rows]
        fitted = [(c, v) for c, v in zip(counts, values, strict=True) if c > 1]  # with one nothing travels
        each, fixed = np.polyfit(*zip(*fitted, strict=True), 1) if len(fitted) > 1 else (0.0, values[-1])
        far = [f"{fixed + each * n:.4g}" for n in FAR]
        print("| " + " | ".join([measure, *(f"{v:.4g}" for v in values), f"{fixed:.3g}", f"{each:.3g}", *far]) + " |")
    print()


# ---- one script, many device actors ----


def devices(count: int, steps: int) -> dict[str, float]:
    """Steps of a module on so many device actors with kvstore="device"."""
    import raymx as mx
    from raymx.runtime import cluster

    start_ray(mx, count)
    contexts = [mx.gpu(i) for i in range(count)]
    module = trained(mx, contexts, "device")
    traffic = Traffic(cluster)

    def step():
        module._exec_group.forward(is_train=True)
        module.backward()
        module.update()

    def run(times):
        for _ in range(times):
            step()
        mx.nd.waitall()

    run(WARM)
    pids = [mx.runtime.device_pid(context) for context in contexts]
    before, busy = cpu_s(os.getpid()), sum(map(cpu_s, pids))
    traffic.clear()
    begin = time.perf_counter()
    run(steps)
    wall = time.perf_counter() - begin
    driver, busy = cpu_s(os.getpid()) - before, sum(map(cpu_s, pids)) - busy
    return {
        "devices": count,
        "script: cpu ms": driver / steps * 1e3,
        "script: messages": traffic.messages / steps,
        "script: kB sent": traffic.nbytes / steps / 1e3,
        "script: refs": traffic.refs / steps,
        "a device: cpu ms": busy / steps / count * 1e3,
        "wall ms": wall / steps * 1e3,
    }


class Traffic:
    """Counts what this process sends to device actors."""

    def __init__(self, cluster):
        self.clear()
        send, pack = cluster.RayTransport.send, cluster.pack

        def counted(transport, number, segments, exports):
            self.messages += 1
            self.refs += exports
            return send(transport, number, segments, exports)

        def packed(segments):
            data, buffers, refs = pack(segments)
            self.nbytes += len(data) + sum(memoryview(each).nbytes for each in buffers)
            return data, buffers, refs

        cluster.RayTransport.send, cluster.pack = counted, packed

    def clear(self) -> None:
        self.messages = self.refs = self.nbytes = 0


# ---- many workers, one shard ----


def workers(count: int, steps: int) -> dict[str, float]:
    """Steps of so many workers on `dist_sync` with one shard and no replica."""
    import raymx as mx

    start_ray(mx, 0)
    before = cpu_s(os.getpid())
    answers = mx.launch(worker, count, 1, replicas=0, resources={"CPU": 0}, args=(steps,))
    launcher = cpu_s(os.getpid()) - before
    first = answers[0]
    return {
        "workers": count,
        "shard: cpu ms": first["shard"] / steps * 1e3,
        "shard: kB in and out": 2 * count * PARAMETERS * 4 / 1e3,
        "a worker: cpu ms": sum(each["worker"] for each in answers) / count / steps * 1e3,
        "launcher: cpu ms": launcher / (steps + WARM) * 1e3,
        "wall ms": first["wall"] / steps * 1e3,
    }


def worker(steps: int) -> dict[str, float]:
    import raymx as mx

    module = trained(mx, [mx.cpu()], "dist_sync")
    store = module._kvstore
    (link,) = store._courier._links
    shard = link.describe()["pid"]

    def run(times):
        for _ in range(times):
            module._exec_group.forward(is_train=True)
            module.backward()
            module.update()
        mx.nd.waitall()

    run(WARM)
    store._barrier()
    begin, mine, busy = time.perf_counter(), cpu_s(os.getpid()), cpu_s(shard)
    run(steps)
    store._barrier()
    return {
        "wall": time.perf_counter() - begin,
        "worker": cpu_s(os.getpid()) - mine,
        "shard": cpu_s(shard) - busy,
    }


# ---- for both ----


def start_ray(mx, virtual_gpus: int) -> None:
    mx.config.set(device_threads=1)
    mx.runtime.init(address="local", virtual_gpus=virtual_gpus, num_cpus=4, include_dashboard=False,
                    log_to_driver=False, object_store_memory=1 << 29)  # fmt: skip


def trained(mx, contexts, kvstore: str):
    """A module with an optimizer and a batch in its arrays."""
    mx.random.seed(0)
    np.random.seed(0)
    net = mx.sym.Variable("data")
    for i, hidden in enumerate((HIDDEN, HIDDEN)):
        net = mx.sym.FullyConnected(net, num_hidden=hidden, name=f"fc{i}")
        net = mx.sym.Activation(net, act_type="relu")
    net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=10, name="last"), name="softmax")
    module = mx.mod.Module(net, context=contexts)
    rows = ROWS * len(contexts)
    module.bind([("data", (rows, FEATURES))], [("softmax_label", (rows,))])
    module.init_params(mx.init.Xavier())
    module.init_optimizer(kvstore, "sgd", {"learning_rate": 0.01, "momentum": 0.9})
    data = mx.nd.array(np.random.rand(rows, FEATURES))
    module.forward_backward(mx.io.DataBatch([data], [mx.nd.array(np.random.randint(0, 10, (rows,)))]))
    return module


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has had."""
    import psutil

    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


STUDIES = {"devices": devices, "workers": workers}

if __name__ == "__main__":
    sys.exit(main())
