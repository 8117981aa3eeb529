"""A training in a cluster of three nodes on this machine, one of which is taken away: run by test_lost_node.py.

    python -m tests.kvstore.lose_node [slowly]

Prints what happened as a line of JSON. The head has no processors; the node that the first worker is on when it has
done two batches goes, with all that is on it. `slowly` leaves it to Ray when it notices.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

import raymx as mx
from raymx.runtime import job

QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_timeout_ms": 500,
         "health_check_failure_threshold": 2}  # fmt: skip
HIDDEN = 64  # so that what shards send lies in the object store


def work(pipe: str, removed: bool):
    """What a worker does: train; the first one says where it is, and waits there for its end."""
    from tests.kvstore import training

    def wait(param):
        if removed and param.epoch == 0 and param.nbatch == 1 and not param.locals["self"]._kvstore.restarted:
            if param.locals["self"]._kvstore.rank == 0:
                Path(pipe).write_text(ray.get_runtime_context().get_node_id())
                threading.Event().wait()

    return training.train(0, hidden=HIDDEN, batch_end_callback=wait)


def remove(cluster: Cluster, pipe: str, told: dict) -> None:
    """Once the worker has said on which node it is, take that away."""
    node_id = Path(pipe).read_text()
    supervisor = told["supervisor"]
    told["nodes"] = [[ray.get(actor.describe.remote())["node"] for actor in actors] for actors in
                     supervisor._actors.values()]  # fmt: skip
    told["lost"] = node_id
    told["at"] = time.monotonic()
    node = next(node for node in cluster.worker_nodes if node.node_id == node_id)
    cluster.remove_node(node, allow_graceful=False)


def launched(removed: bool, pipe: str = "") -> list[tuple[bool, str]]:
    """Of each worker, whether it was started anew, and the hash of its parameters and states."""
    found = mx.launch(work, 2, num_servers=2, args=(pipe, removed))
    return [(restarted, hashlib.sha256(b"".join(v for each in params for v in each.values())).hexdigest())
            for restarted, params in found]  # fmt: skip


def main(quickly: bool) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(relativeCreated)d %(message)s")
    options = {"_system_config": QUICK} if quickly else {}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **options})
    for _ in range(2):
        cluster.add_node(num_cpus=4, object_store_memory=100 << 20)
    mx.runtime.init(address=cluster.address, log_to_driver=False)
    expected = launched(False)
    told: dict = {}
    start = job.Supervisor.start
    job.Supervisor.start = lambda self, *args: (told.update(supervisor=self), start(self, *args))  # type: ignore
    with tempfile.TemporaryDirectory() as folder:
        os.mkfifo(pipe := f"{folder}/node")
        threading.Thread(target=remove, args=(cluster, pipe, told), daemon=True).start()
        found = launched(True, pipe)
    took_s = time.monotonic() - told["at"]
    print(json.dumps({"restarted": [r for r, _ in found], "same": [h for _, h in found] == [h for _, h in expected],
                      "nodes": told["nodes"], "lost": told["lost"], "took_s": round(took_s, 1)}))  # fmt: skip
    mx.runtime.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main("slowly" not in sys.argv)
