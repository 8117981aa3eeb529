"""Many workers and the shards of their store, from one call or from the command line.

    mx.launch(train, num_workers=4, num_servers=2)
    python -m raymx launch -n 4 -s 2 script.py --its arguments
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raymx import runtime
from raymx.errors import ParameterError


def launch(
    fn: Callable | str,
    num_workers: int,
    num_servers: int | None = None,
    replicas: int | None = None,
    devices_per_worker: int = 0,
    resources: Mapping[str, float] | None = None,
    args: Sequence = (),
    max_restarts: int = 3,
) -> list[Any]:
    """Run `fn(*args)`, or the Python script at the path `fn` with `args` as its arguments, in `num_workers` processes
    of the Ray cluster, with `num_servers` shards for the distributed store that they create; blocks until all are
    done, and returns what each worker returned, in the order of ranks.

    - num_servers: shards of the store; as many as workers if None.
    - replicas: copies of each shard's state, 0 or 1; 1 if None and there are two shards or more. With one, the process
      of any shard may be lost.
    - devices_per_worker: GPUs that are each worker's own, its `mx.gpu(0)`, `mx.gpu(1)`, …, on its node if they fit
      there; virtual ones where the switch `virtual_gpus` is set. With 0 a worker's script finds those of the cluster.
    - resources: what each worker's process takes of the cluster, one CPU if None; `{"CPU": 2, "memory": 4e9}`.
    - max_restarts: how many lost workers are started anew, in all.

    A worker that is lost, or that loses one of its devices, is started anew and takes part again. Raises
    PlacementError if the cluster has no room for all workers within the switch `start_timeout_s`, WorkerLostError when
    no restarts are left, ShardLostError for a shard without a replica, or what a worker raised, with notes that name
    the worker and show where in its code it was. Whatever happens, no process of the job is left.
    """
    shards = num_workers if num_servers is None else num_servers
    for name, value, low in (
        ("num_workers", num_workers, 1), ("num_servers", shards, 1), ("devices_per_worker", devices_per_worker, 0),
        ("max_restarts", max_restarts, 0),
    ):  # fmt: skip
        if not isinstance(value, int) or value < low:
            raise ParameterError(f"launch: {name} must be an integer of at least {low}, got {value!r}.")
    if replicas not in (None, 0, 1):
        raise ParameterError(f"launch: replicas must be 0 or 1, got {replicas!r}.")
    if isinstance(fn, str) and not os.path.isfile(fn):
        raise ParameterError(f"launch: there is no script {fn!r}.")
    if not callable(fn) and not isinstance(fn, str):
        raise ParameterError(f"launch: fn must be a function or the path of a script, got {fn!r}.")
    return runtime.launch(
        fn, tuple(args), workers=num_workers, shards=shards, devices=devices_per_worker,
        replicas=min(1, shards - 1) if replicas is None else replicas, resources=_checked(resources),
        max_restarts=max_restarts,
    )  # fmt: skip


def _checked(resources: Mapping[str, float] | None) -> dict[str, float]:
    """The resources of a worker, or the usual ones."""
    found = {"CPU": 1.0} if resources is None else dict(resources)
    for name, amount in found.items():
        if not isinstance(name, str) or isinstance(amount, bool) or not isinstance(amount, (int, float)) or amount < 0:
            raise ParameterError(f"launch: resources must be amounts by name, like {{'CPU': 1}}, got {resources!r}.")
    return found
