"""Bound symbols: a graph compiled over arrays of one device, run by one instruction per pass.

    exe = net.simple_bind(mx.cpu(), data=(64, 784))
    exe.forward(is_train=True, data=batch)
    exe.backward()
    exe.grad_dict["fc1_weight"]

A pass is an ordinary task of the engine: it reads and writes the arrays that are bound, in order with everything else
that uses them, and returns at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    home,
    infer_variables,
    make_arrays,
    refuse_unknown,
    resized,
    shapes_by_node,
    some,
    take_arrays,
    traced_graph,
)
from raymx.context import Context
from raymx.dispatch import Loaded, Staged, Together, in_stages
from raymx.errors import BindError, GraphError, did_you_mean
from raymx.graph.batch import batch
from raymx.graph.compile import Arrays, Spec, Traced, entries_of, lower
from raymx.graph.fuse import fuse
from raymx.graph.layout import lay_out
from raymx.graph.marks import origin
from raymx.graph.node import Entry, Node, argument_nodes, aux_nodes, topological
from raymx.graph.placement import Part, Placed, device_of_group, parts, place
from raymx.graph.stages import staged
from raymx.ndarray import NDArray
from raymx.ops.program import Program


class MemoryReport(NamedTuple):
    """Bytes that an executor uses."""

    planned_nbytes: int  # intermediate values of forward and backward, as they are planned
    unplanned_nbytes: int  # what these would take if no two shared memory
    arguments_nbytes: int
    gradients_nbytes: int
    states_nbytes: int
    outputs_nbytes: int  # with the arrays for head gradients
    copies_nbytes: int = 0  # where values of other devices arrive
    devices: Mapping[Context, MemoryReport] = {}  # the same for each device, if there are several


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
        self, who: str, symbol, ctx: Context, bound: Bound, shared: Executor | None = None, outputs=(), arenas=(),
        staged: bool = False,
    ):  # fmt: skip
        self._symbol, self._ctx, self._reqs, self._groups = symbol, ctx, bound.reqs, bound.groups
        self.arg_arrays, self.grad_arrays, self.aux_arrays = bound.args, bound.grads, bound.aux
        self.arenas: tuple[Arena, ...] = tuple(arenas)
        self._staged: bool = staged or (shared is not None and shared._staged)  # whether backward may be cut
        self._argument_names, self._output_names = symbol.list_arguments(), symbol.list_outputs()
        order = topological(symbol.heads)
        self._arguments, self._states = argument_nodes(order), aux_nodes(order)
        default = home(self._ctx)
        used = {device_of_group(node, self._groups, default) for node in order if node.op}
        self._several = not used.union(self._devices().values()) <= {default}
        self._place(self._trace(who, fused=True))
        reused = list(outputs) or [None] * len(symbol.heads)
        self.outputs: list[NDArray] = [
            self._new(head) if old is None else resized(old, self._traced.specs[head].shape)
            for head, old in zip(self._traced.heads, reused, strict=True)
        ]
        self._head_grads = [None if g is None else self._new(Entry(g)) for g in self._traced.head_grads]
        self._memory: dict[Context, NDArray] = {} if shared is None else dict(shared._memory)  # the arenas
        self._monitor: _Monitor | None = None
        self._trained = True
        computed = {*self._traced.forward}  # whether backward reads more than arguments and head gradients:
        self._reads_forward = any(e.node in computed for node in self._traced.backward for e in node.inputs)
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
        self._trained = bool(is_train)
        self._run("forward", self._trained)
        self._ready = True
        return self.outputs

    def backward(self, out_grads=None, is_train: bool = True) -> None:
        """Compute the gradients for the last `forward`, without waiting; `grad_req` said how they are written.

        `out_grads` is the gradient that comes in at each output: an array, a list in the order of the outputs, or a
        dict by their names. Losses need none and ignore it. Raises BindError where one is needed and missing or of
        another shape, GraphError if there was no forward although something that it made is needed.
        """
        if not self._traced.trains:
            return
        if not self._ready and not self._reads_forward:
            self._run("forward", self._trained)  # for what the program prepares there
        elif not self._ready:
            raise GraphError(
                f"{self!r}: backward uses up what forward left in memory; call forward() before each backward()."
            )
        given = self._given_head_grads(out_grads)
        for name, target, value in zip(self._output_names, self._head_grads, given, strict=True):
            if target is not None:
                check_head_grad(name, target, value)
                target[:] = value
        self._run("backward", bool(is_train))
        self._ready = self._repeatable

    def _run(self, phase: str, is_train: bool) -> None:
        self._passes.run(phase, is_train, self._trained)
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
            self._groups,
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
        traced = self._trace("set_monitor_callback", fused=callback is None)
        self._place(traced if callback is None else self._watched(traced))
        if callback is None:
            self._compile({})
            return
        made = self._traced.shown(self._traced.forward + self._traced.backward)
        kept = {e: self._new(e) for node in made for e in entries_of(node)}
        self._compile(kept)
        known = {Entry(node): array for node, array in self._by_node()}
        self._monitor = _Monitor(callback, monitor_all, self._traced, {**known, **kept})

    def _watched(self, traced: Traced) -> Traced:
        """The graph with gradients of all arguments, if there are some and no head wants more for it."""
        if not traced.trains:
            return traced
        every = traced_graph("set_monitor_callback", self._symbol.heads, self._variables(), self._arguments)
        used = [[g is None for g in each.head_grads] for each in (every, traced)]
        return every if used[0] == used[1] else traced

    def memory_report(self) -> MemoryReport:
        """How many bytes the executor uses, and what the memory plan saves."""
        by_device = {each.context: self._report([each]) for each in self._loaded}
        return self._report(self._loaded)._replace(devices=by_device if self._placed else {})

    def _report(self, loaded: Sequence[Loaded]) -> MemoryReport:
        where = {each.context for each in loaded}

        def nbytes(arrays: Iterable[NDArray | None]) -> int:
            return sum(x.nbytes for x in arrays if x is not None and (not self._placed or home(x.context) in where))

        return MemoryReport(
            sum(each.compiled.program.arena_nbytes for each in loaded),
            sum(each.compiled.unplanned_nbytes for each in loaded),
            nbytes(self.arg_arrays),
            nbytes(self.grad_arrays),
            nbytes(self.aux_arrays),
            nbytes([*self.outputs, *self._head_grads]),
            nbytes(self._boxes),
        )

    def debug_str(self) -> str:
        """The programs as text, for people: a line per step with the places that it reads and writes, and the memory;
        on several devices, for each of them, with the copies between them."""
        names = self._place_names()
        lines = [f"{self!r}"]
        for each in self._loaded:
            lines += [f"on {each.context}:"] if self._placed else []
            lines += _listing(each.compiled.program, names)
        lines += _copies(self._placed.copies, self._placed.device) if self._placed else []
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
        names.update((array._id, "copy") for array in self._boxes)
        return names

    # ---- compiling ----

    def _trace(self, who: str, fused: bool) -> Traced:
        """The graph with its gradient; `fused` lets nodes be joined and dropped."""
        wrt = [node for node, req in zip(self._arguments, self._reqs, strict=True) if req != "null"]
        joins = config.get("recompute") == "none" and not self._several  # a device would wait for all steps of another
        pairs = "onednn" in self._ctx.lane.kernels
        simplify = partial(_simplified, pairs=pairs, joins=joins) if fused and config.get("fuse") else None
        return traced_graph(who, self._symbol.heads, self._variables(), wrt, simplify)

    def _devices(self) -> dict[Node, Context]:
        """Where each variable is."""
        return {node: home(array.context) for node, array in self._by_node()}

    def _place(self, traced: Traced) -> None:
        """Take this graph; if it is on several devices, with copies between them."""
        placed = place(traced, self._devices(), self._groups, home(self._ctx)) if self._several else None
        self._placed, self._traced = placed, placed.traced if placed else traced

    def _compile(self, kept: dict[Entry, NDArray]) -> None:
        """Plan, ship the programs, and forget those before; `kept` are arrays for values that shall stay."""
        self._kept, self._ready = kept, False  # ready: whether backward can go back through what forward left
        self._boxes: list[NDArray] = []
        if self._placed is None:
            part = Part(home(self._ctx), self._traced, tuple(range(len(self.outputs))))
            self._loaded = [self._load(part, {})]
            self._passes: Loaded | Together | Staged = in_stages(self._loaded[0])
        else:
            self._compile_parts(self._placed)
        self._repeatable = all(each.compiled.repeatable for each in self._loaded)

    def _compile_parts(self, placed: Placed) -> None:
        """One program per device, and what travels between them."""
        grads = {node: grad for node, req, grad in self._wanted() if req == "write" and grad._strides is None}
        shared = Counter(grad._id for _, _, grad in self._wanted())
        cut = parts(placed, [node for node, grad in grads.items() if shared[grad._id] == 1])
        boxes = {ctx: [nd.empty(s.shape, ctx, s.dtype) for s in specs] for ctx, specs in cut.boxes.items()}
        self._boxes = [box for each in boxes.values() for box in each]
        targets = {
            number: boxes[placed.device[placed.copies[number]]][arrival.box]
            if arrival.gradient is None else grads[arrival.gradient]
            for number, arrival in cut.arrivals.items()
        }  # fmt: skip
        self._loaded = [self._load(part, targets) for part in cut.parts]
        by_device = {each.context: each for each in self._loaded}
        given = dict(self._by_node())
        head_grads = zip(self._traced.head_grads, self._head_grads, strict=True)
        given.update((g, x) for g, x in head_grads if g is not None and x is not None)
        sources = {}
        for number, copy in enumerate(placed.copies):
            node = copy.inputs[0].node
            sources[number] = given[node] if node in given else by_device[placed.device[node]].leaving(number)
        self._passes = Together(by_device, cut, sources, targets)

    def _load(self, part: Part, targets: Mapping[int, NDArray]) -> Loaded:
        """Compile one device's part over its arrays and ship it."""
        ctx, traced = part.device, part.traced
        here = (lambda array: home(array.context) == ctx) if self._placed else (lambda array: True)
        variables = {node: array for node, array in self._by_node() if here(array)}
        grads = {node: (req, grad) for node, req, grad in self._wanted() if here(grad)}
        outputs = [self.outputs[i] for i in part.heads]
        head_grads = [self._head_grads[i] for i in part.heads]
        kept = {entry: array for entry, array in self._kept.items() if here(array)}
        received = {number: array for number, array in targets.items() if here(array)}
        arrays = Arrays(
            {node: array._id for node, array in variables.items()},
            [x._id for x in outputs],
            {node: (req, grad._id) for node, (req, grad) in grads.items()},
            [None if x is None else x._id for x in head_grads],
            frozenset(grad._id for _, grad in grads.values() if grad._strides is not None),
            {entry: array._id for entry, array in kept.items()},
            {number: array._id for number, array in received.items()},
        )
        compiled = lower(traced if self._kept else self._arranged(traced, ctx), arrays)
        used = [*variables.values(), *(g for _, g in grads.values()), *outputs, *kept.values(), *received.values()]
        used += [x for x in head_grads if x is not None]
        return Loaded(ctx, compiled, self._arena_of(ctx, compiled.program.arena_nbytes), used)

    def _arranged(self, traced: Traced, ctx: Context) -> Traced:
        """The graph with layouts, and cut where all gradients of one arena are there."""
        traced = _laid_out(traced, ctx)
        if not self._staged or self._placed:
            return traced
        groups: dict[int, list[Node]] = {}
        for node, _, grad in self._wanted():
            groups.setdefault(grad._var, []).append(node)
        return staged(traced, list(groups.values()))

    def _arena_of(self, ctx: Context, nbytes: int) -> NDArray | None:
        """Memory for intermediate values; what is there already, if that is enough."""
        if not nbytes:
            return None
        known = self._memory.get(ctx)
        if known is None or known.size < nbytes or known._lane is not ctx.lane:
            known = self._memory[ctx] = nd.empty((nbytes,), ctx, "uint8")
        return known

    def _wanted(self) -> list[tuple[Node, str, NDArray]]:
        """The variables that get gradients, how, and where."""
        wanted = zip(self._arguments, self._reqs, self.grad_arrays, strict=True)
        return [(node, req, grad) for node, req, grad in wanted if req != "null" and grad is not None]

    def _by_node(self) -> list[tuple[Node, NDArray]]:
        return [
            *zip(self._arguments, self.arg_arrays, strict=True),
            *zip(self._states, self.aux_arrays, strict=True),
        ]

    def _variables(self) -> dict[Node, Spec]:
        return {node: Spec(array.shape, array.dtype) for node, array in self._by_node()}

    def _new(self, entry: Entry) -> NDArray:
        shape, dtype = self._traced.specs[entry]
        return nd.empty(shape, self._placed.device[entry.node] if self._placed else self._ctx, dtype)


