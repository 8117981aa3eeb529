"""The tape: what was computed while recording, step by step, and gradients backwards through it.

An array that is a variable, or was computed from one while recording, has an entry: output `index` of a step. A step
knows the entries of its inputs and keeps the arrays that its gradient reads, never the handles that users hold of its
outputs: so steps live exactly as long as somebody holds a result of theirs.

A step's gradient is found by an operator's own rule (`raymx.ops.gradient`), or by code on arrays where no single
operator was run (indexing, copies between devices, `autograd.Function`). For gradients of gradients, what is computed
on the way back is recorded, too; then operators need a rule made of operators: see `raymx.second_order`.

`raymx.ndarray` asks this module only while some thread records or trains.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from raymx import indexing
from raymx import ndarray as nd
from raymx.context import Context
from raymx.errors import GraphError, MXNetError, ShapeError
from raymx.ndarray import NDArray
from raymx.ops.op import Op, make
from raymx.ops.params import Shape

# ---- what is on the tape ----


class Entry(NamedTuple):
    """Output `index` of a step, or a variable."""

    step: Step | Variable
    index: int  # type: ignore[assignment]  # in the place of tuple.index


class Look(NamedTuple):
    """What an array looks like and where it is."""

    context: Context
    shape: Shape
    dtype: np.dtype

    @classmethod
    def of(cls, array: NDArray) -> Look:
        return cls(array.context, array.shape, array.dtype)

    def zeros(self) -> NDArray:
        return nd.zeros(self.shape, self.context, self.dtype)


class Variable:
    """A leaf: an array for which somebody wants a gradient, written into `grad` as `req` says."""

    __slots__ = ("grad", "req", "look", "fresh")

    def __init__(self, grad: NDArray, req: str, look: Look):
        self.grad, self.req, self.look = grad, req, look
        self.fresh = False  # whether `grad` was written since somebody said that it is not


class Step:
    """One recorded computation. `parents` are the entries of its inputs, None for constants; `keys` identify the
    inputs. `outs` are shape and dtype of the visible outputs, which lie on `context`. After `free` only the name
    is left."""

    __slots__ = ("parents", "keys", "context", "outs", "freed")
    name = ""
    op: Op | None = None  # what it is in a symbol

    def __init__(self, parents: Sequence[Entry | None], keys: tuple[int, ...], context: Context, outs: tuple):
        self.parents, self.keys, self.context, self.outs, self.freed = parents, keys, context, outs, False

    def gradients(self, gs: list[NDArray | None], wants: list[int], way: Way) -> dict[int, NDArray | None]:
        """The gradients of the inputs in `wants`, from those of the outputs; None, or missing, for zero."""
        raise NotImplementedError

    def heads(self, gs: list[NDArray | None]) -> list[NDArray]:
        """`gs`, with zeros where nothing came in."""
        return [
            nd.zeros(shape, self.context, dtype) if g is None else g
            for g, (shape, dtype) in zip(gs, self.outs, strict=True)
        ]

    def free(self) -> None:
        self.parents, self.freed = (), True


class Way(NamedTuple):
    """How to go back: with operators as in training or not, and whether what is done is recorded itself."""

    training: bool
    recorded: bool


class Recipe:
    """What recording wants to know of an operator, found once."""

    __slots__ = ("visible", "needs", "kept", "kept_visible", "differentiable", "takes_heads")

    def __init__(self, op: Op):
        self.visible = op.visible_outputs()
        self.needs = op.backward_needs()
        names, outputs = op.inputs() + op.aux(), op.outputs()
        self.kept = tuple(names.index(n) if n in names else len(names) + outputs.index(n) for n in self.needs)
        self.kept_visible = tuple(i for i, n in enumerate(outputs[: self.visible]) if n in self.needs)
        self.differentiable = frozenset(i for i, n in enumerate(op.inputs()) if op.has_gradient(n))
        self.takes_heads = op.needs_head_gradient()


def _recipe(op: Op) -> Recipe:
    known = op.__dict__.get("_recipe")
    if known is None:
        known = op.__dict__["_recipe"] = Recipe(op)
    return known


class OperatorStep(Step):
    """A call of an operator; `kept` is what its backward reads, `ins` are shape and dtype of the inputs."""

    __slots__ = ("op", "kept", "ins", "name")

    def __init__(self, op: Op, parents, keys, context, outs, ins, kept: tuple[NDArray, ...]):
        super().__init__(parents, keys, context, outs)
        self.op: Op | None = op
        self.name, self.ins, self.kept = op.name, ins, kept

    def gradients(self, gs, wants, way):
        assert self.op is not None
        op, recipe = self.op, _recipe(self.op)
        if not op.differentiable and any(g is not None for g in gs):
            raise GraphError(f"{op.name} is not differentiable, but a gradient has to pass; use BlockGrad on it.")
        wants = [i for i in wants if i in recipe.differentiable]
        if not wants or (recipe.takes_heads and all(g is None for g in gs)):
            return {}
        names, ins = op.inputs(), self.ins
        if way.recorded:
            from raymx import second_order

            found = second_order.gradients(op, self.heads(gs), self._named(), self.context, ins, wants, way)
        else:
            values = (*(self.heads(gs) if recipe.takes_heads else ()), *self.kept)
            looks = tuple(ins[i] for i in wants)
            found = nd.run_gradient(op, tuple(names[i] for i in wants), values, self.context, looks, way.training)
        return dict(zip(wants, found, strict=True))

    def _named(self) -> dict[str, NDArray]:
        """What is kept by name, on the tape: an output stands there as one of this step."""
        assert self.op is not None
        labels = self.op.outputs()
        named = dict(zip(_recipe(self.op).needs, self.kept, strict=True))
        for name in named.keys() & set(labels[: len(self.outs)]):
            named[name] = _on_tape(named[name].detach(), Entry(self, labels.index(name)))
        return named

    def free(self):
        super().free()
        self.op, self.kept = None, ()


class CodeStep(Step):
    """Something that is not one operator; `pull` takes the outputs' gradients (zeros where nothing came in) and returns
    those of the inputs, None for zero."""

    __slots__ = ("name", "op", "pull")

    def __init__(
        self, name: str, inputs: Sequence[NDArray], outputs: Sequence[NDArray],
        pull: Callable[..., Sequence[NDArray | None]], op: Op | None = None,
    ):  # fmt: skip
        outs = tuple((y.shape, y.dtype) for y in outputs)
        super().__init__(tuple(map(entry_of, inputs)), tuple(x._id for x in inputs), outputs[0].context, outs)
        self.name, self.op = name, op
        self.pull: Callable[..., Sequence[NDArray | None]] | None = pull

    def gradients(self, gs, wants, way):
        if all(g is None for g in gs):
            return {}
        assert self.pull is not None
        return dict(enumerate(self.pull(*self.heads(gs))))

    def free(self):
        super().free()
        self.pull = None


def entry_of(array: NDArray) -> Entry | None:
    """Where an array stands on the tape; None if no gradient passes through it."""
    return getattr(array, "_entry", None)


def _on_tape(array: NDArray, entry: Entry | None) -> NDArray:
    array._entry = entry
    return array


def mark(array: NDArray, grad: NDArray, req: str) -> None:
    """Make an array a variable."""
    _on_tape(array, Entry(Variable(grad, req, Look.of(array)), 0))


def variable_of(array: NDArray) -> Variable | None:
    """The variable that an array is, if it is one."""
    entry = entry_of(array)
    return entry.step if entry is not None and isinstance(entry.step, Variable) else None


# ---- the modes of a thread ----


class _Mode(threading.local):
    recording = False
    training = False


mode = _Mode()
_lock = threading.Lock()
_threads = 0  # how many record or train
_module = sys.modules[__name__]


def active() -> bool:
    """Whether this thread records or trains."""
    return mode.recording or mode.training


def set_mode(recording: bool, training: bool) -> None:
    """Switch this thread's modes; `raymx.ndarray` asks about them only while they are on in some thread."""
    global _threads
    before, after = active(), recording or training
    mode.recording, mode.training = recording, training
    if before != after:
        with _lock:
            _threads += 1 if after else -1
            nd._tape = _module if _threads else None


