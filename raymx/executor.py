"""Bound symbols: a graph compiled over arrays of one device, run by one instruction per pass.

    exe = net.simple_bind(mx.cpu(), data=(64, 784))
    exe.forward(is_train=True, data=batch)
    exe.backward()
    exe.grad_dict["fc1_weight"]

A pass is an ordinary task of the engine: it reads and writes the arrays that are bound, in order with everything else
that uses them, and returns at once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from raymx import config
from raymx import ndarray as nd
from raymx.binding import (
    Arena,
    Bound,
    by_name,
    check_head_grad,
    check_shape,
    infer_variables,
    make_arrays,
    refuse_unknown,
    resized,
    shapes_by_node,
    some,
    take_arrays,
    total_nbytes,
    traced_graph,
)
from raymx.context import Context
from raymx.errors import BindError, GraphError, did_you_mean
from raymx.graph.compile import AFTER_PREDICTION, Arrays, Spec, Traced, entries_of, lower
from raymx.graph.fuse import fuse
from raymx.graph.layout import lay_out
from raymx.graph.node import Entry, Node, argument_nodes, aux_nodes, topological
from raymx.ndarray import NDArray


class MemoryReport(NamedTuple):
    """Bytes that an executor uses."""

    planned_nbytes: int  # intermediate values of forward and backward, as they are planned
    unplanned_nbytes: int  # what these would take if no two shared memory
    arguments_nbytes: int
    gradients_nbytes: int
    states_nbytes: int
    outputs_nbytes: int  # with the arrays for head gradients


class Executor:
    """A symbol bound to arrays; made by `Symbol.bind` and `Symbol.simple_bind`.

    - `arg_arrays`, `grad_arrays`, `aux_arrays` are in the order of `list_arguments` and `list_auxiliary_states`; a
      gradient is None where there is no array for one.
    - `outputs` holds one array per output of the symbol, there from the start and always the same; they may be changed
      and handed back as head gradients.
    - `arenas` tells how `simple_bind` laid out what is learnt; empty otherwise.

    All arrays stay the user's: what is written into an argument is seen by the next pass.
    """

    def __init__(
        self, who: str, symbol, ctx: Context, bound: Bound, shared: Executor | None = None, outputs=(), arenas=()
    ):  # fmt: skip
        self._symbol, self._ctx, self._lane, self._reqs = symbol, ctx, ctx.lane, bound.reqs
        self.arg_arrays, self.grad_arrays, self.aux_arrays = bound.args, bound.grads, bound.aux
        self.arenas: tuple[Arena, ...] = tuple(arenas)
        self._argument_names, self._output_names = symbol.list_arguments(), symbol.list_outputs()
        order = topological(symbol.heads)
        self._arguments, self._states = argument_nodes(order), aux_nodes(order)
        self._traced = self._trace(who, fused=True)
        reused = list(outputs) or [None] * len(symbol.heads)
        self.outputs: list[NDArray] = [
            self._new(head) if old is None else resized(old, self._traced.specs[head].shape)
            for head, old in zip(self._traced.heads, reused, strict=True)
        ]
        self._head_grads = [None if g is None else self._new(Entry(g)) for g in self._traced.head_grads]
        self._arena: NDArray | None = shared._arena if shared is not None and shared._lane is self._lane else None
        self._monitor: _Monitor | None = None
        self._drop_program: Callable[[], Any] | None = None
        self._compile({})

    def __repr__(self) -> str:
        return f"<Executor of {self._symbol!r} on {self._ctx}>"

    # ---- running ----

    def forward(self, is_train: bool = False, **arrays) -> list[NDArray]:
        """Compute the outputs from the arguments and return them, without waiting.

        Keywords are copied into the arguments of that name first; they may be arrays of any device. Raises BindError
        for an unknown name or another shape than was bound.
        """
        for name, value in arrays.items():
            self._feed(name, value)
        self._run("forward", bool(is_train))
        self._ready, self._trained = True, bool(is_train)
        return self.outputs

    def backward(self, out_grads=None, is_train: bool = True) -> None:
        """Compute the gradients for the last `forward`, without waiting; `grad_req` said how they are written.

        `out_grads` is the gradient that comes in at each output: an array, a list in the order of the outputs, or a
        dict by their names. Losses need none and ignore it. Raises BindError where one is needed and missing or of
        another shape, GraphError if there was no forward.
        """
        if not self._traced.trains:
            return
        if not self._ready:
            raise GraphError(
                f"{self!r}: backward uses up what forward left in memory; call forward() before each backward()."
            )
        given = self._given_head_grads(out_grads)
        for name, target, value in zip(self._output_names, self._head_grads, given, strict=True):
            if target is not None:
                check_head_grad(name, target, value)
                target[:] = value
        self._run("backward", bool(is_train))
        self._ready = self._compiled.repeatable

    def _run(self, phase: str, is_train: bool) -> None:
        variant = phase
        if phase == "backward" and not self._trained and phase + AFTER_PREDICTION in self._access:
            variant += AFTER_PREDICTION
        reads, writes = self._access[variant]
        self._lane.run_program(self._program, variant, is_train, reads, writes)
        if self._monitor is not None:
            self._monitor.show(phase)

    def _feed(self, name: str, value) -> None:
        names = self._argument_names
        count = names.count(name)
        if count != 1:
            what = f"{count} arguments are" if count else "no argument is"
            raise BindError(f"forward: {what} called {name!r}{did_you_mean(name, names)} (arguments: {some(names)}).")
        target = self.arg_arrays[names.index(name)]
        value = value if isinstance(value, NDArray) else np.asarray(value)
        if value.shape != target.shape:
            raise BindError(
                f"forward: {name} must have shape {target.shape}, as it was bound, got {value.shape}; see reshape()."
            )
        target[:] = value

    def _given_head_grads(self, out_grads) -> list[Any]:
        names = self._output_names
        if isinstance(out_grads, Mapping):
            refuse_unknown("backward: out_grads", out_grads, names, "output")
            return [out_grads.get(name) for name in names]
        if out_grads is None:
            return [None] * len(names)
        given = [out_grads] if isinstance(out_grads, (NDArray, np.ndarray)) else list(out_grads)
        if len(given) != len(names):
            raise BindError(
                f"backward: out_grads must hold one array per output, {len(names)} ({some(names)}), got {len(given)}."
            )
        return given

    # ---- arrays by name ----

    @cached_property
    def arg_dict(self) -> dict[str, NDArray]:
        """Arguments by name. Raises BindError if two bear one name, as do the others."""
        return by_name("arguments", self._argument_names, self.arg_arrays)

    @cached_property
    def grad_dict(self) -> dict[str, NDArray | None]:
        """Gradients by the names of their arguments."""
        return by_name("arguments", self._argument_names, self.grad_arrays)

    @cached_property
    def aux_dict(self) -> dict[str, NDArray]:
        """Auxiliary states by name."""
        return by_name("auxiliary states", [node.name for node in self._states], self.aux_arrays)

    @cached_property
    def output_dict(self) -> dict[str, NDArray]:
        """Outputs by name."""
        return by_name("outputs", self._output_names, self.outputs)

    def copy_params_from(
        self, arg_params: Mapping, aux_params: Mapping | None = None, allow_extra_params: bool = False
    ) -> None:
        """Copy values, from any device and of any dtype, into the arguments and states of the same names.

        Raises BindError for another shape, and for a name that the symbol lacks unless `allow_extra_params`.
        """
        for what, params, targets in (
            ("arg_params", arg_params, self.arg_dict),
            ("aux_params", aux_params or {}, self.aux_dict),
        ):
            if not allow_extra_params:
                noun = "argument" if what == "arg_params" else "auxiliary state"
                refuse_unknown(f"copy_params_from: {what}", params, list(targets), noun)
            for name, value in params.items():
                if name in targets:
                    check_shape(f"copy_params_from: {what}[{name!r}]", value, targets[name].shape)
                    targets[name][:] = value

    # ---- other shapes ----

    def reshape(self, partial_shaping: bool = False, allow_up_sizing: bool = False, **shapes) -> Executor:
        """A new executor for inputs of other shapes, on the same memory: each overwrites what the other computed.

        `partial_shaping` lets arguments that are not named in `shapes` change their shape, too; `allow_up_sizing` lets
        arrays grow, which then are new ones. Raises BindError where that is needed and not allowed.
        """
        types = {node: array.dtype for node, array in self._by_node()}
        order = topological(self._symbol.heads)
        specs = infer_variables("reshape", order, shapes_by_node("reshape", order, shapes), types)
        for node, array in self._by_node():
            if node.name not in shapes and specs[node].shape != array.shape and not partial_shaping:
                raise BindError(
                    f"reshape: {node.name} would change from {array.shape} to {specs[node].shape} and would no longer "
                    "be shared as it is; name it, too, or say partial_shaping=True."
                )
            if specs[node].nbytes > array.nbytes and not allow_up_sizing:
                raise BindError(
                    f"reshape: {node.name} would grow from {array.shape} to {specs[node].shape} and could no longer "
                    "be shared; bind the largest shapes first, or say allow_up_sizing=True."
                )
        arguments = [specs[node].shape for node in self._arguments]
        bound = Bound(
            [resized(x, shape) for x, shape in zip(self.arg_arrays, arguments, strict=True)],
            [None if x is None else resized(x, shape) for x, shape in zip(self.grad_arrays, arguments, strict=True)],
            self._reqs,
            [resized(x, specs[node].shape) for x, node in zip(self.aux_arrays, self._states, strict=True)],
        )
        return Executor("reshape", self._symbol, self._ctx, bound, self, self.outputs)

    # ---- looking inside ----

    def set_monitor_callback(self, callback: Callable[[str, NDArray], Any] | None, monitor_all: bool = False) -> None:
        """Call `callback(name, array)` for every value that a pass computes, after the pass; None ends that.

        Values are called `<node>_<output>` and gradients `<node>_backward_<input>`; with `monitor_all`, what forward
        reads comes as well, as `<node>_<input>`. While a monitor is set, no two values share memory, and backward
        computes the gradients of all arguments. The next `backward` needs a new `forward`.
        """
        self._monitor = None
        self._traced = self._trace("set_monitor_callback", fused=callback is None)
        if callback is None:
            self._compile({})
            return
        self._traced = self._watched()
        made = self._traced.forward + self._traced.gradient_nodes
        kept = {e: self._new(e) for node in made for e in entries_of(node)}
        self._compile(kept)
        known = {Entry(node): array for node, array in self._by_node()}
        self._monitor = _Monitor(callback, monitor_all, self._traced, {**known, **kept})

    def _watched(self) -> Traced:
        """The graph with gradients of all arguments, if there are some and no head wants more for it."""
        if not self._traced.trains:
            return self._traced
        traced = traced_graph("set_monitor_callback", self._symbol.heads, self._variables(), self._arguments)
        used = [[g is None for g in each.head_grads] for each in (traced, self._traced)]
        return traced if used[0] == used[1] else self._traced

    def memory_report(self) -> MemoryReport:
        """How many bytes the executor uses, and what the memory plan saves."""
        return MemoryReport(
            self._compiled.program.arena_nbytes,
            self._compiled.unplanned_nbytes,
            total_nbytes(self.arg_arrays),
            total_nbytes(self.grad_arrays),
            total_nbytes(self.aux_arrays),
            total_nbytes([*self.outputs, *self._head_grads]),
        )

    def debug_str(self) -> str:
        """The program as text, for people: a line per step with the places that it reads and writes, and the memory."""
        program, names = self._compiled.program, self._place_names()
        lines = [f"{self!r}"]

        def place(slot: int) -> str:
            at = program.slots[slot]
            where = f"arena+{at.offset}" if at.array is None else names[at.array]
            return f"{where} {at.shape} {at.layout}".rstrip()

        for phase, steps in program.phases.items():
            lines.append(f"{phase}: {len(steps)} steps")
            for step in steps:
                ins, outs = (", ".join(map(place, slots)) for slots in (step.ins, step.outs))
                lines.append(f"  {step.op.name} {step.name!r}: {ins} -> {outs}")
        planned, unplanned = self.memory_report()[:2]
        lines.append(f"Total {planned >> 20} MB allocated ({planned} bytes, {unplanned} without sharing)")
        return "\n".join(lines) + "\n"

    def _place_names(self) -> dict[int, str]:
        names = {array._id: node.name for node, array in self._by_node()}
        for node, grad in zip(self._arguments, self.grad_arrays, strict=True):
            names.update({} if grad is None else {grad._id: f"gradient of {node.name}"})
        for name, output, head_grad in zip(self._output_names, self.outputs, self._head_grads, strict=True):
            names[output._id] = name
            names.update({} if head_grad is None else {head_grad._id: f"gradient at {name}"})
        names.update((array._id, f"{e.node.name}[{e.index}]") for e, array in self._kept.items())
        return names

    # ---- compiling ----

    def _compile(self, kept: dict[Entry, NDArray]) -> None:
        """Plan, ship the program, and forget the one before; `kept` are arrays for values that shall stay."""
        self._kept = kept
        wanted = zip(self._arguments, self._reqs, self.grad_arrays, strict=True)
        grads = {node: (req, grad) for node, req, grad in wanted if req != "null" and grad is not None}
        arrays = Arrays(
            {node: array._id for node, array in self._by_node()},
            [x._id for x in self.outputs],
            {node: (req, grad._id) for node, (req, grad) in grads.items()},
            [None if x is None else x._id for x in self._head_grads],
            frozenset(grad._id for _, grad in grads.values() if grad._strides is not None),
            {entry: array._id for entry, array in kept.items()},
        )
        self._compiled = lower(self._traced if kept else self._laid_out(), arrays)
        program = self._compiled.program
        if program.arena_nbytes:
            self._arena = self._arena_of(program.arena_nbytes)
            program.arena = self._arena._id
        if self._drop_program is not None:
            self._drop_program()
        self._program = self._lane.new_program(program)
        finalizer = weakref.finalize(self, self._lane.drop_program, self._program)
        finalizer.atexit = False
        self._drop_program = finalizer
        self._access = {phase: self._variables_of(phase) for phase in program.phases}
        self._ready = False  # whether backward can go back through what forward left

    def _trace(self, who: str, fused: bool) -> Traced:
        """The graph with its gradient; `fused` lets nodes be joined and dropped."""
        wrt = [node for node, req in zip(self._arguments, self._reqs, strict=True) if req != "null"]
        pairs = "onednn" in self._lane.kernels and config.get("recompute") == "none"
        simplify = partial(fuse, pairs=pairs) if fused and config.get("fuse") else None
        return traced_graph(who, self._symbol.heads, self._variables(), wrt, simplify)

    def _laid_out(self) -> Traced:
        """The graph with layouts, where the device has kernels that know them."""
        knows = config.get("layouts") and "onednn" in self._lane.kernels
        return lay_out(self._traced) if knows else self._traced

    def _arena_of(self, nbytes: int) -> NDArray:
        if self._arena is not None and self._arena.size >= nbytes:
            return self._arena
        return nd.empty((nbytes,), self._ctx, "uint8")

    def _variables_of(self, phase: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The engine's variables that a phase reads and writes."""
        program = self._compiled.program
        tags = {array._id: array._var for array in self._all_arrays()}
        reads, writes = ({tags[i]: None for i in ids} for ids in (program.reads(phase), program.writes(phase)))
        if phase in self._compiled.random:
            writes[self._lane.rng_var] = None
        return (*reads, self._program), tuple(writes)

    def _all_arrays(self) -> list[NDArray]:
        lists: Iterable = (
            self.arg_arrays, self.grad_arrays, self.aux_arrays, self.outputs, self._head_grads, self._kept.values(),
            [self._arena],
        )  # fmt: skip
        return [array for each in lists for array in each if array is not None]

    def _by_node(self) -> list[tuple[Node, NDArray]]:
        return [
            *zip(self._arguments, self.arg_arrays, strict=True),
            *zip(self._states, self.aux_arrays, strict=True),
        ]

    def _variables(self) -> dict[Node, Spec]:
        return {node: Spec(array.shape, array.dtype) for node, array in self._by_node()}

    def _new(self, entry: Entry) -> NDArray:
        shape, dtype = self._traced.specs[entry]
        return nd.empty(shape, self._ctx, dtype)


