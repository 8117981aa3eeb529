"""Operators that users write in Python. What one is and does is told by a `Definition`, which knows the user's class.

To graphs, plans and devices they are operators like all others. Each program, and each imperative call, has a session
of its own with the user's object, so that what forward keeps there is found by backward.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from raymx.errors import GraphError, MXNetError, ParameterError, ShapeError, did_you_mean
from raymx.ops.infer import complete
from raymx.ops.op import Op, operator
from raymx.ops.params import as_dtype, text

Arrays = Sequence[Any]  # arrays of the device's module


class Face(NamedTuple):
    """What graphs and devices know of an operator of the user: names, and what its backward reads."""

    arguments: tuple[str, ...] = ("data",)
    outputs: tuple[str, ...] = ("output",)
    states: tuple[str, ...] = ()
    reads_head: bool = True  # whether backward wants the gradients of the outputs
    reads_in: tuple[int, ...] = (0,)  # numbers of the inputs that it wants
    reads_out: tuple[int, ...] = (0,)


class Session:
    """One use of the operator on a device, made at its first run."""

    def forward(self, xp, is_train: bool, ins: Arrays, outs: Arrays, states: Arrays) -> None:
        """Fill `outs`; one that is None is not wanted."""
        raise NotImplementedError

    def backward(self, xp, heads: Arrays, ins: Arrays, outs: Arrays, d_ins: Arrays, states: Arrays) -> None:
        """Fill `d_ins`; one that is None is not wanted. Of `heads`, `ins`, `outs` those that it does not read are None.
        A gradient that is not wanted has the shape of an input that the session knows from forward."""
        raise NotImplementedError


class Definition:
    """The user's class, seen from here."""

    face = Face()

    def infer_shape(self, shapes: list[list[int]]) -> tuple[Sequence, Sequence, Sequence]:
        """Shapes of arguments, outputs and states from those of the arguments, `[]` for one that is not known."""
        raise NotImplementedError

    def infer_type(self, types: list[Any]) -> tuple[Sequence, Sequence, Sequence]:
        """Likewise element types, as NumPy classes; None for one that is not known."""
        raise NotImplementedError

    def session(self) -> Session:
        raise NotImplementedError

    def ship(self) -> bytes:
        """A pickle of this for the process of a device. Raises what makes it impossible."""
        return pickle.dumps(self)


registered: dict[str, Callable[..., Definition]] = {}  # op_type → what makes its definition from parameters as text


