"""Gradients of imperative code.

    x = mx.nd.array([[1, 2], [3, 4]])
    x.attach_grad()
    with mx.autograd.record():
        y = (x * x).sum()
    y.backward()
    x.grad  # 2 * x

Each thread records for itself. Copies between devices are recorded, too: a gradient lies where its variable lies. The
record is freed by `backward`, unless it is told to retain it, and with the last array that hangs on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from raymx import tape
from raymx.errors import GraphError, MXNetError, ParameterError, ShapeError
from raymx.graph.node import Entry, Node
from raymx.ndarray import NDArray
from raymx.symbol import Symbol
from raymx.tape import CodeStep, Look, Step, Variable, Way

__all__ = [
    "Function", "NDArray", "backward", "get_symbol", "grad", "is_recording", "is_training", "mark_variables", "pause",
    "predict_mode", "record", "set_recording", "set_training", "train_mode",
]  # fmt: skip

GRAD_REQS = ("write", "add", "null")


# ---- modes ----


def is_recording() -> bool:
    """Whether operations of this thread are recorded."""
    return tape.mode.recording


def is_training() -> bool:
    """Whether operators that this thread calls run as in training (Dropout, BatchNorm)."""
    return tape.mode.training


def set_recording(is_recording: bool) -> bool:
    """Switch recording; returns what it was."""
    before = tape.mode.recording
    tape.set_mode(bool(is_recording), tape.mode.training)
    return before


def set_training(train_mode: bool) -> bool:
    """Switch training; returns what it was."""
    before = tape.mode.training
    tape.set_mode(tape.mode.recording, bool(train_mode))
    return before


class _Scope:
    """Modes for the length of a with block; None leaves one as it is."""

    def __init__(self, recording: bool | None, training: bool | None):
        self._wanted = recording, training
        self._before: list[tuple[bool, bool]] = []

    def __enter__(self) -> _Scope:
        now = tape.mode.recording, tape.mode.training
        self._before.append(now)
        recording, training = (old if new is None else bool(new) for new, old in zip(self._wanted, now, strict=True))
        tape.set_mode(recording, training)
        return self

    def __exit__(self, *exc_info) -> None:
        tape.set_mode(*self._before.pop())


def record(train_mode: bool = True) -> _Scope:
    """`with record():` records what is computed from variables, and runs operators as in training."""
    return _Scope(True, train_mode)


def pause(train_mode: bool = False) -> _Scope:
    """`with pause():` does not record, and runs operators as in prediction."""
    return _Scope(False, train_mode)


def train_mode() -> _Scope:
    """`with train_mode():` runs operators as in training, recorded or not."""
    return _Scope(None, True)


def predict_mode() -> _Scope:
    """`with predict_mode():` runs operators as in prediction, recorded or not."""
    return _Scope(None, False)


# ---- variables and gradients ----


def mark_variables(variables, gradients, grad_reqs="write") -> None:
    """Make arrays variables whose gradients `backward` writes into `gradients`, of the same shapes.

    Each is one array or a list; `grad_reqs` is "write", "add", "null", or a list of them.
    """
    variables, gradients = _listed(variables), _listed(gradients)
    reqs = [grad_reqs] * len(variables) if isinstance(grad_reqs, str) else list(grad_reqs)
    if not len(variables) == len(gradients) == len(reqs):
        raise MXNetError(
            f"mark_variables: got {len(variables)} variables, {len(gradients)} gradients and {len(reqs)} grad_reqs; "
            "there must be as many of each."
        )
    for variable, gradient, req in zip(variables, gradients, reqs, strict=True):
        _check_arrays("mark_variables", [variable, gradient])
        if req not in GRAD_REQS:
            raise ParameterError(f"mark_variables: grad_req must be 'write', 'add' or 'null', got {req!r}.")
        if gradient.shape != variable.shape:
            raise ShapeError(
                f"mark_variables: the gradient must have the variable's shape {variable.shape}, got {gradient.shape}."
            )
        tape.mark(variable, gradient, req)


def backward(heads, head_grads=None, retain_graph: bool = False, train_mode: bool = True) -> None:
    """Write the gradients of `heads` for all variables from which they were computed into the variables' `grad`.

    `head_grads` are the gradients that come in at each head; ones where it is None. Unless `retain_graph`, the record
    is freed. Raises GraphError for a head that was not recorded, or whose record was freed before.
    """
    heads, given = _heads("backward", heads, head_grads)
    with pause(train_mode):
        found = tape.differentiate(heads, given, None, Way(train_mode, False), retain_graph)
        for entry, gradient in found.items():
            if isinstance(entry.step, Variable):
                _deliver(entry.step, gradient)


def _deliver(variable: Variable, gradient: NDArray | None) -> None:
    variable.fresh = variable.req != "null"
    if variable.req == "write":
        variable.grad[:] = 0 if gradient is None else gradient
    elif variable.req == "add" and gradient is not None:
        variable.grad += gradient.as_in_context(variable.grad.context)


def grad(
    heads, variables, head_grads=None, retain_graph: bool | None = None, create_graph: bool = False,
    train_mode: bool = True,
):  # fmt: skip
    """The gradients of `heads` with respect to `variables`, as new arrays; `grad` of the variables stays as it is.

    `variables` may be any arrays from which the heads were computed. With `create_graph` the way back is recorded, so
    that gradients of these gradients can be taken; not every operator allows that. `retain_graph` is `create_graph` by
    default. Returns one array for one variable, a list for a list.
    """
    heads, given = _heads("grad", heads, head_grads)
    wanted = _listed(variables)
    _check_arrays("grad", wanted)
    if not wanted:
        raise MXNetError("grad: variables must hold at least one array.")
    targets = [_target(x, i) for i, x in enumerate(wanted)]
    retain = create_graph if retain_graph is None else retain_graph
    with _Scope(create_graph, train_mode):
        found = tape.differentiate(heads, given, targets, Way(train_mode, create_graph), retain)
        gradients = [_apart(found[target], x) for target, x in zip(targets, wanted, strict=True)]
    return gradients[0] if isinstance(variables, NDArray) else gradients


def _apart(gradient: NDArray | None, variable: NDArray) -> NDArray:
    """A gradient of its own: what the user does to one must not change another, or a head gradient."""
    return Look.of(variable).zeros() if gradient is None else gradient.copy()


def _target(variable: NDArray, i: int) -> tape.Entry:
    entry = tape.entry_of(variable)
    if entry is None:
        raise GraphError(f"grad: variable {i} is not recorded; call attach_grad() on it before it is used.")
    return entry


def _heads(who: str, heads, head_grads) -> tuple[list[NDArray], list[NDArray | None]]:
    listed = _listed(heads)
    _check_arrays(who, listed)
    given: list[Any] = [None] * len(listed) if head_grads is None else _listed(head_grads)
    if len(given) != len(listed):
        raise MXNetError(f"{who}: got {len(listed)} heads and {len(given)} head_grads; there must be as many of each.")
    _check_arrays(who, [g for g in given if g is not None])
    return listed, given


def _listed(arrays) -> list[Any]:
    return [arrays] if isinstance(arrays, NDArray) else list(arrays)


def _check_arrays(who: str, arrays: Sequence) -> None:
    for each in arrays:
        if not isinstance(each, NDArray):
            raise TypeError(f"{who}: expected NDArrays, got {type(each).__name__}.")


# ---- functions with a gradient of their own ----


class Function:
    """A computation whose gradient the user states: override `forward` and `backward`, call an object once.

        class Sigmoid(mx.autograd.Function):
            def forward(self, x):
                y = 1 / (1 + mx.nd.exp(-x))
                self.save_for_backward(y)
                return y

            def backward(self, dy):
                (y,) = self.saved_tensors
                return dy * y * (1 - y)
    """

    _used = False
    saved_tensors: tuple = ()

    def save_for_backward(self, *args) -> None:
        """Keep arrays, to be found in `saved_tensors`."""
        self.saved_tensors = args

    def forward(self, *inputs):
        """The outputs, one array or several; not recorded."""
        raise NotImplementedError(f"{type(self).__name__} must override forward.")

    def backward(self, *output_grads):
        """The gradients of the inputs, as many as `forward` took, from those of the outputs."""
        raise NotImplementedError(f"{type(self).__name__} must override backward.")

    def __call__(self, *inputs):
        if self._used:
            raise MXNetError(f"{type(self).__name__}: an object can be called once; make another one.")
        self._used = True
        recording = is_recording()
        with _Scope(False, None):
            outputs = self.forward(*inputs)
            listed = _listed(outputs)
            _check_arrays(f"{type(self).__name__}.forward", listed)
            handles = [x.detach() for x in listed]  # forward may have saved what it returns
        if recording and any(tape.entry_of(x) is not None for x in inputs):
            step = CodeStep(type(self).__name__, inputs, handles, self._pull(len(inputs)))
            for i, handle in enumerate(handles):
                handle._entry = tape.Entry(step, i)
        return handles[0] if isinstance(outputs, NDArray) else type(outputs)(handles)

    def _pull(self, count: int) -> Callable[..., Sequence[NDArray]]:
        def pull(*gs: NDArray) -> Sequence[NDArray]:
            found = self.backward(*gs)
            gradients = [found] if isinstance(found, NDArray) else list(found)
            who = f"{type(self).__name__}.backward"
            if len(gradients) != count:
                raise MXNetError(f"{who} must return a gradient for each of {count} inputs, got {len(gradients)}.")
            _check_arrays(who, gradients)
            return gradients

        return pull


# ---- what was recorded, as a symbol ----


def get_symbol(x: NDArray) -> Symbol:
    """The computation of `x` as a symbol; its arguments, called `var0`, `var1`, …, are the variables and constants in
    the order of their first use. Raises GraphError where something was computed that is no operator."""
    _check_arrays("get_symbol", [x])
    entry = tape.entry_of(x)
    if entry is None:
        raise GraphError("get_symbol: the array was not computed from a variable while recording.")
    return Symbol([_Drawing().entry(entry)])


class _Drawing:
    """The nodes of a graph, made from steps."""

    def __init__(self) -> None:
        self._nodes: dict[Any, Node] = {}
        self._counts: dict[str, int] = {}

    def entry(self, entry: tape.Entry) -> Entry:
        for step in tape._topological([entry]):
            if isinstance(step, Step):
                self._draw(step)
        return Entry(self._node(entry.step), entry.index)

    def _node(self, step: Step | Variable) -> Node:
        return self._nodes[step] if isinstance(step, Step) else self._leaf(step)

    def _draw(self, step: Step) -> None:
        if step.op is None:
            raise GraphError(f"get_symbol: {step.name} was recorded, which is no operator that a symbol can hold.")
        inputs = [
            Entry(self._leaf(key)) if parent is None else Entry(self._node(parent.step), parent.index)
            for parent, key in zip(step.parents, step.keys, strict=True)
        ]
        self._nodes[step] = Node(step.op, self._name(step.op.name.lower().lstrip("_")), inputs=inputs)

    def _leaf(self, key) -> Node:
        if key not in self._nodes:
            self._nodes[key] = Node(None, self._name("var"))
        return self._nodes[key]

    def _name(self, word: str) -> str:
        number = self._counts.get(word, 0)
        self._counts[word] = number + 1
        return f"{word}{number}"