@contextlib.contextmanager
def _plain() -> Iterator[tuple[bool, bool]]:
    """Inside, nothing is recorded and nothing is in training; yields the modes outside: (recording, training)."""
    before = mode.recording, mode.training
    mode.recording = mode.training = False
    try:
        yield before
    finally:
        mode.recording, mode.training = before


# ---- recording: called by raymx.ndarray in the place of what it would do ----


def invoke(op: Op, inputs: Sequence[NDArray], out=None, context: Context | None = None):
    """`ndarray.invoke` in the thread's modes."""
    recording, training = mode.recording, mode.training
    if out is not None:
        outputs = _into(op, inputs, out, recording, training)
    else:
        outputs = nd.run(op, inputs, None, context, training)
        if recording:
            outputs = _record(op, inputs, outputs)
    visible = outputs if len(outputs) == 1 else outputs[: op.visible_outputs()]
    return visible[0] if len(visible) == 1 else visible


def note(op: Op, inputs: tuple[NDArray, ...], out: NDArray) -> NDArray:
    """Take in a call that has been made already, of an operator that knows no modes."""
    return _record(op, inputs, [out])[0] if mode.recording else out


def _record(op: Op, inputs: Sequence[NDArray], outputs: list[NDArray], given: int = 0) -> list[NDArray]:
    """Put a call on the tape; the first `given` outputs are the user's. Returns the handles for the user."""
    parents = [getattr(x, "_entry", None) for x in inputs]
    if not any(parents):
        return outputs
    recipe = _recipe(op)
    arrays = (*inputs, *outputs)
    step = OperatorStep(
        op, parents, tuple([x._id for x in inputs]), inputs[0].context,
        tuple([(y.shape, y.dtype) for y in outputs[: recipe.visible]]), tuple([(x.shape, x.dtype) for x in inputs]),
        tuple([arrays[i] for i in recipe.kept]),
    )  # fmt: skip
    if recipe.kept_visible:
        outputs = list(outputs)
        for i in recipe.kept_visible:
            if i >= given:
                outputs[i] = outputs[i].detach()  # what users hold must not be what the step holds
    for i in range(recipe.visible):
        outputs[i]._entry = Entry(step, i)
    return outputs


