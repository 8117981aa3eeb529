"""Symbols as JSON: writes the form of MXNet 1.x, reads that of 2015 (up to 0.8), 0.9 and 1.x.

The forms differ in three ways. In 2015 a node had `param` (the operator's parameters, defaults included) beside `attr`
(the user's attributes), and auxiliary states were not in the graph; later both dicts are one, called `attr` and then
`attrs`, and the states are inputs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from raymx.errors import FormatError, MXNetError
from raymx.graph.attributes import SPECIAL, dressed, is_dressed, split_for_inputs
from raymx.graph.node import Entry, Node, topological
from raymx.ops.op import REGISTRY, Op, make
from raymx.ops.params import REQUIRED, Param, text

VERSION = 10901  # of the MXNet whose form we write

# Operators that 1.x files call by another of their names
_WRITTEN = {
    "_plus": "elemwise_add", "_minus": "elemwise_sub", "_mul": "elemwise_mul", "_div": "elemwise_div",
    "broadcast_plus": "broadcast_add", "broadcast_minus": "broadcast_sub", "ElementWiseSum": "add_n",
    "flip": "reverse", "crop": "slice", "_crop_assign": "_slice_assign", "_crop_assign_scalar": "_slice_assign_scalar",
    "cumsum": "_np_cumsum",
}  # fmt: skip
_IN_PYTHON = {"_Native", "_NDArray"}  # objects of the process that wrote the file
# What parameters were called in 2015, and a meaning that one got only later
_RENAMED = {("SoftmaxActivation", "type"): "mode"}
_MEANT_THEN = {"Pooling": {"pooling_convention": "full"}}  # sizes were rounded up


# ---- writing ----


def dumps(heads: list[Entry]) -> str:
    """The graph under `heads`, laid out as MXNet 1.9.1 does. Raises FormatError for a gradient graph."""
    order = topological(heads)
    number = {node: i for i, node in enumerate(order)}
    versions: dict[Node, int] = defaultdict(int)  # how many operators so far change a variable
    rows = [0]
    for node in order:
        rows.append(rows[-1] + (node.op.counted_outputs() if node.op else 1))
    graph = {
        "nodes": [_node_record(node, number, versions) for node in order],
        "arg_nodes": [number[node] for node in order if node.is_variable],
        "node_row_ptr": rows,
        "heads": [[number[h.node], h.index, versions[h.node]] for h in heads],
        "attrs": {"mxnet_version": ["int", VERSION]},
    }
    return _layout(graph)


def _node_record(node: Node, number: dict[Node, int], versions: dict[Node, int]) -> dict[str, Any]:
    if node.forward is not None:
        raise FormatError(f"cannot save {node!r}: it belongs to a gradient graph; save the symbol that it came from.")
    for state in node.inputs[len(node.op.inputs()) :] if node.op else ():
        versions[state.node] += 1
    record: dict[str, Any] = {"op": json_name(node), "name": node.name}
    if attrs := _written_attrs(node):
        record["attrs"] = attrs
    record["inputs"] = [[number[e.node], e.index, versions[e.node]] for e in node.inputs]
    return record


def json_name(node: Node) -> str:
    """What files call the node's operator: `null` for a variable, else the name that MXNet 1.x uses."""
    return _WRITTEN.get(node.op.name, node.op.name) if node.op else "null"


def _written_attrs(node: Node) -> dict[str, str]:
    """Attributes and parameters in one dict. An operator's bare keys mean parameters, so attributes are dressed."""
    bare = {k: v for k, v in node.attrs.items() if (node.op or k in SPECIAL) and not is_dressed(k)}
    others = {k: v for k, v in node.attrs.items() if k not in bare}
    merged = {**{dressed(k): v for k, v in bare.items()}, **others, **node.text_params()}
    return dict(sorted(merged.items()))