def _laid_out(traced: Traced, ctx: Context) -> Traced:
    """The graph with layouts, where the device has kernels that are faster with them."""
    return lay_out(traced, ctx.lane.layouts) if config.get("layouts") else traced


def _listing(program: Program, names: Mapping[int, str]) -> list[str]:
    """A line per step, under the names of the phases."""

    def place(slot: int) -> str:
        at = program.slots[slot]
        where = f"arena+{at.offset}" if at.array is None else names[at.array]
        return f"{where} {at.shape} {at.layout}".rstrip()

    lines = []
    for phase, steps in program.phases.items():
        lines.append(f"{phase}: {len(steps)} steps")
        for step in steps:
            ins, outs = (", ".join(map(place, slots)) for slots in (step.ins, step.outs))
            lines.append(f"  {step.op.name} {step.name!r}: {ins} -> {outs}")
    return lines


def _copies(copies: Sequence[Node], device: Mapping[Node, Any]) -> list[str]:
    """A line per copy between devices."""
    return [f"between devices: {len(copies)} copies"] + [
        f"  {copy.op.name} {copy.name!r}: {device[copy.inputs[0].node]} -> {device[copy]}"  # type: ignore[union-attr]
        for copy in copies
    ]


def _simplified(heads, specs, pairs: bool, joins: bool):
    """The graph in fewer steps, as far as that takes no memory that recomputation would save."""
    heads, specs = fuse(heads, specs, pairs)
    return batch(heads, specs) if joins else (heads, specs)


