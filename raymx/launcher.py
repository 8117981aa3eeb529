"""Many workers and the shards of their store, from one call or from the command line.

    mx.launch(train, num_workers=4, num_servers=2)
    python -m raymx launch -n 4 -s 2 script.py --its arguments
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raymx import runtime
from raymx.errors import ParameterError


def launch(
    fn: Callable | str,
    num_workers: int,
    num_servers: int | None = None,
    replicas: int | None = None,
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
    - resources: what each worker takes of the cluster, one CPU if None; `{"CPU": 2, "GPU": 1}`.
    - max_restarts: how many lost workers are started anew, in all.

    A worker that is lost, or that loses one of its devices, is started anew and takes part again. Raises
    WorkerLostError when no restarts are left, ShardLostError for a shard without a replica, or what a worker raised,
    with a note that names the worker. Whatever happens, no process of the job is left.
    """
    for name, value in (("num_workers", num_workers), ("num_servers", num_servers)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ParameterError(f"launch: {name} must be an integer of at least 1, got {value!r}.")
    if replicas not in (None, 0, 1):
        raise ParameterError(f"launch: replicas must be 0 or 1, got {replicas!r}.")
    return runtime.launch(
        fn, num_workers, num_servers=num_servers, replicas=replicas, resources=resources, args=args,
        max_restarts=max_restarts,
    )  # fmt: skip
