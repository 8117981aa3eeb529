"""Symbols: graphs of operators that are composed first, then bound to arrays and run.

    data = mx.sym.Variable("data")
    net = mx.sym.FullyConnected(data, num_hidden=10, name="fc")
    net = mx.sym.SoftmaxOutput(net, name="softmax")
    net.list_arguments()  # ['data', 'fc_weight', 'fc_bias', 'softmax_label']

Every operator is a function of this module, made from its declaration: inputs are symbols, by position or by name;
inputs left out become variables `<node>_<input>`; everything else is given by name.
"""

from __future__ import annotations

import functools
import math
import numbers
import operator
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from raymx import composed, opdoc
from raymx.attribute import AttrScope, check_attributes
from raymx.context import current_context
from raymx.errors import DTypeError, GraphError, ParameterError, ShapeError, did_you_mean
from raymx.families import families
from raymx.graph import attributes
from raymx.graph import json as graph_json
from raymx.graph.infer import infer_shapes, infer_types
from raymx.graph.node import Entry, Node, argument_nodes, aux_nodes, topological
from raymx.methods import add_methods
from raymx.name import NameManager
from raymx.ops.infer import complete
from raymx.ops.op import REGISTRY, Op, find, make
from raymx.ops.params import DTYPE_IDS, Shape, as_dtype, text

# fmt: off
__all__ = [
    "Group", "Symbol", "Variable", "arange", "full", "hypot", "load", "load_json", "maximum", "minimum", "ones", "pow",
    "power", "var", "zeros",
]
# fmt: on


