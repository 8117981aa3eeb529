"""Where the processes of a job run: a placement group for each worker and its devices, shards spread over the nodes.

A worker's group asks for what its process takes, and for each of its GPUs; all of it on one node if a node has room. A
worker that is started anew comes back to the same group. Shards take no share of what Ray counts, so no group can hold
them: they are told their nodes.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from raymx import config
from raymx.errors import PlacementError

_log = logging.getLogger("raymx")
_SILENT_S = 3.0  # of waiting for room, before a word about it


def bundles(resources: Mapping[str, float], gpus: int) -> list[dict[str, float]]:
    """What one worker asks for: its process's share and a GPU for each device; empty if nothing is counted."""
    share = {name: amount for name, amount in resources.items() if amount}
    devices = [{"GPU": 1.0} for _ in range(gpus)]
    return [share, *devices] if share else devices  # Ray takes no empty bundle: the process is in its first device's


def options(resources: Mapping[str, float]) -> dict[str, Any]:
    """Resources in the words of an actor's options."""
    rest = {name: amount for name, amount in resources.items() if amount}
    words = {"num_cpus": rest.pop("CPU", 0), "num_gpus": rest.pop("GPU", 0)}
    if "memory" in rest:
        words["memory"] = rest.pop("memory")
    return words | ({"resources": rest} if rest else {})


def chosen(shard: int, taken: Sequence[str | None], nodes: Sequence[str]) -> str | None:
    """The node for one more process of a shard, of which some are on the nodes `taken`: shards one after the other
    over all nodes, the replica on the node after its primary's. None where nothing is known of nodes."""
    order = [nodes[(shard + i) % len(nodes)] for i in range(len(nodes))]
    return min(order, key=lambda node: taken.count(node), default=None)


def nodes() -> list[str]:
    """The living nodes, those without a CPU of their own left out if there are others."""
    alive = sorted((n for n in ray.nodes() if n["Alive"]), key=lambda n: (n["NodeManagerAddress"], n["NodeID"]))
    working = [node for node in alive if node["Resources"].get("CPU")]
    return [node["NodeID"] for node in working or alive]


def on_node(node: str | None) -> Any:
    """The scheduling strategy for a node and no other: Ray puts an actor that takes no resources anywhere, whatever is
    wished, unless it must. Should the node be gone meanwhile, the actor is lost."""
    return "SPREAD" if node is None else NodeAffinitySchedulingStrategy(node, soft=False)


class Places:
    """The placement groups of a job's workers, for as long as the job lasts."""

    def __init__(self, job: str, resources: Mapping[str, float], gpus: int):
        self._job, self._resources, self._gpus = job, dict(resources), gpus
        self._groups: list[PlacementGroup] = []

    def reserve(self, workers: int) -> None:
        """Wait until there is room for all workers. Raises PlacementError, within the switch `start_timeout_s`."""
        asked = bundles(self._resources, self._gpus)
        if not asked:
            return
        for rank in range(workers):
            self._groups.append(placement_group(asked, strategy="PACK", name=f"{self._job}-worker-{rank}"))
        timeout_s = config.get("start_timeout_s")
        deadline = time.monotonic() + timeout_s
        missing = self._missing(min(_SILENT_S, timeout_s))
        if missing:
            _log.warning("%s: %s", self._job, self._story(missing))
            missing = self._missing(max(0.0, deadline - time.monotonic()))
        if missing:
            raise PlacementError(
                f"launch: {self._story(missing)} after {timeout_s:g} s (switch start_timeout_s). Ask for less (the "
                "command's --cpus, launch's resources), for fewer workers or devices, or add nodes."
            )

    def options(self, rank: int) -> dict[str, Any]:
        """The options of a worker's actor."""
        if not self._groups:
            return {"num_cpus": 0, "scheduling_strategy": "SPREAD"}
        return options(self._resources) | {"scheduling_strategy": in_bundle(self._groups[rank], 0)}

    def remove(self) -> None:
        """Give everything back."""
        for group in self._groups:
            try:
                remove_placement_group(group)
            except RayError as error:  # the cluster is gone, and with it the group
                _log.debug("%s: %s", self._job, error)
        self._groups.clear()

    def _missing(self, timeout_s: float) -> int:
        """How many workers have no room yet."""
        return len(ray.wait([g.ready() for g in self._groups], num_returns=len(self._groups), timeout=timeout_s)[1])

    def _story(self, missing: int) -> str:
        count = len(self._groups)
        each = Counter(self._resources) + Counter({"GPU": self._gpus})
        available = ray.available_resources()
        return (
            f"{missing} of {count} worker{'s' if count > 1 else ''} wait{'s' if missing == 1 else ''} for room: each "
            f"takes {_words(each)}, and the cluster has {_words({k: available.get(k, 0) for k in each})} left"
        )


def in_bundle(group: PlacementGroup, bundle: int) -> PlacementGroupSchedulingStrategy:
    """The scheduling strategy for a place in a group."""
    return PlacementGroupSchedulingStrategy(group, bundle)


def _words(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items())
