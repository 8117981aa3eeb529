"""Which device each node runs on, and the copies between devices.

Pure; a device is any hashable. A node runs where its attribute `ctx_group` says, a gradient where the node that it is
of ran, the sum of a variable's gradients where the variable lives, everything else on the default device. Where a value
is read on another device than it was made on, a `_CrossDeviceCopy` stands between; there is one for each value and
device, and backward uses what came over in forward.

`parts` then cuts the graph by device and by segment (see `schedule.py`): marks among the nodes tell the compiler where
a value arrives, where one leaves and where a segment begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from raymx.graph import attributes
from raymx.graph.marks import Cut, Receive, Send
from raymx.graph.node import Entry, Node
from raymx.graph.schedule import Segment, schedule
from raymx.graph.traced import Spec, Traced, entries_of, read_by

Device = Any  # any hashable


@dataclass
class Placed:
    """A traced graph over several devices: every node reads values of its own device only, but for the copies."""

    traced: Traced
    device: Mapping[Node, Device]  # of every node and variable
    copies: list[Node]  # by transfer number; each reads one value of another device


def device_of_group(node: Node, groups: Mapping[str, Device], default: Device) -> Device:
    """Where the attribute `ctx_group` of a node or variable puts it."""
    group = attributes.find(node.attrs, "ctx_group")
    return default if group is None else groups.get(group, default)


def place(
    traced: Traced, variables: Mapping[Node, Device], groups: Mapping[str, Device], default: Device
) -> Placed:
    """Put every node on a device; `variables` tells where arguments and states are."""
    return _Placing(traced, variables, groups, default).run()


class _Placing:
    """The graph anew: each node over what lies on its own device."""

    def __init__(self, traced: Traced, variables, groups, default):
        self._traced = traced
        self._device: dict[Node, Device] = dict(variables)
        self._groups, self._default = groups, default
        self._specs: dict[Entry, Spec] = dict(traced.specs)
        self._new: dict[Entry, Entry] = {}
        self._copies: dict[tuple[Entry, Device], Node] = {}

    def run(self) -> Placed:
        traced = self._traced
        for head, head_grad in zip(traced.heads, traced.head_grads, strict=True):
            if head_grad is not None:
                self._device[head_grad] = self._device_of(head.node)
        forward: list[Node] = []
        backward: list[Node] = []
        renewed: dict[Node, Node] = {}
        for nodes, made in ((traced.forward, forward), (traced.backward, backward)):
            for node in nodes:
                renewed[node] = self._rewrite(node, made)
        gradients = {v: e and self._on(self._device[v], e, backward) for v, e in traced.gradients.items()}
        copies = list(self._copies.values())
        placed = replace(
            traced, heads=[self._new.get(e, e) for e in traced.heads], forward=forward, backward=backward,
            gradients=gradients, specs=self._specs, extra=frozenset([*(renewed[n] for n in traced.extra), *copies]),
        )  # fmt: skip
        return Placed(placed, self._device, copies)

    def _device_of(self, node: Node) -> Device:
        if node not in self._device:
            of = node if node.forward is None else node.forward
            self._device[node] = device_of_group(of, self._groups, self._default)
        return self._device[node]

    def _rewrite(self, node: Node, made: list[Node]) -> Node:
        device = self._device_of(node)
        reads = set(read_by(node))
        new = Node(node.op, node.name, node.attrs, forward=node.forward, params=node.params)
        new.inputs = [self._on(device, e, made) if e in reads else self._new.get(e, e) for e in node.inputs]
        made.append(new)
        self._device[new] = device
        for old, entry in zip(entries_of(node), entries_of(new), strict=True):
            self._new[old] = entry
            self._specs[entry] = self._specs[old]
        return new

    def _on(self, device: Device, old: Entry, made: list[Node]) -> Entry:
        """The value on this device, copied if it lies on another one."""
        entry = self._new.get(old, old)
        if self._device_of(entry.node) == device:
            return entry
        copy = self._copies.get((entry, device))
        if copy is None:
            copy = Node(Receive(len(self._copies)), f"{entry.node.name}_copy", entry.node.attrs, [entry])
            self._copies[entry, device] = copy
            self._device[copy] = device
            self._specs[Entry(copy)] = self._specs[entry]
            made.append(copy)
        return Entry(copy)


# ---- cutting by device and segment ----


class Part(NamedTuple):
    """What one device does; `traced` has marks among its nodes."""

    device: Device
    traced: Traced
    heads: tuple[int, ...]  # positions of its heads among those of the whole graph


class Arrival(NamedTuple):
    """Where a transfer arrives: in the gradient array of a variable, or in a box that others use at other times."""

    gradient: Node | None
    box: int = -1


class Route(NamedTuple):
    """What several devices do for one pass, in an order to push it in."""

    opening: tuple[int, ...]  # transfers of variables, which can leave at once
    segments: tuple[Segment, ...]


@dataclass
class Parts:
    parts: list[Part]
    routes: dict[str, Route]  # "forward", "backward"
    arrivals: dict[int, Arrival]  # by transfer
    boxes: dict[Device, list[Spec]]  # what the boxes of each device hold


def parts(placed: Placed, direct: Iterable[Node] = ()) -> Parts:
    """The graph by device. The gradient of a variable of `direct` may arrive in its array from another device."""
    return _Cutting(placed, set(direct)).run()


class _Cutting:
    def __init__(self, placed: Placed, direct: set[Node]):
        self._placed, self._traced, self._device = placed, placed.traced, placed.device
        self._direct = direct
        self._sources: dict[Entry, list[int]] = {}  # value → the transfers that take it away
        for number, copy in enumerate(placed.copies):
            self._sources.setdefault(copy.inputs[0], []).append(number)

    def run(self) -> Parts:
        traced = self._traced
        needed = {
            "forward": [self._device[head.node] for head in traced.heads],
            "backward": [self._device[variable] for variable in traced.gradients],
        }
        routes, nodes = {}, {}
        for name, listed in (("forward", traced.forward), ("backward", traced.backward)):
            segments = schedule(name, listed, self._device, traced.specs, needed[name])
            routes[name] = self._route(segments)
            nodes[name] = self._by_device(segments)
        devices = dict.fromkeys([*nodes["forward"], *nodes["backward"]])
        arrivals, boxes = self._mail(routes)
        return Parts([self._part(device, nodes) for device in devices], routes, arrivals, boxes)

    def _route(self, segments: Sequence[Segment]) -> Route:
        opening = [n for s in segments for n in s.receives if self._placed.copies[n].inputs[0].node.op is None]
        return Route(tuple(opening), tuple(s._replace(sends=self._leaving(s)) for s in segments))

    def _leaving(self, segment: Segment) -> tuple[int, ...]:
        made = (e for node in segment.nodes for e in entries_of(node) if not isinstance(node.op, Receive))
        return tuple(number for e in made for number in self._sources.get(e, ()))

    def _by_device(self, segments: Sequence[Segment]) -> dict[Device, list[Node]]:
        """Each device's nodes with their marks."""
        found: dict[Device, list[Node]] = {}
        for segment in segments:
            nodes = found.setdefault(segment.device, [])
            if segment.number:
                nodes.append(Node(Cut(segment.phase), segment.phase))
            for node in segment.nodes:
                nodes.append(node)
            nodes += [Node(Send(n), "send", inputs=[self._placed.copies[n].inputs[0]]) for n in self._leaving(segment)]
        return found

    def _part(self, device: Device, nodes: Mapping[str, Mapping[Device, list[Node]]]) -> Part:
        traced = self._traced
        heads = tuple(i for i, head in enumerate(traced.heads) if self._device[head.node] == device)
        own = replace(
            traced,
            heads=[traced.heads[i] for i in heads],
            head_grads=[traced.head_grads[i] for i in heads],
            forward=nodes["forward"].get(device, []),
            backward=nodes["backward"].get(device, []),
            gradients={v: e for v, e in traced.gradients.items() if self._device[v] == device},
        )
        return Part(device, own, heads)

    # ---- where transfers arrive ----

    def _mail(self, routes: Mapping[str, Route]) -> tuple[dict[int, Arrival], dict[Device, list[Spec]]]:
        """A gradient for one variable only arrives in its array; what else arrives gets a box. A box serves another
        value when the last segment that reads the first one is over; what came in forward and is read in backward
        stays."""
        arrivals = self._gradient_arrivals()
        boxes: dict[Device, list[Spec]] = {}
        free: dict[tuple[Device, Spec], list[int]] = {}
        last = self._last_segments(routes)
        for segment in [s for route in routes.values() for s in route.segments]:
            for number in segment.receives:
                if number not in arrivals:
                    arrivals[number] = Arrival(None, self._box(number, free, boxes))
            for number in last.get(segment.phase, {}).get(segment.device, ()):
                if arrivals[number].gradient is None:
                    copy = self._placed.copies[number]
                    key = self._device[copy], self._traced.specs[Entry(copy)]
                    free.setdefault(key, []).append(arrivals[number].box)
        return arrivals, boxes

    def _gradient_arrivals(self) -> dict[int, Arrival]:
        found: dict[int, Arrival] = {}
        uses = list(self._traced.gradients.values())
        readers = {e for node in self._traced.backward for e in read_by(node)}
        for variable, entry in self._traced.gradients.items():
            if entry is None or not isinstance(entry.node.op, Receive):
                continue
            if variable in self._direct and uses.count(entry) == 1 and entry not in readers:
                found[entry.node.op.number] = Arrival(variable)
        return found

    def _box(self, number: int, free: dict[tuple[Device, Spec], list[int]], boxes: dict[Device, list[Spec]]) -> int:
        copy = self._placed.copies[number]
        device, spec = self._device[copy], self._traced.specs[Entry(copy)]
        if free.get((device, spec)):
            return free[device, spec].pop()
        mine = boxes.setdefault(device, [])
        mine.append(spec)
        return len(mine) - 1

    def _last_segments(self, routes: Mapping[str, Route]) -> dict[str, dict[Device, list[int]]]:
        """By phase and device: the transfers that are read there for the last time and whose box is free then."""
        found: dict[str, dict[Device, list[int]]] = {}
        came: dict[int, str] = {}  # transfer → the pass in which it arrives
        last: dict[int, tuple[str, Segment]] = {}
        for name, route in routes.items():
            for segment in route.segments:
                for number in segment.receives:
                    came[number] = name
                    last[number] = name, segment
                reads = [e for node in segment.nodes for e in read_by(node)]
                if name == "forward":  # an output that only renames what came is copied by the last segment
                    reads += [head for head in self._traced.heads if self._device[head.node] == segment.device]
                for entry in map(_bytes_of, reads):
                    if isinstance(entry.node.op, Receive):
                        last[entry.node.op.number] = name, segment
        for number, (name, segment) in last.items():
            if name == came[number]:
                found.setdefault(segment.phase, {}).setdefault(segment.device, []).append(number)
        return found


def _bytes_of(entry: Entry) -> Entry:
    """The value whose bytes `entry` may be."""
    while entry.node.op is not None and entry.node.op.view:
        entry = entry.node.inputs[0]
    return entry