def _into(op: Op, inputs: Sequence[NDArray], out, recording: bool, training: bool) -> list[NDArray]:
    """A call whose outputs are given."""
    given = list(out) if isinstance(out, (list, tuple)) else [out]
    for each in given if recording else ():
        _refuse_change(each, op.name)
    with _plain():
        if recording:  # copies of what will be overwritten
            written = {y._var for y in given if isinstance(y, NDArray)}
            states = inputs[len(op.inputs()) :]
            inputs = [_on_tape(x.copy(), entry_of(x)) if isinstance(x, NDArray) and x._var in written else x
                      for x in inputs[: len(op.inputs())]]  # fmt: skip
            inputs += states
        outputs = nd.run(op, inputs, out, None, training)
        return _record(op, inputs, outputs, len(given)) if recording else outputs


def _refuse_change(array: NDArray, what: str) -> None:
    if isinstance(array, NDArray) and entry_of(array) is not None:
        raise MXNetError(
            f"{what}: an array that is a variable or was computed while recording cannot be changed in place (+=, "
            "x[:] = …, out=) while recording; make a new one, or change it within autograd.pause()."
        )


def copy(target: NDArray, source: NDArray) -> None:
    """`target._take(source)`: between devices, element types, and shapes that broadcast."""
    recording = mode.recording
    if recording:
        _refuse_change(target, "copy")
    with _plain():
        target._take(source)
    if recording and entry_of(source) is not None:
        to = Look.of(source)
        op = make("_copy") if target.dtype == source.dtype else make("Cast", dtype=target.dtype)
        step = CodeStep("copy", [source], [target], lambda g: [_back(g, to)], op if target.shape == to.shape else None)
        target._entry = Entry(step, 0)


def _back(g: NDArray, to: Look) -> NDArray:
    """`g` where it came from: summed over what was stretched, converted, and on its device."""
    return _summed(g, to.shape).astype(to.dtype, copy=False).as_in_context(to.context)


def _summed(g: NDArray, shape: Shape) -> NDArray:
    """The gradient of something of `shape` that was stretched to the shape of `g`."""
    if g.shape == shape:
        return g
    lead = max(len(g.shape) - len(shape), 0)
    padded = (1,) * (len(g.shape) - len(shape)) + shape
    axes = tuple(i for i in range(len(g.shape)) if i < lead or padded[i] == 1 < g.shape[i])
    return (g.sum(axis=axes, keepdims=True) if axes else g).reshape(shape)


def reshape(array: NDArray, shape: Shape) -> NDArray:
    with _plain() as (recording, _):
        view = array._reshaped(shape)
    if recording and entry_of(array) is not None:
        before = array.shape
        step = CodeStep("Reshape", [array], [view], lambda g: [g.reshape(before)], make("Reshape", shape=shape))
        view._entry = Entry(step, 0)
    return view


def index(array: NDArray, key) -> NDArray:
    """`array[key]`."""
    if not mode.recording or entry_of(array) is None:
        with _plain():
            return array._part(key)
    with _plain():
        found = array._resolve(key)
        if isinstance(found, indexing.Window):
            part = array._part(key)
        else:
            numbers = np.arange(array.size).reshape(array.shape)[found.index].reshape(-1)
            places = nd.array(numbers, array.context, "int32" if array.size < 1 << 31 else "int64")
    if not isinstance(found, indexing.Window):
        return invoke(make("take"), (array.reshape((-1,)), places)).reshape(found.shape)
    look = Look.of(array)

    def pull(g: NDArray):
        whole = look.zeros()
        whole[key] = g.reshape(whole._part(key).shape)
        return [whole]

    part._entry = Entry(CodeStep("slice", [array], [part], pull), 0)
    return part


