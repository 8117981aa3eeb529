"""Docstrings and signatures of operators' functions, made from the operators' declarations."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any, NamedTuple

from raymx.ops.op import Op
from raymx.ops.params import REQUIRED, Param

_ARRAYS = {"symbol": "Symbol", "ndarray": "NDArray"}
_EXTRA = {
    "symbol": (
        ("name", "name : str, optional", "the node's name; made from the operator's if left out"),
        ("attr", "attr : dict of str, optional", "attributes of the node and of the variables it creates"),
    ),
    "ndarray": (("out", "out : NDArray or list of NDArray, optional", "where the result is written"),),
}


class Inputs(NamedTuple):
    """What an operator's functions take, before its parameters are known."""

    names: tuple[str, ...]  # inputs in order; those that depend on a parameter are in `optional`, too
    optional: frozenset[str]
    aux: tuple[str, ...]
    variadic: bool


def inputs(cls: type[Op]) -> Inputs:
    """The inputs of an operator class, read from the signature of its forward."""
    return _inputs(cls.forward, _states(cls))


@cache
def _inputs(forward: Any, aux: tuple[str, ...]) -> Inputs:
    parameters = list(inspect.signature(forward).parameters.values())[2:]  # self, xp
    named = [p for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
    return Inputs(
        names=tuple(p.name for p in named if p.name not in aux),
        optional=frozenset(p.name for p in named if p.default is not p.empty),
        aux=aux,
        variadic=any(p.kind == p.VAR_POSITIONAL for p in parameters),
    )


def _states(cls: type[Op]) -> tuple[str, ...]:
    try:
        return cls.aux(object.__new__(cls))
    except AttributeError:  # they depend on a parameter
        return ()


def document(cls: type[Op], kind: str = "symbol") -> str:
    """The docstring of `mx.sym.<op>` (`kind="symbol"`) or `mx.nd.<op>` (`kind="ndarray"`)."""
    array, taken = _ARRAYS[kind], inputs(cls)
    rows = [_input_row(name, array, taken, kind) for name in taken.names]
    if taken.variadic:
        rows.append((f"*args : {array}", f"as many as {cls.variadic or 'wanted'}"))
    rows += [_state_row(name, array, kind) for name in taken.aux]
    rows += [_parameter_row(p) for p in cls.declared.values()]
    rows += [(head, text) for _, head, text in _EXTRA[kind]]
    lines = [_summary(cls), "", "Parameters", "----------"]
    for head, text in rows:
        lines.append(head)
        if text:
            lines.append(f"    {text}")
    lines += ["", "Returns", "-------", array]
    if cls.aliases:
        lines += ["", f"Also called {', '.join(cls.aliases)}."]
    return "\n".join(lines)


def signature(cls: type[Op], kind: str = "symbol") -> inspect.Signature:
    """The signature to show for the operator's function; inputs come first, parameters after them."""
    taken, kinds = inputs(cls), inspect.Parameter
    inputs_kind = kinds.KEYWORD_ONLY if taken.variadic else kinds.POSITIONAL_OR_KEYWORD
    given = [kinds("args", kinds.VAR_POSITIONAL)] if taken.variadic else []
    default = kinds.empty if kind == "ndarray" else None  # a symbol's missing input becomes a variable
    for name in (*taken.names, *taken.aux):
        default = None if name in taken.optional else default
        given.append(kinds(name, inputs_kind, default=default))
    for p in cls.declared.values():
        given.append(kinds(p.name, kinds.KEYWORD_ONLY, default=kinds.empty if p.default is REQUIRED else p.default))
    given += [kinds(name, kinds.KEYWORD_ONLY, default=None) for name, _, _ in _EXTRA[kind]]
    return inspect.Signature(given)


def _summary(cls: type[Op]) -> str:
    """What the class says of itself, or else a base that it shares with its like."""
    words = inspect.getdoc(cls)
    return words if words and words != inspect.getdoc(Op) else f"The operator {cls.name}."


def _input_row(name: str, array: str, taken: Inputs, kind: str) -> tuple[str, str]:
    if name in taken.optional:
        return f"{name} : {array}, depends on the parameters", ""
    return f"{name} : {array}" + (", made as a variable if left out" if kind == "symbol" else ""), ""


def _state_row(name: str, array: str, kind: str) -> tuple[str, str]:
    made = ", made as a variable if left out" if kind == "symbol" else ""
    return f"{name} : {array}{made}", "auxiliary state, changed by the operator and not by gradients"


def _parameter_row(p: Param) -> tuple[str, str]:
    kind = p.describe() + (" or None" if p.optional else "")
    return f"{p.name} : {kind}, {'required' if p.default is REQUIRED else f'default {p.default!r}'}", p.doc
