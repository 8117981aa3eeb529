"""Operators written in Python: `CustomOp`, and `NumpyOp` and `NDArrayOp` of 2015.

    class Square(mx.operator.CustomOp):
        def forward(self, is_train, req, in_data, out_data, aux):
            self.assign(out_data[0], req[0], in_data[0] * in_data[0])

        def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
            self.assign(in_grad[0], req[0], 2 * in_data[0] * out_grad[0])

    @mx.operator.register("square")
    class SquareProp(mx.operator.CustomOpProp):
        def create_operator(self, ctx, shapes, dtypes):
            return Square()

    y = mx.sym.Custom(x, op_type="square")  # or mx.nd.Custom

`forward` and `backward` run on the device's thread, in the device's process, in order with its other work. The arrays
that they get lie in the device's memory; everything of `mx.nd` works on them and is done at once. They cannot use
arrays from outside: those are handed in as inputs. To a device actor the class travels as code, unless the actor can
import it. What they raise is raised by the next wait, with their lines.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import raymx.ops  # noqa: F401  (fills the registry)
from raymx import opdoc, runtime, symbol
from raymx.context import Context
from raymx.errors import GraphError, MXNetError
from raymx.ndarray import NDArray
from raymx.ops import custom
from raymx.ops.custom import Custom, Definition, Face, Session
from raymx.ops.op import REGISTRY, find
from raymx.ops.params import as_dtype

__all__ = [
    "CustomOp", "CustomOpProp", "NDArrayOp", "NumpyOp", "OperatorArguments", "PythonOp", "get_all_registered_operators",
    "get_operator_arguments", "register",
]  # fmt: skip

_log = logging.getLogger(__name__)


class CustomOp:
    """What runs on the device. Override `forward` and `backward`; one object serves one executor, or one call."""

    def forward(self, is_train: bool, req: list[str], in_data, out_data, aux) -> None:
        """Compute the outputs. `req` says for each how it is to be written, see `assign`; all others are lists of
        NDArrays. `aux` are auxiliary states, which may be changed."""

    def backward(self, req: list[str], out_grad, in_data, out_data, in_grad, aux) -> None:
        """Compute the gradients of the inputs. `req` is "null" for an input whose gradient nobody wants. What
        `declare_backward_dependency` does not name is not there."""

    def assign(self, dst: NDArray, req: str, src) -> None:
        """Write `src` to `dst` as `req` says: "write" and "inplace" overwrite, "add" adds, "null" does nothing."""
        if req in ("write", "inplace"):
            dst[:] = src
        elif req == "add":
            dst[:] += src
        elif req != "null":
            raise MXNetError(f"assign: req must be 'write', 'inplace', 'add' or 'null', got {req!r}.")


class CustomOpProp:
    """What graphs ask about the operator: names, shapes, types, and what backward needs. Override what differs.

    An object is made for each use, with the parameters of `mx.sym.Custom(…)` as strings. `need_top_grad` False says
    that backward ignores the gradient that comes in, as a loss does.
    """

    def __init__(self, need_top_grad: bool = True):
        self.need_top_grad_ = need_top_grad

    def list_arguments(self) -> list[str]:
        """Names of the inputs."""
        return ["data"]

    def list_outputs(self) -> list[str]:
        """Names of the outputs."""
        return ["output"]

    def list_auxiliary_states(self) -> list[str]:
        """Names of the auxiliary states."""
        return []

    def infer_shape(self, in_shape):
        """From the inputs' shapes (lists; empty where nothing is known) the shapes of inputs, outputs and, if there are
        any, auxiliary states."""
        return in_shape, [in_shape[0]] * len(self.list_outputs()), []

    def infer_type(self, in_type):
        """From the inputs' types (NumPy classes; None where nothing is known) those of inputs, outputs and states."""
        return in_type, [in_type[0]] * len(self.list_outputs()), [in_type[0]] * len(self.list_auxiliary_states())

    def declare_backward_dependency(self, out_grad: list[int], in_data: list[int], out_data: list[int]) -> list[int]:
        """Which of these numbers backward reads; memory of the others is free after forward."""
        return [*(out_grad if self.need_top_grad_ else ()), *in_data, *out_data]

    def create_operator(self, ctx: Context, in_shapes, in_dtypes) -> CustomOp:
        """The object that computes, for inputs of these shapes and types on this device; called on the device."""
        return CustomOp()