class _Monitor:
    """Shows values that a program leaves in arrays of their own."""

    def __init__(self, callback, monitor_all: bool, traced, arrays: Mapping[Entry, NDArray]):
        self._callback = callback
        self._shown = {
            phase: [(label, arrays[e]) for node in nodes for label, e in _labelled(node, with_inputs)]
            for phase, nodes, with_inputs in (
                ("forward", traced.shown(traced.forward), monitor_all),
                ("backward", traced.shown(traced.backward), False),
            )
        }
        ctx = next(iter(arrays.values())).context
        for node in traced.shown(traced.backward):
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
        shown += [(f"{node.name}_{n}", origin(e)) for n, e in zip(node.input_names(), node.inputs, strict=True)]
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
    - group2ctx: contexts by `ctx_group`. Nodes of a group run there, all others on `ctx`; an array may lie on any of
      these devices, best where its variable's group is.
    - shared_exec: an executor whose memory for intermediate values is used as well; run one of them at a time.

    Raises BindError for arrays that are missing, unknown, on another device or of another shape or dtype.
    """
    bound = take_arrays(symbol, ctx, args, args_grad, grad_req, aux_states, group2ctx)
    return Executor("bind", symbol, ctx, bound, shared_exec)


def simple_bind(
    symbol, ctx, grad_req="write", type_dict=None, group2ctx=None, shared_exec=None, pieces=1, /, **shapes
) -> Executor:  # fmt: skip
    """Bind a symbol to new arrays of zeros; shapes and dtypes follow from `shapes` and `type_dict` (both by name).

    What is learnt (arguments with a gradient that `shapes` does not name) lies in one array per dtype, see
    `Executor.arenas`. With `pieces` a large model's lies in up to so many, and backward runs in stages, each of which
    completes the gradients in one of them. Raises BindError for unknown names and for shapes that cannot be told.
    """
    bound, arenas = make_arrays(symbol, ctx, grad_req, type_dict, group2ctx, shapes, pieces)
    return Executor("simple_bind", symbol, ctx, bound, shared_exec, arenas=arenas, staged=pieces > 1)