class Symbol:
    """One or several outputs of a graph. Immutable, apart from the attributes of its nodes."""

    __array_ufunc__ = None  # `numpy_scalar * symbol` is the symbol's business

    def __init__(self, heads):
        self.heads: list[Entry] = list(heads)

    @functools.cached_property
    def _order(self) -> list[Node]:
        return topological(self.heads)

    # ---- what it is ----

    @property
    def name(self) -> str | None:
        """The name of the node whose outputs these are; None for a group of several."""
        node = self._node()
        return node.name if node else None

    def _node(self) -> Node | None:
        nodes = {head.node for head in self.heads}
        return self.heads[0].node if len(nodes) == 1 else None

    def __repr__(self):
        if self.name is not None:
            return f"<Symbol {self.name}>"
        return f"<Symbol group [{', '.join(head.node.name for head in self.heads)}]>"

    def list_arguments(self) -> list[str]:
        """Names of the variables that are no auxiliary states, depth first. A name may stand there twice."""
        return [node.name for node in argument_nodes(self._order)]

    def list_auxiliary_states(self) -> list[str]:
        """Names of the variables that operators change on their own, such as moving averages."""
        return [node.name for node in aux_nodes(self._order)]

    def list_inputs(self) -> list[str]:
        """Names of all variables, arguments and auxiliary states, depth first."""
        return [node.name for node in self._order if node.is_variable]

    def list_outputs(self) -> list[str]:
        """Names of the outputs: `<node>_output`, or the variable's name."""
        return [_output_name(head) for head in self.heads]

    def __len__(self) -> int:
        return len(self.heads)

    def __iter__(self) -> Iterator[Symbol]:
        return (Symbol([head]) for head in self.heads)

    def __getitem__(self, index: int | str | slice) -> Symbol:
        """One output, by number or by its name in `list_outputs`; a slice gives a group.

        Raises IndexError for a number that is too large and GraphError for a name that is missing or stands twice.
        """
        if isinstance(index, slice):
            return Group([Symbol([head]) for head in self.heads[index]])
        if isinstance(index, str):
            return Symbol([self.heads[self._output_number(index)]])
        if not isinstance(index, (int, np.integer)) or isinstance(index, bool):
            raise GraphError(f"{self!r}: an output is chosen by number, name or slice, got {index!r}.")
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self!r}: there is no output {index}; it has {len(self)}: {_some(self.list_outputs())}.")
        return Symbol([self.heads[index]])

    def _output_number(self, name: str) -> int:
        names = self.list_outputs()
        count = names.count(name)
        if count == 0:
            raise GraphError(
                f"{self!r}: no output is called {name!r}{did_you_mean(name, names)} (outputs: {_some(names)})."
            )
        if count > 1:
            raise GraphError(f"{self!r}: {count} outputs are called {name!r}; choose one by number.")
        return names.index(name)

    def get_internals(self) -> Symbol:
        """A group of all outputs of all nodes, variables included, in depth-first order."""
        return Symbol([Entry(node, i) for node in self._order for i in range(_visible(node))])

    def get_children(self) -> Symbol | None:
        """A group of the inputs of the nodes whose outputs these are; None if those are variables."""
        nodes = dict.fromkeys(head.node for head in self.heads)
        children = [entry for node in nodes for entry in node.inputs]
        return Symbol(children) if children else None

    def debug_str(self) -> str:
        """The graph as text, one block a node, for people."""
        lines = ["Symbol Outputs:"]
        lines += [f"\toutput[{i}]={head.node.name}({head.index})" for i, head in enumerate(self.heads)]
        for node in self._order:
            lines += _describe(node)
        return "\n".join(lines) + "\n"

    # ---- attributes ----

    def attr(self, key: str) -> str | None:
        """The node's attribute, or parameter, called `key`; None if there is none, or several nodes are in the group.

        Both spellings find an attribute: `lr_mult` and `__lr_mult__`.
        """
        node = self._node()
        if node is None:
            return None
        if key == "name":
            return node.name
        value = attributes.find(node.attrs, key)
        return value if value is not None else node.text_params().get(key)

    def list_attr(self, recursive: bool = False) -> dict[str, str]:
        """The node's attributes and given parameters. With `recursive`, the attributes of all nodes that are needed,
        as `<node>_<key>`."""
        if recursive:
            return {f"{n.name}_{key}": value for n in self._order for key, value in n.attrs.items()}
        node = self._node()
        return _listed(node) if node else {}

    def attr_dict(self) -> dict[str, dict[str, str]]:
        """Attributes and given parameters of every node that has any, by the node's name."""
        return {node.name: listed for node in self._order if (listed := _listed(node))}

    def _set_attr(self, **given: str) -> None:
        node = self._node()
        if node is None:
            raise GraphError(f"{self!r}: attributes belong to one node; choose it with symbol[i].")
        node.attrs.update(check_attributes(given, repr(self)))

    # ---- composition ----

    def __call__(self, *args: Symbol, name: str | None = None, **kwargs: Symbol) -> Symbol:
        """A copy in which free variables are replaced by other symbols.

        Symbols come by position (in the order of `list_arguments`) or by the variable's name. With `name`, the copy
        is called so, and every other node that it copies gets `<name>_` before its own name: one network can be used
        several times, each with parameters of its own. Raises GraphError for a variable, an unknown or repeated
        argument name, or symbols with several outputs.
        """
        if all(head.node.is_variable for head in self.heads):
            raise GraphError(f"{self!r} is a variable: there is nothing in it to replace.")
        replaced = self._by_position(args, kwargs) if args else self._by_name(kwargs)
        return self._copy(replaced, name)

    def _by_position(self, args, kwargs) -> dict[Node, Entry]:
        if kwargs:
            raise GraphError(f"{self!r}: compose by position or by name, not both (got {_some(kwargs)} by name).")
        arguments = argument_nodes(self._order)
        if len(args) > len(arguments):
            names = _some(node.name for node in arguments)
            raise GraphError(f"{self!r} has {len(arguments)} arguments ({names}), got {len(args)} symbols.")
        return {node: _single(arg, f"{self!r}: {node.name}") for node, arg in zip(arguments, args, strict=False)}

    def _by_name(self, kwargs) -> dict[Node, Entry]:
        arguments = argument_nodes(self._order)
        counts = Counter(node.name for node in arguments)
        for key in kwargs:
            if key not in counts:
                raise GraphError(
                    f"{self!r} has no argument {key!r}{did_you_mean(key, counts)} (arguments: {_some(counts)})."
                )
            if counts[key] > 1:
                raise GraphError(f"{self!r}: {counts[key]} variables are called {key!r}; compose by position.")
        return {n: _single(kwargs[n.name], f"{self!r}: {n.name}") for n in arguments if n.name in kwargs}

    def _copy(self, replaced: dict[Node, Entry], name: str | None = None) -> Symbol:
        copies: dict[Node, Node] = {}

        def moved(entry: Entry) -> Entry:
            return replaced[entry.node] if entry.node in replaced else Entry(copies[entry.node], entry.index)

        top = self._node()
        for node in self._order:
            if node not in replaced:
                new_name = node.name if name is None else name if node is top else f"{name}_{node.name}"
                inputs = [moved(entry) for entry in node.inputs]
                forward = copies.get(node.forward, node.forward) if node.forward else None
                copies[node] = Node(node.op, new_name, node.attrs, inputs, forward, node.params)
        return Symbol([moved(head) for head in self.heads])

    def __copy__(self) -> Symbol:
        return self._copy({})

    def __deepcopy__(self, memo) -> Symbol:
        return self._copy({})

    # ---- files ----

    def tojson(self) -> str:
        """The graph in MXNet's JSON, as 1.x writes it. Raises FormatError for a gradient graph."""
        return graph_json.dumps(self.heads)

    def save(self, fname: str) -> None:
        """Write `tojson()` to a path or URL (`s3://…`), all or nothing."""
        from raymx.storage import write_bytes

        write_bytes(fname, self.tojson().encode())

    def __reduce__(self):
        return load_json, (self.tojson(),)

    # ---- shapes and types ----

    def infer_shape(self, *args, **kwargs):
        """Shapes of arguments, outputs and auxiliary states: three lists, or three None if some cannot be told.

        Known shapes come by position (in the order of `list_arguments`; None = unknown) or by name; 0 stands for an
        unknown dimension. They override `Variable(shape=)`. Rules work backwards, too: `a + b` gives `b` the shape
        of `a`. Raises ShapeError, which names operator and node, when shapes contradict.
        """
        return self._complete_lists(self._shapes("infer_shape", args, kwargs), complete, lambda shape: shape)

    def infer_shape_partial(self, *args, **kwargs):
        """As `infer_shape`, but always three lists: `()` for a shape of which nothing is known."""
        return self._lists(self._shapes("infer_shape_partial", args, kwargs), lambda shape: shape or ())

    def infer_type(self, *args, **kwargs):
        """Element types of arguments, outputs and auxiliary states: three lists of NumPy classes, or three None if
        some cannot be told. Raises DTypeError when types contradict."""
        facts = self._types("infer_type", args, kwargs)
        return self._complete_lists(facts, lambda dtype: dtype is not None, lambda dtype: dtype.type)

    def infer_type_partial(self, *args, **kwargs):
        """As `infer_type`, but always three lists: None for an unknown type."""
        facts = self._types("infer_type_partial", args, kwargs)
        return self._lists(facts, lambda dtype: dtype.type if dtype is not None else None)

    def _shapes(self, who: str, args, kwargs) -> dict[Entry, Shape]:
        return infer_shapes(self._order, self._given(who, args, kwargs, _as_shape))

    def _types(self, who: str, args, kwargs) -> dict[Entry, np.dtype]:
        return infer_types(self._order, self._given(who, args, kwargs, _as_type))

    def _given(self, who: str, args, kwargs, parse: Callable) -> dict[Node, Any]:
        """What was said about variables; a name speaks for all variables that bear it."""
        if args and kwargs:
            raise GraphError(f"{who}: say what is known by position or by name, not both.")
        arguments = argument_nodes(self._order)
        if len(args) > len(arguments):
            raise GraphError(f"{who}: {self!r} has {len(arguments)} arguments, got {len(args)} values.")
        if args:
            return {node: parse(f"{who}: {node.name}", v) for node, v in zip(arguments, args, strict=False)}
        variables = [node for node in self._order if node.is_variable]
        names = {node.name for node in variables}
        for key in kwargs:
            if key not in names:
                known = _some(self.list_arguments())
                raise GraphError(
                    f"{who}: {self!r} has no argument {key!r}{did_you_mean(key, names)} (arguments: {known})."
                )
        return {n: parse(f"{who}: {n.name}", kwargs[n.name]) for n in variables if n.name in kwargs}

    def _lists(self, facts: dict[Entry, Any], shown: Callable):
        entries = (map(Entry, argument_nodes(self._order)), self.heads, map(Entry, aux_nodes(self._order)))
        return tuple([shown(facts.get(entry)) for entry in row] for row in entries)

    def _complete_lists(self, facts: dict[Entry, Any], known: Callable, shown: Callable):
        found = self._lists(facts, lambda fact: fact)
        if not all(known(fact) for row in found for fact in row):
            return None, None, None
        return tuple([shown(fact) for fact in row] for row in found)

    # ---- running it ----

    def bind(
        self, ctx, args, args_grad=None, grad_req="write", aux_states=None, group2ctx=None, shared_exec=None
    ):  # fmt: skip
        """An Executor of this symbol on `ctx` over the given arrays; see `raymx.executor.bind`."""
        from raymx.executor import bind

        return bind(self, ctx, args, args_grad, grad_req, aux_states, group2ctx, shared_exec)

    def simple_bind(self, ctx, grad_req="write", type_dict=None, group2ctx=None, shared_exec=None, **shapes):
        """An Executor over new arrays whose shapes follow from `shapes`; see `raymx.executor.simple_bind`."""
        from raymx.executor import simple_bind

        return simple_bind(self, ctx, grad_req, type_dict, group2ctx, shared_exec, **shapes)

    def grad(self, wrt) -> Symbol:
        """The gradients with respect to the arguments named in `wrt`, as a symbol with one output each.

        Its arguments are those of this symbol that the gradients need, and `<output>_grad` for every output that is
        no loss.
        """
        from raymx.graph.gradient import gradient, head_gradients

        variables = self._arguments_called([wrt] if isinstance(wrt, str) else list(wrt), "grad")
        found = gradient(self.heads, variables, head_gradients(self.heads))
        return Symbol([found[node] or _zeros_like(node) for node in variables])

    def _arguments_called(self, names: list[str], who: str) -> list[Node]:
        arguments = argument_nodes(self._order)
        counts = Counter(node.name for node in arguments)
        for name in names:
            if counts[name] != 1:
                number = f"{counts[name]} arguments are" if counts[name] else "no argument is"
                near = "" if counts[name] else did_you_mean(name, counts)
                raise GraphError(f"{who}: {number} called {name!r}{near} (arguments: {_some(counts.elements())}).")
        nodes = {node.name: node for node in arguments}
        return [nodes[name] for name in names]

    def eval(self, ctx=None, **kwargs):
        """The outputs for the arguments given as arrays, as a list; binds and runs once."""
        return self.bind(ctx or current_context(), kwargs).forward()

    # ---- operators; those of raymx/methods.py are methods, too ----

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def reshape(self, *shape, **kwargs) -> Symbol:
        """In another shape, with the codes of the operator `Reshape`."""
        given = {"shape": _one_or_many(shape)} if shape else {}
        return _function("reshape")(self, **given, **kwargs)

    def transpose(self, *axes, **kwargs) -> Symbol:
        """With the axes in another order, by default reversed."""
        given = {"axes": _one_or_many(axes)} if axes else {}
        return _function("transpose")(self, **given, **kwargs)

    def astype(self, dtype, **kwargs) -> Symbol:
        """With the elements converted to `dtype`."""
        return _function("cast")(self, dtype=dtype, **kwargs)

    def __add__(self, other):
        return _arithmetic(self, other, "_Plus")

    __radd__ = __add__

    def __sub__(self, other):
        return _arithmetic(self, other, "_Minus")

    def __rsub__(self, other):
        return _arithmetic(self, other, "_RMinus")

    def __mul__(self, other):
        return _arithmetic(self, other, "_Mul")

    __rmul__ = __mul__

    def __truediv__(self, other):
        return _arithmetic(self, other, "_Div")

    def __rtruediv__(self, other):
        return _arithmetic(self, other, "_RDiv")

    def __mod__(self, other):
        return _arithmetic(self, other, "_Mod")

    def __rmod__(self, other):
        return _arithmetic(self, other, "_RMod")

    def __pow__(self, other):
        return _arithmetic(self, other, "_Power")

    def __rpow__(self, other):
        return _arithmetic(self, other, "_RPower")

    def __neg__(self):
        return self * -1.0

    def __abs__(self):
        return _function("abs")(self)

    def __eq__(self, other):
        return _arithmetic(self, other, "_equal")

    def __ne__(self, other):
        return _arithmetic(self, other, "_not_equal")

    def __gt__(self, other):
        return _arithmetic(self, other, "_greater")

    def __ge__(self, other):
        return _arithmetic(self, other, "_greater_equal")

    def __lt__(self, other):
        return _arithmetic(self, other, "_lesser")

    def __le__(self, other):
        return _arithmetic(self, other, "_lesser_equal")

    __hash__ = object.__hash__

    def __bool__(self) -> NoReturn:
        raise GraphError(f"{self!r} has no truth value: it has no values before it is bound. Compare with `is`.")