def register(reg_name: str) -> Callable[[type], type]:
    """Decorate a CustomOpProp: `mx.sym.Custom(…, op_type=reg_name)` and `mx.nd.Custom` use it from now on."""
    if not isinstance(reg_name, str) or not reg_name:
        raise MXNetError(f"register: the name must be a string, as in @mx.operator.register('name'), got {reg_name!r}.")

    def keep(prop_class: type) -> type:
        if not (isinstance(prop_class, type) and issubclass(prop_class, CustomOpProp)):
            raise MXNetError(f"register {reg_name!r}: expected a subclass of CustomOpProp, got {prop_class!r}.")
        if reg_name in custom.registered:
            _log.info("%s replaces the operator that was registered as %r", prop_class.__name__, reg_name)
        custom.registered[reg_name] = lambda **params: _of_prop(reg_name, prop_class, params)
        return prop_class

    return keep


# ---- the classes of 2015 ----


class PythonOp:
    """Base of NumpyOp and NDArrayOp. An object is an operator: `op(symbol, name=…)` or `op.get_symbol(…)` uses it in a
    graph. It is the same object everywhere in this process, and a copy of it on a device actor. Symbol files cannot
    hold it. `need_top_grad` False says that backward ignores the gradient that comes in."""

    def __init__(self, need_top_grad: bool = True):
        self.need_top_grad_ = need_top_grad

    def __call__(self, *args, **kwargs) -> symbol.Symbol:
        return self.get_symbol(*args, **kwargs)

    def get_symbol(self, *args, name: str | None = None, attr=None, **kwargs) -> symbol.Symbol:
        """The operator applied to symbols, by position or by the names of `list_arguments`."""
        raise NotImplementedError(f"{type(self).__name__} must derive from NumpyOp or NDArrayOp.")

    def forward(self, in_data, out_data) -> None:
        """Fill `out_data`; by default with the first input."""
        out_data[0][:] = in_data[0]

    def backward(self, out_grad, in_data, out_data, in_grad) -> None:
        """Fill `in_grad`; by default with ones."""
        in_grad[0][:] = 1.0

    def infer_shape(self, in_shape):
        """From the inputs' shapes the shapes of inputs and outputs."""
        return in_shape, [in_shape[0]]

    def list_outputs(self) -> list[str]:
        """Names of the outputs."""
        return ["output"]

    def list_arguments(self) -> list[str]:
        """Names of the inputs."""
        return ["data"]

    def need_top_grad(self) -> bool:
        """Whether backward reads `out_grad`."""
        return self.need_top_grad_


class NumpyOp(PythonOp):
    """An operator on NumPy arrays: on a CPU the device's own memory, to be read and filled in place."""

    def get_symbol(self, *args, name=None, attr=None, **kwargs):
        return symbol.create(Native, "_native", args, {**kwargs, "info": self}, name, attr)


class NDArrayOp(PythonOp):
    """An operator on NDArrays of the device."""

    def get_symbol(self, *args, name=None, attr=None, **kwargs):
        return symbol.create(NativeNDArray, "_ndarray", args, {**kwargs, "info": self}, name, attr)

    def declare_backward_dependency(self, out_grad: list[int], in_data: list[int], out_data: list[int]) -> list[int]:
        """Which of these numbers backward reads."""
        return [*(out_grad if self.need_top_grad() else ()), *in_data, *out_data]


class Native(Custom):
    """A NumpyOp in a graph."""

    name = "_Native"

    @classmethod
    def parse(cls, given):
        unknown = [key for key in given if key != "info"]
        if unknown:
            raise GraphError(f"{type(given['info']).__name__}: unknown parameter {unknown[0]!r}; inputs are symbols.")
        return given

    def define(self):
        return _Old(self.attrs["info"])

    @property
    def title(self):
        return type(self.attrs["info"]).__name__ if self.attrs else self.name

    def text_attrs(self):
        return {}

    def attrs_to_ship(self):
        return {}


class NativeNDArray(Native):
    """An NDArrayOp in a graph."""

    name = "_NDArray"


# ---- what the graph and the device ask ----


def _of_prop(name: str, prop_class: type, params: dict[str, str]) -> _Registered:
    try:
        return _Registered(prop_class(**params))
    except Exception as error:
        given = ", ".join(f"{key}={value!r}" for key, value in params.items()) or "no parameters"
        raise MXNetError(
            f"Custom (op_type {name!r}): {prop_class.__name__} could not be made with {given}: "
            f"{type(error).__name__}: {error}."
        ) from error


def _face(op, states: Sequence[str], needs: Callable[..., Sequence[int]]) -> Face:
    """What a class of the user says of itself."""
    arguments, outputs = tuple(op.list_arguments()), tuple(op.list_outputs())
    n, m = len(arguments), len(outputs)
    head, ins, outs = list(range(m)), list(range(m, m + n)), list(range(m + n, 2 * m + n))
    read = set(needs(head, ins, outs))
    return Face(
        arguments,
        outputs,
        tuple(states),
        not read.isdisjoint(head),
        tuple(i for i, number in enumerate(ins) if number in read),
        tuple(i for i, number in enumerate(outs) if number in read),
    )


