"""When each device of one pass does what: segments of nodes that run as one, cut where values come and go.

Pure. The nodes are run in thought: each device takes, of the nodes whose values are there, the first in the order of
the graph; a value needs a while to the other device. Then each device's nodes are cut so that nobody waits for what it
does not need: before a node that reads a value which has come meanwhile, and after a node whose value another device
reads. Segments too short to be worth a message are joined with the next where neither waits for more than before.

The times are guesses, and need not be right: any result of any guesses runs correctly, as a segment only ever waits for
segments that begin earlier.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from raymx.graph.marks import Receive
from raymx.graph.node import Entry, Node
from raymx.graph.traced import Spec, entries_of, read_by

Device = Any  # any hashable

BYTES_PER_US = 10_000  # what an operator reads and writes
PRODUCTS_PER_US = 50_000  # of a heavy one
STEP_US = 2.0  # to call a kernel
TRANSFER_US = 500.0  # until a value is on another device
MESSAGE_US = 300.0  # a segment shorter than this is joined with the next


class Segment(NamedTuple):
    """Nodes of one device that run one after another, when the transfers `receives` have arrived."""

    device: Device
    number: int  # on its device, in this pass
    phase: str  # how its part of the program is called
    nodes: tuple[Node, ...]  # the copies that it receives first
    receives: tuple[int, ...]  # numbers of transfers
    sends: tuple[int, ...] = ()


def schedule(
    name: str, nodes: Sequence[Node], device: Mapping[Node, Device], specs: Mapping[Entry, Spec],
    needed: Iterable[Device] = (),
) -> list[Segment]:  # fmt: skip
    """The segments of a pass in an order to push them in: each stands after those whose values it receives.

    The devices `needed` have a segment in any case.
    """
    pieces = _cut(_Simulation(nodes, device, specs))
    while True:
        joined = _joined(pieces)
        if len(joined) == len(pieces):
            break
        pieces = joined
    pieces += _rest(nodes, device, pieces, needed)
    return _numbered(name, pieces)


def cost_us(node: Node, specs: Mapping[Entry, Spec]) -> float:
    """About how long a node runs."""
    ins, outs = [specs[e] for e in read_by(node)], [specs[e] for e in entries_of(node)]
    time = STEP_US + sum(s.nbytes for s in (*ins, *outs)) / BYTES_PER_US
    if node.op is not None and node.op.heavy and len(ins) > 1:
        largest = max(math.prod(s.shape) for s in (*ins[:1], *outs))
        per_element = max((math.prod(s.shape[1:]) for s in ins[1:] if len(s.shape) > 1), default=1)
        time += largest * per_element / PRODUCTS_PER_US
    return time


def _is_copy(node: Node) -> bool:
    return isinstance(node.op, Receive)


class _Simulation:
    """Runs the nodes in thought: `order` tells what each device does, with the times of start and end."""

    def __init__(self, nodes: Sequence[Node], device: Mapping[Node, Device], specs: Mapping[Entry, Spec]):
        self.nodes, self.device = nodes, device
        self.cost = {node: cost_us(node, specs) for node in nodes if not _is_copy(node)}
        self.order: dict[Device, list[Node]] = {}
        self.start: dict[Node, float] = {}
        self.end: dict[Node, float] = {}  # of copies: when the value has arrived
        self._position = {node: i for i, node in enumerate(nodes)}
        self._users: dict[Node, list[Node]] = {}
        self._missing: dict[Node, int] = {}
        self._coming: dict[Device, list[tuple[float, int]]] = {}  # (when all its values are there, position)
        self._ready: dict[Device, list[int]] = {}  # positions of those whose values are there
        self._clock: dict[Device, float] = {}
        self._run()

    def _run(self) -> None:
        for node in self.nodes:
            sources = {e.node for e in read_by(node) if e.node in self._position}
            self._missing[node] = len(sources)
            for source in sources:
                self._users.setdefault(source, []).append(node)
        for node in [node for node in self.nodes if not self._missing[node]]:
            self._enable(node, 0.0)
        while any(self._ready.values()) or any(self._coming.values()):
            self._start_next()

    def _enable(self, node: Node, time: float) -> None:
        """All values of `node` are there at `time`, or are sent then if it is a copy."""
        if _is_copy(node):
            self._finish(node, time + TRANSFER_US)
        else:
            device = self.device[node]
            self._ready.setdefault(device, [])
            heapq.heappush(self._coming.setdefault(device, []), (time, self._position[node]))

    def _start_next(self) -> None:
        """The device that can begin first takes the first node that it can run then."""
        begin, device = min(((self._begins(d), d) for d in self._ready), key=lambda each: each[0])
        coming, ready = self._coming[device], self._ready[device]
        while coming and coming[0][0] <= begin:
            heapq.heappush(ready, heapq.heappop(coming)[1])
        node = self.nodes[heapq.heappop(ready)]
        self.order.setdefault(device, []).append(node)
        self.start[node] = begin
        self._clock[device] = begin + self.cost[node]
        self._finish(node, self._clock[device])

    def _begins(self, device: Device) -> float:
        clock, coming = self._clock.get(device, 0.0), self._coming[device]
        if self._ready[device]:
            return clock
        return max(clock, coming[0][0]) if coming else math.inf

    def _finish(self, node: Node, time: float) -> None:
        self.end[node] = time
        for user in self._users.get(node, ()):
            self._missing[user] -= 1
            if not self._missing[user]:
                sources = (e.node for e in read_by(user) if e.node in self.end)
                self._enable(user, max(self.end[source] for source in sources))


@dataclass
class _Piece:
    """A segment in the making."""

    device: Device
    nodes: list[Node]
    cost: float = 0.0
    start: float = 0.0
    copies: dict[Node, None] = field(default_factory=dict)  # what it waits for

    @property
    def end(self) -> float:
        return self.start + self.cost


def _cut(simulation: _Simulation) -> list[_Piece]:
    """Cut where values come and go."""
    sources = {e.node for node in simulation.nodes if _is_copy(node) for e in node.inputs}
    pieces = []
    for device, nodes in simulation.order.items():
        there: set[Node] = set()
        piece: _Piece | None = None
        for node in nodes:
            news = [e.node for e in read_by(node) if e.node in simulation.end and _is_copy(e.node)]
            news = [copy for copy in dict.fromkeys(news) if copy not in there]
            there.update(news)
            if piece is None or any(simulation.end[copy] > piece.start for copy in news):
                piece = _Piece(device, [], start=simulation.start[node])
                pieces.append(piece)
            piece.nodes.append(node)
            piece.cost += simulation.cost[node]
            piece.copies.update(dict.fromkeys(news))
            if node in sources:
                piece = None
    return sorted(pieces, key=lambda piece: piece.start)


def _joined(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Join what is short with what follows on its device, if that receives nothing later; then set the times anew."""
    arrives = _arrivals(pieces)
    found: list[_Piece] = []
    last: dict[Device, _Piece] = {}
    for piece in pieces:
        before = last.get(piece.device)
        if before is not None and before.cost < MESSAGE_US and _there(piece, before.start, arrives):
            before.nodes += piece.nodes
            before.cost += piece.cost
            before.copies.update(piece.copies)
        else:
            last[piece.device] = piece
            found.append(piece)
    return _timed(found)