# ---- leaves and groups ----


def _one_or_many(values: tuple):
    return values[0] if len(values) == 1 and isinstance(values[0], (tuple, list)) else values


def var(
    name: str, attr=None, shape=None, lr_mult=None, wd_mult=None, dtype=None, init=None, **kwargs
) -> Symbol:  # fmt: skip
    """A free variable.

    `shape` (0 = unknown dimension) and `dtype` hold unless a call of `infer_shape`, `bind`, … says otherwise.
    `lr_mult` and `wd_mult` scale the learning rate and weight decay, `init` (an initializer or its text) replaces
    the default initializer. `attr` and further keywords of the form `__key__` are attributes.
    """
    if not isinstance(name, str):
        raise ParameterError(f"Variable: name must be a string, got {name!r} ({type(name).__name__}).")
    who = f"Variable {name!r}"
    attrs = AttrScope.current.get(check_attributes(attr, who))
    if shape is not None:
        attrs["__shape__"] = text(_as_shape(f"{who}: shape", shape) or ())
    if dtype is not None:
        attrs["__dtype__"] = str(_TYPE_NUMBERS[_as_type(f"{who}: dtype", dtype)])
    if init is not None:
        attrs["__init__"] = init if isinstance(init, str) else init.dumps()
    for key, value in (("__lr_mult__", lr_mult), ("__wd_mult__", wd_mult), *kwargs.items()):
        if not attributes.is_dressed(key):
            way = f"{attributes.dressed(key)}= or in attr="
            raise ParameterError(f"{who}: unknown parameter {key!r}; an attribute is given as {way}.")
        if value is not None:
            attrs[key] = str(value)
    return Symbol([Entry(Node(None, name, attrs))])