class _Monitor:
    """Shows values that a program leaves in arrays of their own."""

    def __init__(self, callback, monitor_all: bool, traced, arrays: Mapping[Entry, NDArray]):
        self._callback = callback
        self._shown = {
            phase: [(label, arrays[e]) for node in nodes for label, e in _labelled(node, with_inputs)]
            for phase, nodes, with_inputs in (
                ("forward", traced.forward, monitor_all),
                ("backward", traced.gradient_nodes, False),
            )
        }
        ctx = next(iter(arrays.values())).context
        for node in traced.gradient_nodes:
            for label, entry in _zero_gradients(node):
                self._shown["backward"].append((label, nd.zeros(traced.specs[entry].shape, ctx)))

    def show(self, phase: str) -> None:
        """Hand every value of a phase to the callback, in the order in which they were computed."""
        for label, array in self._shown[phase]:
            self._callback(label, array)


def _labelled(node: Node, with_inputs: bool) -> list[tuple[str, Entry]]:
    """The names and entries that a monitor is shown of one node."""
    shown = []
    if with_inputs:
        shown += [(f"{node.name}_{n}", e) for n, e in zip(node.input_names(), node.inputs, strict=True)]
    labels = node.op.output_labels() if node.op else ()
    return shown + [(f"{node.name}_{label.removeprefix('d_')}", Entry(node, i)) for i, label in enumerate(labels)]