class _Registered(Definition):
    """A CustomOpProp."""

    def __init__(self, prop: CustomOpProp):
        self.prop = prop
        self.face = _face(prop, prop.list_auxiliary_states(), prop.declare_backward_dependency)

    def infer_shape(self, shapes):
        return _three("infer_shape", self.prop.infer_shape(shapes))

    def infer_type(self, types):
        return _three("infer_type", self.prop.infer_type(types))

    def session(self):
        return _PropSession(self)

    def ship(self):
        return runtime.dump_code(self)


def _three(rule: str, answer) -> tuple[Sequence, Sequence, Sequence]:
    if not isinstance(answer, (tuple, list)) or len(answer) not in (2, 3):
        raise MXNetError(f"{rule} of an operator must return 2 or 3 lists (inputs, outputs, states), got {answer!r}.")
    return (*answer, ()) if len(answer) == 2 else tuple(answer)


class _Old(Definition):
    """A NumpyOp or NDArrayOp."""

    def __init__(self, op: PythonOp):
        self.op = op
        self.face = _face(op, (), getattr(op, "declare_backward_dependency", self._needs))

    def _needs(self, out_grad, in_data, out_data):
        return [*(out_grad if self.op.need_top_grad() else ()), *in_data, *out_data]

    def infer_shape(self, shapes):
        return _three("infer_shape", self.op.infer_shape(shapes))

    def infer_type(self, types):
        first = next((t for t in types if t is not None), None)
        return [t or first for t in types], [first] * len(self.face.outputs), ()

    def session(self):
        return _NumpySession(self.op) if isinstance(self.op, NumpyOp) else _NDArraySession(self)

    def ship(self):
        return runtime.dump_code(self)