def _layout(value, indent: int = 0) -> str:
    """`value` as text, broken into lines where MXNet breaks it."""
    if not isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        brackets, several = "{}", len(value) > 1
        items = [f"{_layout(k)}: {_layout(v, indent + 2)}" for k, v in value.items()]
    else:
        brackets, several = "[]", len(value) > 10 or any(isinstance(v, dict) for v in value)
        items = [_layout(v, indent + 2) for v in value]
    if not several:
        return brackets[0] + ", ".join(items) + brackets[1]
    margin = " " * indent
    lines = f", \n{margin}  ".join(items)
    return f"{brackets[0]}\n{margin}  {lines}\n{margin}{brackets[1]}"


def kept_params(op: Op, given: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of a node as text: those that were given, as they were given, and those that differ from their
    defaults. `op` may be today's form of the operator to which they were given."""
    if op.any_parameter:
        return op.text_attrs()
    kept = {}
    for key, declared in op.declared.items():
        value = op.attrs[key]
        if key in given and declared.parse(given[key], op.name) == value:
            name = _RENAMED.get((op.name, key), key)
            kept[name] = given[key] if isinstance(given[key], str) else text(value)
        elif not _is_default(declared, value):
            kept[key] = text(value)
    return kept


def _is_default(declared: Param, value) -> bool:
    if value is None or declared.default is None or declared.default is REQUIRED:
        return value is declared.default
    return bool(value == declared.default)


# ---- reading ----


def loads(json_text: str | bytes, source: str = "the text") -> list[Entry]:
    """The heads of the graph in `json_text`; `source` (a file's name) stands in errors.

    Raises FormatError if the text is no JSON, no graph, damaged, or uses operators that do not exist here: all of
    them are listed.
    """
    graph = _document(json_text, source)
    records = graph["nodes"]
    _check_operators(records, source)
    nodes: list[Node] = []
    for record in records:
        try:
            nodes.append(_read_node(record, nodes))
        except MXNetError as error:
            raise FormatError(f"{source}: node {len(nodes)} ({record['name']!r}): {error}") from error
    try:
        return [_entry(head, nodes) for head in graph["heads"]]
    except FormatError as error:
        raise FormatError(f"{source}: heads: {error}") from None


def _document(json_text: str | bytes, source: str) -> dict[str, Any]:
    try:
        graph = json.loads(json_text)
    except UnicodeDecodeError:
        raise FormatError(f"{source} is not a symbol: it holds binary data, not JSON text.") from None
    except RecursionError:
        raise FormatError(f"{source} is not a symbol: its lists are nested too deeply.") from None
    except json.JSONDecodeError as error:
        start = json_text[:40].decode(errors="replace") if isinstance(json_text, bytes) else json_text[:40]
        raise FormatError(
            f"{source} is not a symbol: not JSON at line {error.lineno}, column {error.colno} ({error.msg}); "
            f"it begins with {start!r}."
        ) from None
    if not isinstance(graph, dict):
        raise FormatError(f"{source} is not a symbol: expected a JSON object with nodes and heads, got {_kind(graph)}.")
    for key in ("nodes", "heads"):
        if not isinstance(graph.get(key), list):
            keys = ", ".join(map(repr, graph)) or "nothing"
            raise FormatError(f"{source} is not a symbol: it has no list {key!r} (it has {keys}).")
    if not graph["heads"]:
        raise FormatError(f"{source} is not a symbol: its list 'heads' is empty.")
    for i, record in enumerate(graph["nodes"]):
        _check_record(record, i, source)
    return graph


def _check_record(record, i: int, source: str) -> None:
    if not isinstance(record, dict):
        raise FormatError(f"{source}: node {i} must be a JSON object, got {_kind(record)}.")
    for key, kind in (("op", str), ("name", str), ("inputs", list)):
        if not isinstance(record.get(key), kind):
            keys = ", ".join(map(repr, record)) or "nothing"
            raise FormatError(f"{source}: node {i} has no {key!r} (it has {keys}).")
    for key in ("param", "attr", "attrs"):
        texts = record.get(key) or {}
        if not isinstance(texts, dict) or not all(isinstance(v, str) for v in texts.values()):
            who = f"{source}: node {i} ({record['name']!r})"
            raise FormatError(f"{who}: {key!r} must map names to strings, got {texts!r}.")


def _check_operators(records, source: str) -> None:
    unknown: dict[str, list[str]] = defaultdict(list)
    for record in records:
        if record["op"] != "null" and record["op"] not in REGISTRY:
            unknown[record["op"]].append(record["name"])
    if unknown:
        listed = "; ".join(f"{op} ({', '.join(names[:3])}{', …' * (len(names) > 3)})" for op, names in unknown.items())
        hint = (
            "; what was a NumpyOp or NDArrayOp is not in the file: compose the symbol anew in Python"
            if _IN_PYTHON.intersection(unknown)
            else ""
        )
        raise FormatError(f"{source} uses operators that do not exist here: {listed}{hint}.")


def _read_node(record: dict[str, Any], nodes: list[Node]) -> Node:
    if record.get("backward_source_id", -1) != -1:
        raise FormatError("it belongs to a gradient graph; save the symbol that the gradient came from.")
    name, inputs = record["name"], [_entry(e, nodes) for e in record["inputs"]]
    if record["op"] == "null":
        if inputs:
            raise FormatError(f"a variable has no inputs, got {record['inputs']}.")
        return Node(None, name, {**_texts(record, "param"), **_texts(record, "attr", "attrs")})
    params, attrs = modernize(record)
    op = make(record["op"], **params)
    names = op.inputs() + op.aux()
    if len(inputs) > len(names):
        raise FormatError(f"{op.name} takes {len(names)} inputs ({', '.join(names)}), got {len(inputs)}.")
    own, handed = split_for_inputs(attrs, names)
    for input_name in names[len(inputs) :]:  # states were not in the graph before 0.9
        inputs.append(Entry(Node(None, f"{name}_{input_name}", {**noted(op, input_name), **params, **own})))
    for input_name, entry in zip(names, inputs, strict=True):
        _read_input(op, input_name, entry, handed)
    for input_name, extra in handed.items():  # meant for an input that is no variable: kept where it was
        own.update({f"{input_name}_{key[2:-2]}": value for key, value in extra.items()})
    return Node(op, name, own, inputs, params=kept_params(op, params))


def noted(op: Op, input_name: str) -> dict[str, str]:
    """The attribute of a variable made for an input or state that says how it begins, if MXNet notes one."""
    return {"__init__": op.initial[input_name]} if input_name in op.initial else {}


def _read_input(op, name: str, entry: Entry, handed: dict[str, dict[str, str]]) -> None:
    if entry.node.is_variable:
        entry.node.attrs.update(handed.pop(name, {}))
    elif name in op.aux():
        raise FormatError(f"{op.name}: state {name!r} must be a variable, got {entry.node!r}.")


def modernize(record: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Parameters and attributes of an operator's record of any era, in today's words."""
    op_name = record["op"]
    merged = _texts(record, "attr", "attrs")
    if "param" in record:
        params, attrs = {**_MEANT_THEN.get(op_name, {}), **_texts(record, "param")}, merged
    else:
        attrs = {k: v for k, v in merged.items() if _is_attribute(k, REGISTRY[op_name].declared)}
        params = {k: v for k, v in merged.items() if k not in attrs}
    return params, attrs


def _is_attribute(key: str, declared) -> bool:
    return key not in declared and (is_dressed(key) or key.endswith(SPECIAL))


def _texts(record: dict[str, Any], *keys: str) -> dict[str, str]:
    merged: dict[str, str] = {}
    for key in keys:
        merged.update(record.get(key) or {})
    return merged


def _entry(reference, nodes: list[Node]) -> Entry:
    """The output that `[node, output]` or `[node, output, version]` names."""
    if not (isinstance(reference, list) and len(reference) in (2, 3) and all(isinstance(n, int) for n in reference)):
        raise FormatError(f"expected [node, output] or [node, output, version], got {reference!r}.")
    number, index = reference[:2]
    if not 0 <= number < len(nodes):
        raise FormatError(f"{reference} names node {number}, but only {len(nodes)} nodes stand before it.")
    count = len(nodes[number].output_names())
    if not 0 <= index < count:
        raise FormatError(f"{reference} names output {index} of {nodes[number]!r}, which has {count}.")
    return Entry(nodes[number], index)


def _kind(value) -> str:
    words = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return words.get(type(value), f"the number {value}")