def _zero_gradients(node: Node) -> list[tuple[str, Entry]]:
    """The names of gradients that are zero, such as those at labels, with what they are gradients of."""
    if node.forward is None or node.forward.op is None:
        return []
    made, inputs = set(node.output_names()), set(node.forward.op.inputs())
    pairs = zip(node.forward.input_names(), node.forward.inputs, strict=True)
    return [(f"{node.name}_{n}", e) for n, e in pairs if n in inputs and f"d_{n}" not in made]


def bind(
    symbol, ctx, args, args_grad=None, grad_req="write", aux_states=None, group2ctx=None, shared_exec=None
) -> Executor:
    """Bind a symbol to arrays on `ctx`.

    - args: an array for each argument, as a list in the order of `list_arguments` or a dict by name.
    - args_grad: arrays that take the gradients, likewise; None or left out for none.
    - grad_req: "write", "add" or "null", as a word, a list or a dict; a name that a dict lacks is "null".
    - aux_states: arrays for the auxiliary states, as a list or dict.
    - group2ctx: contexts by `ctx_group`; they must be `ctx`, so far.
    - shared_exec: an executor whose memory for intermediate values is used as well; run one of them at a time.

    Raises BindError for arrays that are missing, unknown, on another device or of another shape or dtype.
    """
    bound = take_arrays(symbol, ctx, args, args_grad, grad_req, aux_states, group2ctx)
    return Executor("bind", symbol, ctx, bound, shared_exec)


def simple_bind(
    symbol, ctx, grad_req="write", type_dict=None, group2ctx=None, shared_exec=None, /, **shapes
) -> Executor:  # fmt: skip
    """Bind a symbol to new arrays of zeros; shapes and dtypes follow from `shapes` and `type_dict` (both by name).

    What is learnt (arguments with a gradient that `shapes` does not name) lies in one array per dtype, see
    `Executor.arenas`. Raises BindError for unknown names and for shapes that cannot be told.
    """
    bound, arenas = make_arrays(symbol, ctx, grad_req, type_dict, group2ctx, shapes)
    return Executor("simple_bind", symbol, ctx, bound, shared_exec, arenas=arenas)
