"""What is bound to a symbol: arrays by argument, gradient requests, shapes and types, checked or made anew."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from raymx import config
from raymx import ndarray as nd
from raymx.context import Context
from raymx.errors import BindError, DTypeError, ShapeError, did_you_mean
from raymx.graph.compile import Spec, trace
from raymx.graph.infer import infer_shapes, infer_types
from raymx.graph.node import Entry, Node, argument_nodes, aux_nodes, topological
from raymx.graph.placement import device_of_group
from raymx.graph.plan import aligned
from raymx.ndarray import NDArray
from raymx.ops.infer import complete
from raymx.ops.params import DTYPES, Shape, as_dtype

GRAD_REQS = ("write", "add", "null")
PIECE_NBYTES = 1 << 24  # parameters that are worth an array of their own, where these travel one by one


class Arena(NamedTuple):
    """Parameters that lie side by side in one flat array, and their gradients in another one in the same layout.

    Each begins at a multiple of 64 bytes; what lies between them is zero.
    """

    names: tuple[str, ...]
    params: NDArray
    grads: NDArray


class Bound(NamedTuple):
    """The arrays of an executor; lists follow `list_arguments` and `list_auxiliary_states`."""

    args: list[NDArray]
    grads: list[NDArray | None]
    reqs: list[str]  # "null" wherever there is no gradient array
    aux: list[NDArray]
    groups: Mapping[str, Context] = {}  # where each `ctx_group` is placed


def take_arrays(symbol, ctx, args, args_grad, grad_req, aux_states, group2ctx) -> Bound:
    """The arrays that a user hands to `bind`, once they are sure to fit. Raises BindError."""
    order, groups = topological(symbol.heads), placed_groups("bind", ctx, group2ctx)
    arguments, states = argument_nodes(order), aux_nodes(order)
    devices = list(dict.fromkeys([ctx, *groups.values()]))
    values = given_arrays("bind: args", args, arguments, devices)
    grads = given_gradients("bind: args_grad", args_grad, arguments, values)
    reqs = grad_reqs("bind", grad_req, arguments)
    reqs = ["null" if grad is None else req for req, grad in zip(reqs, grads, strict=True)]
    aux = given_arrays("bind: aux_states", aux_states, states, devices)
    return Bound(values, grads, reqs, aux, groups)


def make_arrays(symbol, ctx, grad_req, type_dict, group2ctx, shapes, pieces: int = 1) -> tuple[Bound, list[Arena]]:
    """New arrays of zeros for `simple_bind`, each where its variable's group is placed: what is learnt in one array per
    device and dtype, or in up to so many pieces of some size. Raises BindError."""
    order, groups = topological(symbol.heads), placed_groups("simple_bind", ctx, group2ctx)
    arguments, states = argument_nodes(order), aux_nodes(order)
    given_types = values_by_node("simple_bind: type_dict", order, type_dict or {})
    types = {node: dtype_of(node.name, t) for node, t in given_types.items()}
    specs = infer_variables("simple_bind", order, shapes_by_node("simple_bind", order, shapes), types)
    reqs = grad_reqs("simple_bind", grad_req, arguments)
    where = {node: device_of_group(node, groups, ctx) for node in (*arguments, *states)}
    wanting = [node for node, req in zip(arguments, reqs, strict=True) if req != "null"]
    args: dict[Node, NDArray] = {}
    grads: dict[Node, NDArray] = {}
    alike: dict[tuple[Context, np.dtype], list[Node]] = {}
    for node in wanting:
        if node.name not in shapes:
            alike.setdefault((where[node], specs[node].dtype), []).append(node)
    arenas = [
        _arena(device, run, specs, args, grads)
        for (device, _), nodes in alike.items()
        for run in _runs(order, nodes, specs, pieces)
    ]

    def zeros(node: Node) -> NDArray:
        return nd.zeros(specs[node].shape, where[node], specs[node].dtype)

    bound = Bound(
        [args[node] if node in args else zeros(node) for node in arguments],
        [
            None if req == "null" else grads[node] if node in grads else zeros(node)
            for node, req in zip(arguments, reqs, strict=True)
        ],
        reqs,
        [zeros(node) for node in states],
        groups,
    )
    return bound, arenas


def _runs(order: Sequence[Node], nodes: Sequence[Node], specs, pieces: int) -> list[list[Node]]:
    """The variables `nodes` in at most so many runs, of about equal bytes and not too few. What one operator reads is
    not torn apart: its gradients are made together."""
    total = sum(specs[node].nbytes for node in nodes)
    pieces = max(1, min(pieces, total // PIECE_NBYTES))
    if pieces == 1:
        return [list(nodes)]
    runs: list[list[Node]] = [[] for _ in range(pieces)]
    left, done = dict.fromkeys(nodes), 0
    for reader in order:
        together = list(dict.fromkeys(e.node for e in reader.inputs if e.node in left))
        nbytes = sum(specs[node].nbytes for node in together)
        runs[min(pieces - 1, int((done + nbytes / 2) * pieces / total))] += together
        done += nbytes
        for node in together:
            left.pop(node, None)
    runs[-1] += left
    return [run for run in runs if run]


def _arena(ctx, nodes: Sequence[Node], specs, args: dict[Node, NDArray], grads: dict[Node, NDArray]) -> Arena:
    """One array for these parameters and one for their gradients; their windows go into `args` and `grads`."""
    dtype = specs[nodes[0]].dtype
    starts = [0]
    for node in nodes:
        starts.append(starts[-1] + aligned(specs[node].nbytes) // dtype.itemsize)
    flats = [nd.zeros((starts[-1],), ctx, dtype) for _ in range(2)]
    for node, start in zip(nodes, starts, strict=False):
        shape = specs[node].shape
        args[node], grads[node] = (flat[start : start + math.prod(shape)].reshape(shape) for flat in flats)
    return Arena(tuple(node.name for node in nodes), *flats)


def placed_groups(who: str, ctx, group2ctx) -> dict[str, Context]:
    """The context of each `ctx_group`, once `ctx` and they are sure to be contexts. Raises BindError."""
    if not isinstance(ctx, Context):
        raise BindError(f"{who}: ctx must be a Context such as mx.cpu(), got {ctx!r}.")
    if not isinstance(group2ctx or {}, Mapping):
        raise BindError(f"{who}: group2ctx must be a dict of contexts by group, got {type(group2ctx).__name__}.")
    groups = {}
    for group, where in (group2ctx or {}).items():
        where = where[0] if isinstance(where, (list, tuple)) and len(where) == 1 else where
        if not isinstance(where, Context):
            raise BindError(f"{who}: group2ctx[{group!r}] must be a Context such as mx.gpu(1), got {where!r}.")
        groups[group] = home(where)
    return groups


def home(context: Context) -> Context:
    """The context by which a device is known: `cpu_pinned` memory is the CPU's."""
    return Context("cpu", context.device_id) if context.device_type == "cpu_pinned" else context


