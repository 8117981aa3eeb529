"""Networks as pictures and as tables."""

from __future__ import annotations

import math
from typing import Any

from raymx.errors import GraphError, MXNetError, ShapeError
from raymx.graph.node import Entry, Node, aux_nodes, topological
from raymx.ops.params import Shape
from raymx.symbol import Symbol

_PARAMETER_ENDINGS = ("_weight", "_bias", "_gamma", "_beta", "_parameters")
_COLORS = {
    "variable": "#8dd3c7",
    "FullyConnected": "#fb8072", "Convolution": "#fb8072", "Deconvolution": "#fb8072",
    "Activation": "#ffffb3", "LeakyReLU": "#ffffb3",
    "BatchNorm": "#bebada", "InstanceNorm": "#bebada", "LRN": "#bebada",
    "Pooling": "#80b1d3",
    "Concat": "#fdb462", "Flatten": "#fdb462", "Reshape": "#fdb462",
    "SoftmaxOutput": "#b3de69", "LinearRegressionOutput": "#b3de69", "LogisticRegressionOutput": "#b3de69",
}  # fmt: skip
_OTHER_COLOR = "#fccde5"
# Parameters that say what a layer does, shown under its name
_TELLING = ("num_hidden", "act_type", "pool_type", "kernel", "stride", "num_filter", "p", "scalar", "shape")


def plot_network(
    symbol: Symbol, title="plot", save_format="pdf", shape=None, dtype=None, node_attrs=None, hide_weights=True
):  # fmt: skip
    """The network as a `graphviz.Digraph`, inputs at the bottom; `.render()` writes `title` as a `save_format` file.

    `shape` (name to shape) writes shapes on the edges, the batch axis left out, and `dtype` (name to type) element
    types. `node_attrs` are graphviz attributes of all nodes. `hide_weights` leaves out weights and states. Raises
    MXNetError without the Python package `graphviz`, and ShapeError if `shape` does not say enough.
    """
    _check(symbol, "plot_network")
    graphviz = _graphviz()
    shapes = _output_shapes(symbol, shape, "plot_network") if shape else {}
    types = _output_types(symbol, dtype) if dtype else {}
    style = {"shape": "box", "fixedsize": "true", "width": "1.3", "height": "0.8034", "style": "filled"}
    graph = graphviz.Digraph(name=title, format=save_format)
    order = topological(symbol.heads)
    hidden = set(filter(_is_parameter, order)) | set(aux_nodes(order)) if hide_weights else set()
    numbers = {node: f"n{i}" for i, node in enumerate(order)}  # names may stand twice
    for node in order:
        if node not in hidden:
            graph.node(numbers[node], label=_label(node), **{**style, **_look(node), **(node_attrs or {})})
    for node in order:
        for entry in node.inputs:
            if entry.node not in hidden:
                label = " ".join(filter(None, (_edge_shape(shapes.get(entry)), types.get(entry, ""))))
                graph.edge(numbers[node], numbers[entry.node], dir="back", arrowtail="open", label=label)
    return graph


def print_summary(symbol: Symbol, shape=None, line_length: int = 120, positions=(0.44, 0.64, 0.74, 1.0)) -> None:
    """Print a table of layers: name and operator, output shape, number of parameters, inputs; then the total.

    `shape` maps input names to shapes; without it there are no shapes and no numbers. Parameters are counted where
    they are used first. Raises ShapeError if `shape` does not say enough.
    """
    _check(symbol, "print_summary")
    shapes = _output_shapes(symbol, shape, "print_summary") if shape else {}
    ends = [int(line_length * p) if p <= 1 else int(p) for p in positions]
    print("_" * line_length)
    print(_row(("Layer (type)", "Output Shape", "Param #", "Previous Layer"), ends))
    print("=" * line_length)
    order = topological(symbol.heads)
    data, total = _data(order), 0
    counted: set[Node] = set()
    for node in order:
        if node.is_variable and node not in data:
            continue
        own = [e for e in node.inputs if _is_parameter(e.node) and e.node not in counted]
        count = sum(math.prod(shapes[e]) for e in own if e in shapes)
        counted.update(e.node for e in own)
        total += count
        before = [e.node.name for e in node.inputs if e.node.op or e.node in data] or [""]
        kind, known = node.op.name if node.op else "null", shapes.get(Entry(node))
        print(_row((f"{node.name}({kind})", str(known or ""), str(count), before[0]), ends))
        for name in before[1:]:
            print(_row(("", "", "", name), ends))
        print("_" * line_length)
    print(f"Total params: {total}")
    print("_" * line_length)


def _check(symbol, who: str) -> None:
    if not isinstance(symbol, Symbol):
        raise GraphError(f"{who}: expected a Symbol, got a value of type {type(symbol).__name__}.")


def _graphviz() -> Any:
    try:
        import graphviz
    except ImportError as error:
        raise MXNetError(
            "plot_network needs the Python package graphviz (and, to render, the program dot): "
            "pip install 'raymx[viz]'. print_summary works without."
        ) from error
    return graphviz


def _output_shapes(symbol: Symbol, shape: dict[str, Shape], who: str) -> dict[Entry, Shape]:
    internals = symbol.get_internals()
    _, shapes, _ = internals.infer_shape_partial(**shape)
    unknown = [name for name, s in zip(internals.list_outputs(), shapes, strict=True) if not s or 0 in s]
    if unknown:
        names = ", ".join(unknown[:5])
        raise ShapeError(f"{who}: shape= does not tell the shape of {names}; give the shapes of all inputs.")
    return dict(zip(internals.heads, shapes, strict=True))


def _output_types(symbol: Symbol, dtype: dict[str, Any]) -> dict[Entry, str]:
    internals = symbol.get_internals()
    _, types, _ = internals.infer_type_partial(**dtype)
    return {entry: t.__name__ for entry, t in zip(internals.heads, types, strict=True) if t}


def _is_parameter(node: Node) -> bool:
    return node.is_variable and node.name.endswith(_PARAMETER_ENDINGS)


def _data(order: list[Node]) -> set[Node]:
    """The variables that are no parameters, no states and no labels."""
    variables = {n for n in order if n.is_variable and not _is_parameter(n) and not n.name.endswith("_label")}
    return variables - set(aux_nodes(order))


def _row(cells, ends: list[int]) -> str:
    line = ""
    for cell, end in zip(cells, ends, strict=True):
        line = (line + cell)[: end - 1].ljust(end)
    return line.rstrip()


def _label(node: Node) -> str:
    if node.op is None:
        return node.name
    params = node.op.text_attrs()
    telling = [params[key] for key in _TELLING if params.get(key) not in (None, "None", "()")]
    return "\n".join([node.op.name, *([", ".join(telling)] if telling else [])])


def _look(node: Node) -> dict[str, str]:
    if node.op is None:
        return {"shape": "oval", "fillcolor": _COLORS["variable"]}
    return {"fillcolor": _COLORS.get(node.op.name, _OTHER_COLOR)}


def _edge_shape(shape: Shape | None) -> str:
    return "x".join(map(str, shape[1:])) if shape else ""
