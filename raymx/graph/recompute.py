"""Less memory for more work: backward makes values again shortly before it reads them, instead of keeping them since
forward.

Pure. `none` repeats only what the attribute `force_mirroring` asks for; `mirror` repeats every cheap operator, so that
the results of the heavy ones are what is kept; `sqrt` cuts forward into segments, keeps what crosses their borders and
repeats one segment at a time. Random numbers are never drawn again, and states are not moved on twice: results have the
same bits in all modes.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import accumulate

from raymx.graph import attributes
from raymx.graph.node import Entry, Node
from raymx.graph.traced import Traced, entries_of, read_by
from raymx.ops.repeat import Repeat, repeat_of

MODES = ("none", "mirror", "sqrt")
SMALL = 16  # an output this many times smaller than the largest value that its node reads or makes is kept
DEAR = ("Concat", "SoftmaxOutput")  # not heavy, but `mirror` keeps what they make, as in MXNet
CHEAP = ("BatchNorm", "_batchnorm_relu", "LRN", "Pooling")  # heavy, and repeated none the less

Gone = AbstractSet[Entry]  # the values of forward that backward makes again


def recompute(traced: Traced, mode: str = "none") -> Traced:
    """The same graph, whose backward repeats nodes of forward as `mode` says; `traced` is left as it is."""
    if not traced.backward:
        return traced
    forced = {node for node in traced.forward if _forced(node)}
    if mode == "sqrt":
        return _rewritten(traced, _best_segments(traced, forced))
    repeated = forced | {node for node in traced.forward if mode == "mirror" and _cheap(node)}
    return _rewritten(traced, _gone(traced, lambda entry: entry.node in repeated)) if repeated else traced


def _forced(node: Node) -> bool:
    return (attributes.find(node.attrs, "force_mirroring") or "").lower() in ("true", "1")


def _cheap(node: Node) -> bool:
    op = node.op
    return op is not None and (op.name in CHEAP if op.heavy else op.name not in DEAR)


def _gone(traced: Traced, unwanted: Callable[[Entry], bool]) -> Gone:
    """The unwanted values of forward, as far as they can be made again and that saves anything."""
    heads = set(traced.heads)
    large = (entry for node in traced.forward for entry in _large(traced, node))
    return {entry for entry in large if entry not in heads and unwanted(entry)}


def _large(traced: Traced, node: Node) -> list[Entry]:
    """The outputs that can be made again, without the small ones."""
    values = [*entries_of(node), *(e for e in node.inputs if e.node.op)]
    most = max(traced.specs[e].nbytes for e in values)
    return [e for e in _made(node) if traced.specs[e].nbytes * SMALL > most]


def _made(node: Node) -> list[Entry]:
    """The outputs of a node of forward that are there anew when it is repeated."""
    repeat = _repeat(node)
    return [Entry(node, i) for i, name in enumerate(node.output_names()) if repeat and name in repeat.makes]


def _reads(node: Node) -> list[Entry]:
    """What a node of forward reads when it is repeated."""
    repeat = _repeat(node)
    named = dict(zip(node.input_names(), node.inputs, strict=True))
    named.update(zip(node.output_names(), entries_of(node), strict=True))
    return [named[name] for name in repeat.reads] if repeat else []


def _repeat(node: Node) -> Repeat | None:
    return repeat_of(node.op) if node.op is not None else None


# ---- the order in which backward runs ----


def _sequence(traced: Traced, gone: Gone) -> list[Node]:
    """The nodes of backward, and before each of them those of forward that have to be repeated for it."""
    position = {node: i for i, node in enumerate(traced.forward)}
    sequence: list[Node] = []
    there: set[Node] = set()
    for node in traced.backward:
        missing = _missing(read_by(node), gone, there)
        there |= missing
        sequence += sorted(missing, key=position.__getitem__)
        sequence.append(node)
    return sequence


def _missing(entries: Iterable[Entry], gone: Gone, there: AbstractSet[Node]) -> set[Node]:
    """The nodes to repeat until `entries` can be read."""
    missing: set[Node] = set()
    stack = [e.node for e in entries if e in gone]
    while stack:
        node = stack.pop()
        if node not in there and node not in missing:
            missing.add(node)
            stack += [e.node for e in _reads(node) if e in gone]
    return missing


def _rewritten(traced: Traced, gone: Gone) -> Traced:
    """The gradient graph with the repeated nodes in it; all its nodes are new."""
    forward, specs = set(traced.forward), dict(traced.specs)
    now: dict[Entry, Entry] = {}  # what is read instead of an entry
    backward: list[Node] = []
    repeated: list[Node] = []
    for node in _sequence(traced, gone):
        again = node in forward
        new = _repeated(node, now) if again else _over(node, now)
        made = dict(zip(_made(node) if again else entries_of(node), entries_of(new), strict=True))
        specs.update((e, specs[old]) for old, e in made.items())
        now.update((old, e) for old, e in made.items() if old in gone or not again)
        backward.append(new)
        repeated += [new] if again else []
    gradients = {variable: entry and now.get(entry, entry) for variable, entry in traced.gradients.items()}
    return replace(traced, backward=backward, gradients=gradients, specs=specs, extra=frozenset(repeated))


def _over(node: Node, now: dict[Entry, Entry]) -> Node:
    """A node of backward over what it reads now."""
    return Node(node.op, node.name, node.attrs, [now.get(e, e) for e in node.inputs], node.forward)


def _repeated(node: Node, now: dict[Entry, Entry]) -> Node:
    repeat = _repeat(node)
    assert repeat is not None, f"{node!r} cannot be repeated"
    return Node(repeat.op, f"{node.name}_mirror", node.attrs, [now.get(e, e) for e in _reads(node)])


# ---- segments ----


def _best_segments(traced: Traced, forced: AbstractSet[Node]) -> Gone:
    """Borders such that as few bytes as possible are live at once: every candidate is tried on the real order."""
    kept = _kept_nbytes(traced)
    candidates = [_gone(traced, lambda entry: entry.node in forced)]
    for borders in _candidates(traced, kept):
        stays = _staying(traced, borders)
        candidates.append(_gone(traced, _leaving(stays, forced)))
    return min(candidates, key=lambda gone: _peak_nbytes(traced, gone))


def _leaving(stays: AbstractSet[Entry], forced: AbstractSet[Node]) -> Callable[[Entry], bool]:
    return lambda entry: entry.node in forced or entry not in stays


def _kept_nbytes(traced: Traced) -> list[int]:
    """By node of forward: bytes that stay until backward without recomputation."""
    read = {e for node in traced.backward for e in read_by(node)} - set(traced.heads)
    return [sum(traced.specs[e].nbytes for e in entries_of(node) if e in read) for node in traced.forward]


def _candidates(traced: Traced, kept: Sequence[int]) -> list[tuple[int, ...]]:
    """Ways to cut forward: positions before which a segment begins. Around the square root of its length, many
    segments cost what few large ones do."""
    crossing = _crossing_nbytes(traced)
    counts = range(2, 2 + 2 * math.isqrt(len(kept)))
    found = dict.fromkeys(_borders(kept, crossing, sum(kept) / count) for count in counts)
    return [borders for borders in found if borders]


def _borders(kept: Sequence[int], crossing: Sequence[int], budget: float) -> tuple[int, ...]:
    """Each segment keeps about `budget` bytes and ends, in its second half, where the fewest bytes cross."""
    borders: list[int] = []
    start, held = 0, 0
    middle = 0  # where this segment holds half of its budget
    for end, nbytes in enumerate(kept, 1):
        held += nbytes
        if held < budget / 2:
            middle = end
        if held >= budget and end < len(kept):
            border = min(range(max(middle, start) + 1, end + 1), key=lambda p: (crossing[p], -p))
            borders.append(border)
            start = middle = border
            held = sum(kept[border:end])
    return tuple(borders)


def _crossing_nbytes(traced: Traced) -> list[int]:
    """By position: bytes that were made before it and are read by forward from there on."""
    position = {node: i for i, node in enumerate(traced.forward)}
    changes = [0] * (len(position) + 1)
    for entry, last in _last_reads(traced).items():
        changes[position[entry.node] + 1] += traced.specs[entry].nbytes
        changes[last + 1] -= traced.specs[entry].nbytes
    return list(accumulate(changes))


def _last_reads(traced: Traced) -> dict[Entry, int]:
    """Where in forward each of its values is read last."""
    forward = set(traced.forward)
    return {e: i for i, node in enumerate(traced.forward) for e in read_by(node) if e.node in forward}


def _staying(traced: Traced, borders: Sequence[int]) -> set[Entry]:
    """What crosses a border, and what is made after the last one, where backward begins."""
    last = _last_reads(traced)
    stays = set()
    for made, node in enumerate(traced.forward):
        following = bisect_right(borders, made)
        for entry in entries_of(node):
            if following == len(borders) or borders[following] <= last.get(entry, -1):
                stays.add(entry)
    return stays


# ---- what it takes ----


def _peak_nbytes(traced: Traced, gone: Gone) -> int:
    """The most bytes that are live at once, if nothing is done in place; what lies outside the arena is left out."""
    new = _rewritten(traced, gone)
    lives = _lives(new)
    end = len(new.forward) + len(new.backward) + 1
    changes = [0] * (end + 1)
    for entry, (born, dies) in lives.items():
        changes[born] += new.specs[entry].nbytes
        changes[dies + 1] -= new.specs[entry].nbytes
    return max(accumulate(changes))


def _lives(traced: Traced) -> dict[Entry, tuple[int, int]]:
    """The first and last time of every value in the arena; a view counts as its source."""
    outside = {*traced.heads, *traced.gradients.values()}
    source: dict[Entry, Entry] = {}
    lives: dict[Entry, tuple[int, int]] = {}
    for time, node in enumerate([*traced.forward, *traced.backward]):
        assert node.op is not None
        if node.op.view:
            source.update((e, source.get(node.inputs[0], node.inputs[0])) for e in entries_of(node))
        for entry in (*read_by(node), *entries_of(node)):
            entry = source.get(entry, entry)
            if entry.node.op is not None and entry not in outside:
                lives[entry] = lives.get(entry, (time, time))[0], time
    return lives