def values_by_node(who: str, order: Sequence[Node], given: Mapping[str, Any]) -> dict[Node, Any]:
    """What is given by name, by variable; a name speaks for all variables that bear it."""
    variables = [node for node in order if node.is_variable]
    refuse_unknown(who, given, [node.name for node in variables], "argument")
    return {node: given[node.name] for node in variables if given.get(node.name) is not None}


def given_arrays(who: str, given, nodes: Sequence[Node], devices: Sequence[Context]) -> list[NDArray]:
    """An array on one of `devices` for each of `nodes`."""
    names = [node.name for node in nodes]
    found = _in_order(who, given, names)
    missing = [name for name, array in zip(names, found, strict=True) if array is None]
    if missing:
        unused = [name for name in given if name not in names] if isinstance(given, Mapping) else []
        hint = f" (no argument is called {some(map(repr, unused))})" if unused else ""
        raise BindError(
            f"{who} lacks {some(map(repr, missing))}{hint}; give an array for each, or use "
            "simple_bind, which makes them."
        )
    for name, array in zip(names, found, strict=True):
        _check_array(f"{who}[{name!r}]", array, devices)
    return found


def given_gradients(who: str, given, nodes: Sequence[Node], args: Sequence[NDArray]) -> list[NDArray | None]:
    """The arrays for gradients, each on the device of its argument; None for none."""
    names = [node.name for node in nodes]
    found = _in_order(who, given, names)
    for name, grad, arg in zip(names, found, args, strict=True):
        if grad is not None:
            _check_array(f"{who}[{name!r}]", grad, [home(arg.context)])
            if (grad.shape, grad.dtype) != (arg.shape, arg.dtype):
                raise BindError(
                    f"{who}[{name!r}] must be {arg.shape} {arg.dtype} like its argument, got {grad.shape} {grad.dtype}."
                )
            if not grad.writable:
                raise BindError(f"{who}[{name!r}] is read-only (writable is False), but it is to take a gradient.")
    return found