Variable = var

_TYPE_NUMBERS: dict[np.dtype | None, int] = {np.dtype(name): number for number, name in DTYPE_IDS.items()}


def Group(symbols) -> Symbol:
    """One symbol with the outputs of all `symbols`, in order."""
    symbols = list(symbols) if isinstance(symbols, (list, tuple, Iterator)) else [symbols]
    if not symbols:
        raise GraphError("Group: expected at least one symbol, got none.")
    for symbol in symbols:
        if not isinstance(symbol, Symbol):
            raise GraphError(f"Group: expected symbols, got {_what(symbol)}.")
    return Symbol([head for symbol in symbols for head in symbol.heads])


def zeros(shape, dtype=None, **kwargs) -> Symbol:
    """Zeros of a shape (0 = a dimension that is inferred), float32 by default; `name` and `attr` as for operators."""
    return _function("_zeros")(shape=shape, dtype=dtype or "float32", **kwargs)


def ones(shape, dtype=None, **kwargs) -> Symbol:
    """Ones of a shape, as `zeros`."""
    return _function("_ones")(shape=shape, dtype=dtype or "float32", **kwargs)


def full(shape, val, dtype=None, **kwargs) -> Symbol:
    """`val` everywhere, as `zeros`."""
    return _function("_full")(shape=shape, value=val, dtype=dtype or "float32", **kwargs)