@operator("Custom")
class Custom(Op):
    """The operator that the user registered as `op_type` with `mx.operator.register`.

    Its inputs, outputs and auxiliary states are those that the registered class names; parameters beside `op_type` are
    handed to the class as text.
    """

    stateful = True
    any_parameter = True
    heavy = True
    backward_names: Any

    def __init__(self, **attrs):
        self.attrs = attrs
        self.definition = self.define()
        self._open(self.definition.face)

    def _open(self, face: Face) -> None:
        self.face = face
        self.token: int | None = None  # by which a device finds it again, if calls and gradient travel apart
        self._session: Session | None = None
        self._shipped: bytes | None = None
        self._labels = tuple(f"output {name}" for name in face.outputs)  # may be called like an input
        self._derive()

    @classmethod
    def parse(cls, given):
        if not given.get("op_type"):
            raise ParameterError("Custom: parameter 'op_type', the name that mx.operator.register gave, is missing.")
        return {key: value if isinstance(value, str) else text(value) for key, value in given.items()}

    def define(self) -> Definition:
        """What `op_type` stands for."""
        name = self.attrs["op_type"]
        if name not in registered:
            raise GraphError(
                f"Custom: no operator is registered as {name!r}{did_you_mean(name, registered)}; run the module that "
                f"registers it first (mx.operator.register; registered: {', '.join(registered) or 'none'})."
            )
        return registered[name](**{key: value for key, value in self.attrs.items() if key != "op_type"})

    def fresh(self):
        new = object.__new__(type(self))
        new.attrs, new.definition = self.attrs, self.definition
        new._open(self.face)
        return new

    # ---- what it looks like ----

    @property
    def title(self) -> str:
        """How errors call it."""
        return f"Custom (op_type {self.attrs['op_type']!r})"

    def inputs(self):
        return self.face.arguments

    def aux(self):
        return self.face.states

    def outputs(self):
        return self._labels

    def output_labels(self):
        return self.face.outputs

    def infer_shape(self, **known):
        shapes = [known.get(name) for name in self.face.arguments]
        found = self._ask("infer_shape", [list(s or ()) for s in shapes], all(map(complete, shapes)))
        try:
            return {name: tuple(int(n) for n in shape) or None for name, shape in found}
        except TypeError:
            answer = ", ".join(f"{name.split()[-1]} {shape!r}" for name, shape in found)
            raise ShapeError(f"{self.title}: infer_shape must return lists of shapes, got {answer}.") from None

    def infer_type(self, known):
        types = [known.get(name) for name in self.face.arguments]
        classes = [t and t.type for t in types]
        found = self._ask("infer_type", classes, all(t is not None for t in types))
        return {**known, **{name: None if t is None else as_dtype(t) for name, t in found}}

    def _ask(self, rule: str, facts: list, everything: bool) -> list[tuple[str, Any]]:
        """What the user's rule deduces, by name. It may fail as long as not everything is known that it may use."""
        try:
            answer = getattr(self.definition, rule)(facts)
        except MXNetError:
            raise
        except Exception as error:
            if not everything:
                return []
            raise MXNetError(f"{self.title}: {rule} for {facts} raised {type(error).__name__}: {error}.") from error
        named: list[tuple[str, Any]] = []
        kinds = (("argument", self.face.arguments), ("output", self._labels), ("auxiliary state", self.face.states))
        for (kind, names), found in zip(kinds, answer, strict=True):
            if len(found) != len(names):
                words = f"{len(names)} {kind}s" if len(names) != 1 else f"1 {kind}"
                raise ShapeError(f"{self.title}: {rule} must tell of {words}, got {len(found)}: {list(found)}.")
            named += zip(names, found, strict=True)
        return named

    # ---- running it ----

    def needs_head_gradient(self):
        return self.face.reads_head

    def backward_needs(self):
        ins = tuple(self.face.arguments[i] for i in self.face.reads_in)
        return ins + tuple(self._labels[i] for i in self.face.reads_out) + self.face.states

    def forward(self, xp, *args, is_train=False, **outs):
        n = len(self.face.arguments)
        self._running().forward(xp, is_train, args[:n], [outs.get(o) for o in self._labels], args[n:])

    def backward(self, xp, gs, *needs, **d):
        face = self.face
        found = iter(needs)
        ins, outs = [None] * len(face.arguments), [None] * len(face.outputs)
        for i in face.reads_in:
            ins[i] = next(found)
        for i in face.reads_out:
            outs[i] = next(found)
        heads = gs or [None] * len(face.outputs)
        wanted = [d.get(f"d_{name}") for name in face.arguments]
        self._running().backward(xp, heads, ins, outs, wanted, tuple(found))

    def _running(self) -> Session:
        if self._session is None:
            self._session = self.definition.session()
        return self._session

    # ---- on its way to another process ----

    def __reduce__(self):
        if self._shipped is None:
            try:
                self._shipped = self.definition.ship()
            except Exception as error:
                words = f"{self.title} cannot travel to another process: {type(error).__name__}: {error}"
                self._shipped = pickle.dumps(_Stranded(words))
        return _arrive, (type(self), self.attrs_to_ship(), self.face, self.token, self._shipped)

    def attrs_to_ship(self) -> dict[str, Any]:
        return self.attrs


ALIVE: dict[int, Custom] = {}  # on a device: token → what came under it, until its token is freed


def _arrive(cls: type[Custom], attrs, face: Face, token: int | None, shipped: bytes) -> Custom:
    op = object.__new__(cls)
    op.attrs, op.definition = attrs, _Shipped(face, shipped)
    op._open(face)
    op.token = token
    return op if token is None else ALIVE.setdefault(token, op)


class _Shipped(Definition):
    """A definition that is unpickled when it first runs, so that a failure to is one of that task alone."""

    def __init__(self, face: Face, shipped: bytes):
        self.face, self._shipped = face, shipped

    def session(self):
        try:
            return pickle.loads(self._shipped).session()
        except ImportError as error:
            raise MXNetError(
                f"the operator's class cannot be loaded in the process of this device: {error}; install what it "
                "imports on the nodes of the cluster, or name it in Ray's runtime_env."
            ) from error

    def ship(self):
        return self._shipped


class _Stranded(Definition):
    """Stands for one that could not be pickled."""

    def __init__(self, words: str):
        self.words = words

    def session(self):
        raise MXNetError(self.words)