def _in_order(who: str, given, names: Sequence[str]) -> list[Any]:
    """The values for `names` out of a list or dict; None for what a dict, or None, leaves out. A dict may hold more, as
    when part of a network is bound to the parameters of the whole."""
    if given is None:
        return [None] * len(names)
    if isinstance(given, Mapping):
        return [given.get(name) for name in names]
    if isinstance(given, NDArray) or not isinstance(given, Sequence):
        raise BindError(f"{who} must be a list or a dict of NDArrays, got {type(given).__name__}.")
    if len(given) != len(names):
        raise BindError(f"{who} must hold {len(names)} arrays ({some(names)}), got {len(given)}.")
    return list(given)


def grad_reqs(who: str, given, nodes: Sequence[Node]) -> list[str]:
    """A word of GRAD_REQS for each argument."""
    names = [node.name for node in nodes]
    if isinstance(given, str):
        reqs = [given] * len(names)
    elif isinstance(given, Mapping):
        reqs = [given.get(name, "null") for name in names]
    else:
        reqs = list(given) or ["null"] * len(names)
        if len(reqs) != len(names):
            raise BindError(f"{who}: grad_req must hold {len(names)} words ({some(names)}), got {len(reqs)}.")
    for name, req in zip(names, reqs, strict=True):
        if req not in GRAD_REQS:
            near = did_you_mean(str(req), GRAD_REQS)
            raise BindError(f"{who}: grad_req of {name!r} must be 'write', 'add' or 'null', got {req!r}{near}.")
    return reqs


# ---- shapes and types ----


def shapes_by_node(who: str, order: Sequence[Node], shapes: Mapping[str, Any]) -> dict[Node, Shape]:
    return {node: _shape(who, node.name, value) for node, value in values_by_node(who, order, shapes).items()}


def _shape(who: str, name: str, value) -> Shape:
    try:
        return tuple(operator.index(d) for d in ((value,) if isinstance(value, (int, np.integer)) else value))
    except TypeError:
        raise BindError(f"{who}: the shape of {name!r} must be a tuple of integers, got {value!r}.") from None


def dtype_of(name: str, value) -> np.dtype:
    try:
        return as_dtype(value)
    except TypeError as error:
        raise DTypeError(f"simple_bind: type_dict[{name!r}]: {error}") from None


def infer_variables(
    who: str, order: list[Node], shapes: Mapping[Node, Shape], types: Mapping[Node, np.dtype]
) -> dict[Node, Spec]:
    """Shape and dtype of every variable; float32 where nothing is known. Raises BindError for what cannot be told."""
    found_shapes = infer_shapes(order, shapes)
    found_types = infer_types(order, types, DTYPES["float32"])
    variables = [node for node in order if node.is_variable]
    unknown = [node.name for node in variables if not complete(found_shapes.get(Entry(node)))]
    if unknown:
        given = some(f"{node.name}={shape}" for node, shape in shapes.items()) or "nothing"
        raise BindError(
            f"{who}: the shapes of {some(map(repr, unknown))} cannot be told from {given}; name more shapes."
        )
    return {node: Spec(found_shapes[Entry(node)], found_types[Entry(node)]) for node in variables}