def arange(start, stop=None, step=1.0, repeat=1, infer_range=False, dtype=None, **kwargs) -> Symbol:
    """Numbers from `start` to below `stop` (from 0 to below `start` without it), each `repeat` times."""
    given = {"start": start, "stop": stop, "step": step, "repeat": repeat, "infer_range": infer_range}
    return _function("_arange")(**given, dtype=dtype or "float32", **kwargs)


def load(fname: str) -> Symbol:
    """The symbol that a JSON file of any MXNet holds; `fname` is a path or URL. Raises FormatError."""
    from raymx.storage import read_bytes

    return Symbol(graph_json.loads(read_bytes(fname), str(fname)))


def load_json(json_str: str) -> Symbol:
    """The symbol that JSON text holds. Raises FormatError."""
    if not isinstance(json_str, (str, bytes)):
        raise GraphError(f"load_json: expected JSON text, got {_what(json_str)}.")
    return Symbol(graph_json.loads(json_str))


# ---- operators as functions ----


def create(cls: type[Op], hint: str, args, kwargs, name: str | None = None, attr=None) -> Symbol:
    """One use of an operator as a symbol; the body of every operator's function."""
    if name is not None and not isinstance(name, str):
        raise ParameterError(f"{cls.name}: name must be a string, got {_what(name)}.")
    who = f"{cls.name} {name!r}" if name else cls.name
    if cls.variadic and len(args) == 1 and isinstance(args[0], (list, tuple)):
        args = args[0]
    attrs = AttrScope.current.get(check_attributes(attr, who))
    positional, symbols, params = _sort(cls, who, args, kwargs, attrs)
    if cls.variadic and cls.variadic not in params:
        params[cls.variadic] = len(positional) + len(symbols)
    op = _make(cls, who, params)
    given = _match(op, who, positional, symbols)
    names = op.inputs() + op.aux()
    missing = [n for n in names if n not in given]
    own, _ = attributes.split_for_inputs(attrs, missing)
    general, meant = attributes.split_for_inputs(attrs, names)
    node = Node(op, NameManager.current.get(name, hint), own, params=graph_json.kept_params(op, params))
    for n in missing:
        given[n] = Entry(Node(None, f"{node.name}_{n}", {**graph_json.noted(op, n), **general, **meant.get(n, {})}))
    node.inputs = [given[n] for n in names]
    return Symbol([Entry(node, i) for i in range(op.visible_outputs())])