def assign(array: NDArray, key, value) -> None:
    """`array[key] = value`."""
    if mode.recording:
        _refuse_change(array, "assignment")
    with _plain() as (recording, _):
        array[key] = value
    if recording and isinstance(value, NDArray) and entry_of(value) is not None:
        to = Look.of(value)
        array._entry = Entry(CodeStep("assign", [value], [array], lambda g: [_back(_fit(g[key], to), to)]), 0)


def _fit(g: NDArray, to: Look) -> NDArray:
    """Assignment drops axes of size 1 of the value that are too many."""
    excess = len(to.shape) - len(g.shape)
    return g.reshape((1,) * excess + g.shape) if excess > 0 else g


# ---- going back ----


def differentiate(
    heads: Sequence[NDArray],
    head_grads: Sequence[NDArray | None],
    targets: Sequence[Entry] | None,
    way: Way,
    retain: bool,
) -> dict[Entry, NDArray | None]:
    """The gradients of `heads` for `targets` (all variables if None) that were met, None for zero. Steps on the way are
    freed unless `retain`. Raises GraphError where a head is not on the tape, or on a part of it that was freed."""
    entries = [_head_entry(head, i) for i, head in enumerate(heads)]
    order = _topological(entries)
    useful = _useful(order, targets)
    totals: dict[Entry, NDArray] = {}
    for head, entry, g in zip(heads, entries, head_grads, strict=True):
        incoming = _head_grad(head, g)
        totals[entry] = totals[entry] + incoming if entry in totals else incoming
    for step in reversed(order):
        if isinstance(step, Step) and step in useful:
            _pull(step, useful, totals, way)
    met = [Entry(s, 0) for s in order if isinstance(s, Variable)] if targets is None else targets
    found = {entry: totals.get(entry) for entry in met}
    if not retain:
        for step in order:
            if isinstance(step, Step):
                step.free()
    return found


def _pull(step: Step, useful: set, totals: dict[Entry, NDArray], way: Way) -> None:
    """Hand the gradients of a step's outputs on to its inputs."""
    wants = [i for i, parent in enumerate(step.parents) if parent is not None and parent.step in useful]
    if not wants:
        return
    gs = [totals.get(Entry(step, i)) for i in range(len(step.outs))]
    found = step.gradients(gs, wants, way)
    for i in wants:
        parent, part = step.parents[i], found.get(i)
        if parent is not None and part is not None:
            totals[parent] = totals[parent] + part if parent in totals else part


def _head_entry(head: NDArray, i: int) -> Entry:
    entry = entry_of(head)
    if entry is None:
        raise GraphError(
            f"backward: head {i} was not computed from a variable while recording; call attach_grad() on the variables "
            "first, and compute within autograd.record()."
        )
    return entry


def _head_grad(head: NDArray, g: NDArray | None) -> NDArray:
    if g is None:
        return nd.ones(head.shape, head.context, head.dtype)
    if g.shape != head.shape:
        raise ShapeError(f"backward: the gradient of a head must have its shape {head.shape}, got {g.shape}.")
    return g.as_in_context(head.context).astype(head.dtype, copy=False)


def _topological(heads: Iterable[Entry]) -> list[Step | Variable]:
    """What `heads` were computed from, inputs before users."""
    order: list[Step | Variable] = []
    seen: set[int] = set()
    for head in heads:
        stack: list[tuple[Step | Variable, Iterator[Entry | None]]] = []
        _visit(head.step, seen, stack, order)
        while stack:
            step, parents = stack[-1]
            parent = next(parents, _DONE)
            if parent is _DONE:
                order.append(step)
                stack.pop()
            elif parent is not None:
                _visit(parent.step, seen, stack, order)
    return order


_DONE: Any = object()


def _visit(step, seen: set[int], stack, order) -> None:
    if id(step) in seen:
        return
    seen.add(id(step))
    if isinstance(step, Variable):
        order.append(step)
        return
    if step.freed:
        raise GraphError(
            f"backward: the record of {step.name} was freed by an earlier backward through it; pass retain_graph=True "
            "to all but the last one."
        )
    stack.append((step, iter(step.parents)))


def _useful(order: Sequence[Step | Variable], targets: Sequence[Entry] | None) -> set:
    """The steps and variables whose outputs' gradients matter."""
    if targets is None:
        return {s for s in order if isinstance(s, Step) or s.req != "null"}
    useful: set = {entry.step for entry in targets}
    for step in order:
        if isinstance(step, Step) and any(p is not None and p.step in useful for p in step.parents):
            useful.add(step)
    return useful