def traced_graph(who: str, heads: Sequence[Entry], variables: dict[Node, Spec], wrt: Sequence[Node], simplify=None):
    """The traced graph, which `simplify` may change; an array that does not fit is named by the variable for which it
    came."""
    try:
        return trace(heads, variables, wrt, config.get("recompute"), simplify)
    except (ShapeError, DTypeError) as error:
        order = topological(list(heads))
        shapes = {node: spec.shape for node, spec in variables.items()}
        types = {node: spec.dtype for node, spec in variables.items()}
        culprit = _culprit(order, shapes, infer_shapes) or _culprit(order, types, infer_types)
        raise BindError(f"{who}: {culprit}{error}") from error


def _culprit(order: list[Node], given: Mapping[Node, Any], infer: Callable) -> str:
    """The first variable, in their order, whose value contradicts those before it."""
    known: dict[Node, Any] = {}
    for node, value in given.items():
        expected = infer(order, known).get(Entry(node))
        known[node] = value
        try:
            infer(order, known)
        except (ShapeError, DTypeError):
            fits = f", which must be {expected}" if expected is not None else ""
            return f"the array for {node.name!r}{fits}, is {value}: "
    return ""


# ---- small checks ----


def _check_array(who: str, array, devices: Sequence[Context]) -> None:
    if not isinstance(array, NDArray):
        raise BindError(f"{who} must be an NDArray, got {type(array).__name__}; make one with mx.nd.array.")
    if all(array._lane is not ctx.lane for ctx in devices):
        raise BindError(
            f"{who} lies on {array.context}, but the executor runs on {', '.join(map(str, devices))}; move it with "
            f"as_in_context({devices[0]})."
        )


def check_shape(who: str, array, shape: Shape) -> None:
    if array.shape != shape:
        raise BindError(f"{who} must have shape {shape}, got {array.shape}.")


def check_head_grad(name: str, target: NDArray, value) -> None:
    if value is None:
        raise BindError(
            f"backward: output {name!r} is no loss, so the gradient that comes in there must be given; call "
            "backward([...]) with an array per output, or end the network with a loss (SoftmaxOutput, MakeLoss, …)."
        )
    if not isinstance(value, (NDArray, np.ndarray)):
        raise BindError(f"backward: the gradient at {name!r} must be an NDArray, got {type(value).__name__}.")
    check_shape(f"backward: the gradient at {name!r}", value, target.shape)


def refuse_unknown(who: str, given: Iterable[str], known: Sequence[str], noun: str) -> None:
    for name in given:
        if name not in known:
            near = did_you_mean(str(name), known)
            raise BindError(f"{who}: no {noun} is called {name!r}{near} ({noun}s: {some(known) or 'none'}).")


def by_name(what: str, names: Sequence[str], arrays: Sequence) -> dict[str, Any]:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BindError(f"several {what} are called {some(map(repr, sorted(twice)))}; use the list of arrays instead.")
    return dict(zip(names, arrays, strict=True))


def resized(array: NDArray, shape: Shape) -> NDArray:
    """The first elements of `array` in another shape, sharing its memory; a new array if there are too few."""
    size = math.prod(shape)
    if array.shape == shape:
        return array
    if size > array.size:
        return nd.zeros(shape, array.context, array.dtype)
    return array.reshape((-1,))[:size].reshape(shape)


def some(names: Iterable) -> str:
    """The first few names, for an error message."""
    listed = list(map(str, names))
    return ", ".join(listed[:12]) + (f", … ({len(listed)} in all)" if len(listed) > 12 else "")