def _make(cls: type[Op], who: str, params: dict[str, Any]) -> Op:
    try:
        return make(cls, **params)
    except ParameterError as error:
        raise ParameterError(f"{who}{str(error).removeprefix(cls.name)}") from None


def _sort(cls: type[Op], who: str, args, kwargs, attrs):
    """Symbols by position, symbols by name, and parameters, out of a call's arguments; attributes go into `attrs`."""
    count = next((i for i, arg in enumerate(args) if not (arg is None or isinstance(arg, Symbol))), len(args))
    taken = opdoc.inputs(cls)
    params = _positional_params(cls, who, args, count) if count < len(args) else {}
    symbols: dict[str, Symbol] = {}
    for key, value in kwargs.items():
        if key in params:
            raise ParameterError(f"{who}: parameter {key!r} is given twice, by position and by name.")
        if key in cls.declared:
            params[key] = value
        elif isinstance(value, Symbol):
            symbols[key] = value
        elif key in attributes.SPECIAL or attributes.is_dressed(key):
            attrs[key] = str(value)
        elif cls.any_parameter:
            params[key] = value
        elif key not in taken.names + taken.aux:
            known = [*taken.names, *taken.aux, *cls.declared]
            raise ParameterError(f"{who}: unknown parameter {key!r}{did_you_mean(key, known)} (known: {_some(known)}).")
        elif value is not None:
            raise GraphError(f"{who}: {key} must be a Symbol, got {_what(value)}.")
    return args[:count], symbols, params