class _Spec(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype


class _PropSession(Session):
    """Runs a CustomOp on NDArrays over the device's memory."""

    def __init__(self, definition: _Registered):
        self._definition = definition
        self._operator: Any = None
        self._specs: list[_Spec | None] = [None] * len(definition.face.arguments)  # of the inputs

    def forward(self, xp, is_train, ins, outs, states):
        self._specs = [_Spec(x.shape, x.dtype) for x in ins]
        with _Desk(xp) as desk:
            in_data, aux = desk.ins(ins), desk.outs(states)
            out_data, req = desk.outs(outs), _reqs(outs)
            self._object(desk).forward(is_train=is_train, req=req, in_data=in_data, out_data=out_data, aux=aux)

    def backward(self, xp, heads, ins, outs, d_ins, states):
        with _Desk(xp) as desk:
            out_grad, in_data = desk.ins(heads, "out_grad"), desk.ins(ins, "in_data")
            out_data, aux = desk.ins(outs, "out_data"), desk.outs(states)
            in_grad, req = desk.outs(d_ins, self._specs), _reqs(d_ins)
            self._object(desk).backward(
                req=req, out_grad=out_grad, in_data=in_data, out_data=out_data, in_grad=in_grad, aux=aux
            )

    def _object(self, desk: _Desk) -> Any:
        if self._operator is None:
            shapes, dtypes = [list(s.shape) for s in self._specs if s], [s.dtype.type for s in self._specs if s]
            self._operator = self._definition.prop.create_operator(desk.context, shapes, dtypes)
            if not hasattr(self._operator, "forward"):
                raise MXNetError(f"create_operator must return a CustomOp, got {self._operator!r}.")
        return self._operator


class _NDArraySession(Session):
    """Runs an NDArrayOp."""

    def __init__(self, definition: _Old):
        self._op = definition.op
        self._specs: list[_Spec | None] = [None] * len(definition.face.arguments)

    def forward(self, xp, is_train, ins, outs, states):
        self._specs = [_Spec(x.shape, x.dtype) for x in ins]
        with _Desk(xp) as desk:
            self._op.forward(in_data=desk.ins(ins), out_data=desk.outs(outs))

    def backward(self, xp, heads, ins, outs, d_ins, states):
        with _Desk(xp) as desk:
            self._op.backward(
                out_grad=desk.ins(heads, "out_grad"), in_data=desk.ins(ins, "in_data"),
                out_data=desk.ins(outs, "out_data"), in_grad=desk.outs(d_ins, self._specs),
            )  # fmt: skip


class _NumpySession(Session):
    """Runs a NumpyOp: on the device's memory where that is NumPy's, else on copies of it."""

    def __init__(self, op: NumpyOp):
        self._op = op
        self._specs: list[_Spec] = []

    def forward(self, xp, is_train, ins, outs, states):
        self._specs = [_Spec(x.shape, x.dtype) for x in ins]
        out_data = [_host(xp, x) for x in outs]
        with runtime.visit():
            self._op.forward(in_data=[_host(xp, x) for x in ins], out_data=out_data)
        _bring(xp, out_data, outs)

    def backward(self, xp, heads, ins, outs, d_ins, states):
        out_grad, in_data, out_data = (
            [_Absent(f"{what}[{i}]") if x is None else _host(xp, x) for i, x in enumerate(arrays)]
            for what, arrays in (("out_grad", heads), ("in_data", ins), ("out_data", outs))
        )
        in_grad = [
            np.empty(spec.shape, spec.dtype) if x is None else _host(xp, x)
            for x, spec in zip(d_ins, self._specs, strict=True)
        ]
        with runtime.visit():
            self._op.backward(out_grad=out_grad, in_data=in_data, out_data=out_data, in_grad=in_grad)
        _bring(xp, in_grad, d_ins)


def _host(xp, array) -> np.ndarray:
    return array if xp is np else xp.asnumpy(array)


def _bring(xp, computed: Sequence[np.ndarray], targets: Sequence) -> None:
    for value, target in zip(computed, targets, strict=True):
        if target is not None and value is not target:
            target[...] = xp.asarray(value)


def _reqs(destinations: Sequence) -> list[str]:
    return ["null" if x is None else "write" for x in destinations]


class _Desk:
    """NDArrays over memory of the device, for the length of one call of the user's code."""

    context: Context

    def __init__(self, xp):
        self._xp = xp
        self._copies: list[tuple[Any, Any]] = []  # (contiguous stand-in, the memory that it stands in for)

    def __enter__(self) -> _Desk:
        self._visit = runtime.visit()
        guests = self._visit.__enter__()
        kind, _, index = guests.name.rstrip(")").partition("(")
        self.context = Context(kind, int(index))
        self.context.__enter__()
        self._lane = guests.lane(guests.name)
        return self

    def __exit__(self, kind, error, frames) -> None:
        try:
            if error is None:
                for copy, memory in self._copies:
                    memory[...] = copy
        finally:
            self._copies.clear()
            self.context.__exit__()
            self._visit.__exit__(kind, error, frames)

    def ins(self, arrays: Sequence, what: str = "") -> list[Any]:
        """Arrays to read; one that is None was not declared."""
        return [
            _Absent(f"{what}[{i}]") if array is None else self._wrap(self._xp.ascontiguousarray(array))
            for i, array in enumerate(arrays)
        ]

    def outs(self, arrays: Sequence, specs: Sequence[_Spec | None] = ()) -> list[Any]:
        """Arrays to fill; for one that is None, which nobody wants, a place of the same looks."""
        return [self._out(array, specs[i] if specs else None) for i, array in enumerate(arrays)]

    def _out(self, array, spec: _Spec | None) -> Any:
        if array is None:
            return _Absent("a result that nobody wants") if spec is None else self._wrap(self._xp.empty(*spec))
        if array.flags.c_contiguous:
            return self._wrap(array)
        copy = self._xp.ascontiguousarray(array)
        self._copies.append((copy, array))
        return self._wrap(copy)

    def _wrap(self, array) -> NDArray:
        wrapped = NDArray(self._lane, self.context, array.shape, as_dtype(array.dtype))
        self._lane.transport.hold(wrapped._id, array)
        return wrapped


class _Absent:
    """In the place of an array that the user's code is not given."""

    def __init__(self, what: str):
        self._what = what

    def _refuse(self, *_args):
        raise MXNetError(f"{self._what} is not there: declare_backward_dependency does not name it.")

    def __getattr__(self, name: str):
        return self._refuse()

    __getitem__ = __array__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refuse
    __rtruediv__ = __neg__ = __pow__ = __len__ = _refuse

    def __iter__(self) -> Iterator:
        return self._refuse()


# ---- what there is ----


class OperatorArguments(NamedTuple):
    """How many inputs and parameters an operator takes, their names, and what each is."""

    narg: int
    names: list[str]
    types: list[str]


def get_all_registered_operators() -> list[str]:
    """The names of all operators, aliases included."""
    return sorted(REGISTRY)


def get_operator_arguments(op_name: str) -> OperatorArguments:
    """The inputs and parameters of an operator. Raises MXNetError for an unknown one."""
    cls = find(op_name)
    taken = opdoc.inputs(cls)
    names = [*taken.names, *taken.aux, *cls.declared]
    types = ["NDArray-or-Symbol"] * (len(names) - len(cls.declared)) + [p.describe() for p in cls.declared.values()]
    return OperatorArguments(len(names), names, types)