def _there(piece: _Piece, time: float, arrives: Mapping[Node, float]) -> bool:
    return all(arrives[copy] <= time for copy in piece.copies)


def _arrivals(pieces: Iterable[_Piece]) -> dict[Node, float]:
    """When each copy has arrived: a value leaves at the end of the piece in which it is made."""
    made = {node: piece.end for piece in pieces for node in piece.nodes}
    copies = (copy for piece in pieces for copy in piece.copies)
    return {copy: made.get(copy.inputs[0].node, 0.0) + TRANSFER_US for copy in copies}


def _timed(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Pieces in an order in which each comes after those that it waits for, with the times at which they would run."""
    clock: dict[Device, float] = {}
    ends: dict[Node, float] = {}  # by node
    for piece in pieces:
        arrivals = (ends.get(copy.inputs[0].node, 0.0) + TRANSFER_US for copy in piece.copies)
        piece.start = max(clock.get(piece.device, 0.0), *arrivals, 0.0)
        clock[piece.device] = piece.end
        ends.update(dict.fromkeys(piece.nodes, piece.end))
    return sorted(pieces, key=lambda piece: piece.start)


def _rest(
    nodes: Sequence[Node], device: Mapping[Node, Device], pieces: Sequence[_Piece], needed: Iterable[Device]
) -> list[_Piece]:
    """Pieces for copies that no node waits for (gradients that only have to arrive), and for devices without any."""
    waited = {copy for piece in pieces for copy in piece.copies}
    rest: dict[Device, _Piece] = {}
    for copy in (node for node in nodes if _is_copy(node) and node not in waited):
        rest.setdefault(device[copy], _Piece(device[copy], [])).copies[copy] = None
    active = {piece.device for piece in pieces}
    for each in needed:
        if each not in active:
            rest.setdefault(each, _Piece(each, []))
    return list(rest.values())


def _numbered(name: str, pieces: Sequence[_Piece]) -> list[Segment]:
    counts: dict[Device, int] = {}
    segments = []
    for piece in pieces:
        number = counts[piece.device] = counts.get(piece.device, -1) + 1
        phase = f"{name} {number}" if number else name
        receives = tuple(copy.op.number for copy in piece.copies)  # type: ignore[union-attr]
        segments.append(Segment(piece.device, number, phase, (*piece.copies, *piece.nodes), receives))
    return segments