def _positional_params(cls: type[Op], who: str, args, count: int) -> dict[str, Any]:
    """Parameters given by position, which is possible once every input was."""
    names = opdoc.inputs(cls).names
    if not names or count != len(names):
        raise GraphError(
            f"{who}: argument {count + 1} ({names[count] if count < len(names) else 'an input'}) must be a Symbol, got "
            f"{_what(args[count])}; parameters are given by name ({_some(cls.declared)})."
        )
    values = args[count:]
    if len(values) > len(cls.declared):
        raise ParameterError(
            f"{who}: takes {len(names)} inputs ({_some(names)}) and {len(cls.declared)} parameters "
            f"({_some(cls.declared)}), got {len(args)} arguments."
        )
    return dict(zip(cls.declared, values, strict=False))


def _match(op: Op, who: str, positional, symbols: dict[str, Symbol]) -> dict[str, Entry]:
    """The given inputs and states by name."""
    names = op.inputs() + op.aux()
    if len(positional) > len(names):
        raise GraphError(f"{who}: takes {len(names)} inputs ({_some(names)}), got {len(positional)} by position.")
    given = {n: _single(s, f"{who}: {n}") for n, s in zip(names, positional, strict=False) if s is not None}
    for key, symbol in symbols.items():
        if key not in names:
            raise GraphError(f"{who}: has no input {key!r}{did_you_mean(key, names)} (inputs: {_some(names)}).")
        if key in given:
            raise GraphError(f"{who}: input {key!r} is given twice, by position and by name.")
        given[key] = _single(symbol, f"{who}: {key}")
    for state in op.aux():
        if state in given and not given[state].node.is_variable:
            raise GraphError(f"{who}: state {state!r} must be a variable, got {given[state].node!r}.")
    return given


_functions: dict[tuple[str, str], Callable[..., Symbol]] = {}


def _function(name: str, shown: str = "") -> Callable[..., Symbol]:
    """The function of the operator `name`, called `shown`, with its docstring and signature."""
    if name in composed.COMPOSED:
        return composed.bound(name, _function)
    if (name, shown) not in _functions:
        cls = find(name)

        def function(*args, name: str | None = None, attr=None, **kwargs) -> Symbol:
            return create(cls, hint, args, kwargs, name, attr)

        hint = (shown or name).lower().removeprefix("_contrib_")
        function.__name__ = function.__qualname__ = shown or name
        function.__doc__ = opdoc.document(cls, "symbol")
        function.__signature__ = opdoc.signature(cls, "symbol")  # type: ignore[attr-defined]
        _functions[name, shown] = function
    return _functions[name, shown]


def _boolean_mask(data, index, axis=0):
    raise GraphError(
        "boolean_mask: the shape of its result depends on values, which a symbol does not have; call "
        "mx.nd.contrib.boolean_mask on arrays, or keep the shape with mx.sym.where."
    )


add_methods(Symbol, _function)
_FAMILIES = families("mx.sym", _function, contrib={"boolean_mask": _boolean_mask, **composed.TESTS})


def __getattr__(name: str):
    if name in REGISTRY or name in composed.COMPOSED:
        return _function(name)
    if name in _FAMILIES:
        return _FAMILIES[name]
    if name == "random":
        from raymx import random

        return random.symbols
    if name == "_internal":  # MXNet's name for operators that begin with an underscore
        return sys.modules[__name__]
    raise AttributeError(f"raymx.symbol has no operator or function {name!r}{did_you_mean(name, __dir__())}.")


def __dir__():
    return sorted({*__all__, *REGISTRY, *composed.COMPOSED, *_FAMILIES, "random"})


def _arithmetic(symbol: Symbol, other, op_name: str):
    if isinstance(other, Symbol):
        return _function(op_name)(symbol, other)
    if isinstance(other, (numbers.Number, np.bool_)):
        return _function(_scalar_form(op_name))(symbol, scalar=other)
    return NotImplemented


def _scalar_form(op_name: str) -> str:
    return f"{op_name}_scalar" if op_name.islower() else f"{op_name}Scalar"


def _either(name: str, left, right, op_name: str, reflected: str, plain: Callable):
    """`op_name` of symbols and numbers in any mix; of two numbers, `plain`."""
    for value in (left, right):
        if not isinstance(value, (Symbol, numbers.Number)):
            raise DTypeError(f"{name}: expected symbols or numbers, got {_what(value)}.")
    if isinstance(left, Symbol):
        return _arithmetic(left, right, op_name)
    return _arithmetic(right, left, reflected) if isinstance(right, Symbol) else plain(left, right)


def pow(base, exp):
    """`base ** exp`, elementwise, of symbols and numbers."""
    return _either("pow", base, exp, "_Power", "_RPower", operator.pow)


power = pow


def maximum(left, right):
    """The larger one, elementwise, of symbols and numbers."""
    return _either("maximum", left, right, "_Maximum", "_Maximum", max)


def minimum(left, right):
    """The smaller one, elementwise, of symbols and numbers."""
    return _either("minimum", left, right, "_Minimum", "_Minimum", min)


def hypot(left, right):
    """`sqrt(left ** 2 + right ** 2)`, elementwise, of symbols and numbers."""
    return _either("hypot", left, right, "_Hypot", "_Hypot", math.hypot)


# ---- small things ----


def _output_name(head: Entry) -> str:
    node = head.node
    return f"{node.name}_{node.op.output_labels()[head.index]}" if node.op else node.name


def _visible(node: Node) -> int:
    return node.op.visible_outputs() if node.op else 1


def _zeros_like(variable: Node) -> Entry:
    return Entry(Node(make("zeros_like"), f"{variable.name}_grad_zeros", inputs=[Entry(variable)]))


def _listed(node: Node) -> dict[str, str]:
    return {**node.text_params(), **attributes.both_spellings(node.attrs)}


def _describe(node: Node) -> list[str]:
    if node.op is None:
        return [f"Variable:{node.name}"]
    lines = ["--------------------", f"Op:{node.op.name}, Name={node.name}", "Inputs:"]
    lines += [
        f"\t{name}={entry.node.name}({entry.index})"
        for name, entry in zip(node.input_names(), node.inputs, strict=True)
    ]
    listed = {**node.text_params(), **node.attrs}
    return lines + ["Attrs:"] * bool(listed) + [f"\t{key}={value}" for key, value in sorted(listed.items())]


def _single(symbol, who: str) -> Entry:
    if not isinstance(symbol, Symbol):
        raise GraphError(f"{who} must be a Symbol, got {_what(symbol)}.")
    if len(symbol) != 1:
        raise GraphError(f"{who} must be one output, got {symbol!r} with {len(symbol)}; choose one with symbol[i].")
    return symbol.heads[0]


def _as_shape(who: str, value) -> Shape | None:
    if value is None:
        return None
    try:
        shape = (value,) if isinstance(value, (int, np.integer)) else tuple(value)
        shape = tuple(max(operator.index(d), 0) for d in shape)
    except TypeError:
        raise ShapeError(f"{who} must be a shape (a tuple of integers), got {_what(value)}.") from None
    return shape or None


def _as_type(who: str, value) -> np.dtype | None:
    try:
        return None if value is None else as_dtype(value)
    except TypeError as error:
        raise DTypeError(f"{who} must be an element type, got {value!r} ({error}).") from None


def _what(value) -> str:
    if isinstance(value, (int, float, str, bool, list, tuple, dict, type(None))):
        return f"{value!r} ({type(value).__name__})"
    return f"a value of type {type(value).__name__}"


def _some(names) -> str:
    """The first few names, for an error message."""
    names = list(names)
    return ", ".join(map(str, names[:12])) + (f", … ({len(names)} in all)" if len(names) > 12 else "")
