"""What an operator is: one class that declares parameters, inputs, shapes, forward and backward.

Everything else (the `mx.nd` and `mx.sym` functions, docs, JSON, gradient graph, memory plan) is derived from it.

    @operator("FullyConnected")
    class FullyConnected(Op):
        num_hidden: int = param(doc="rows of the weight", low=1)

        def inputs(self): return ("data", "weight", "bias")
        def infer_shape(self, data): return {"weight": ..., "out": ...}
        def forward(self, xp, data, weight, bias, *, out): ...
        def backward(self, xp, g, data, weight, *, d_data=None, d_weight=None, d_bias=None): ...

The rules that the rest of the system reads from the signatures:

- `forward(self, xp, <inputs>, <aux states>, *, <outputs>, [is_train], [rng], [<scratch names>])` writes every output it
  is given, completely, and allocates no result. Inputs are never modified; aux states may be. Variadic operators take
  `*args`.
- `backward(self, xp, [g], <any inputs and outputs by name, then aux states>, *, d_<input>=None, …, [is_train], [rng],
  [<scratch names>])`. What it names is kept alive for it; what it does not name may be overwritten. It, too, may change
  aux states. `g` is the gradient of the first output, through which alone it passes; an operator with several such
  outputs takes `gs`, a tuple. One without either ignores head gradients (a loss), as does an instance that overrides
  `needs_head_gradient`: its `g` is None. `*args` stands for all inputs, `**d` for all `d_<input>`. A destination that
  is None was not asked for. An input without a `d_` destination has gradient zero, as has every input of an operator
  without `backward`.
- Destinations are whole arrays of the declared shape and dtype. `write/add/null` and summing over several uses are not
  the kernel's business. A destination shares memory with an input only where `inplace` or `inplace_backward` allows it,
  and then that input stands once among the inputs.
- Kernels run with NumPy's floating point warnings off: a division by zero gives inf, as on every device.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from raymx.errors import MXNetError, did_you_mean
from raymx.ops import kernels
from raymx.ops.params import Param, Shape, parse_all, text

Pairs = tuple[tuple[str, str], ...]
REGISTRY: dict[str, type[Op]] = {}  # every name and alias → class


class Op:
    """Base of all operators. Instances are immutable, interned by `make`, and pickle as (name, parameters)."""

    name = ""  # canonical name, set by @operator
    aliases: tuple[str, ...] = ()
    declared: dict[str, Param] = {}
    leading: tuple[str, ...] = ()  # parameters that stand before the others, where the classes' order is not MXNet's
    variadic = ""  # the parameter that counts the inputs of a variadic operator, e.g. "num_args"
    view = False  # the output is the first input's elements in their order: both may be one memory, with nothing to do
    one_type: tuple[str, ...] = ()  # which of its arrays have one element type; () = all of them
    kinds = "fiub"  # of element types that its inputs, those in `one_type`, may have: floating, signed, unsigned, bool
    stateful = False  # each program, and each imperative call, has an instance of its own: see `fresh`
    any_parameter = False  # takes parameters that it does not declare
    differentiable = True  # else a gradient that would have to pass is an error, and not zero
    heavy = False  # worth starting at once, and only on the device's own thread
    inplace: Pairs = ()  # (input, output) pairs that may be the same memory in forward
    inplace_backward: Pairs = ()  # likewise ("g", "d_data") in backward
    addable: tuple[str, ...] = ()  # inputs whose gradient backward adds to what `d_<input>` holds, if its keyword `add`
    # names them
    passes: tuple[str, ...] = ()  # inputs whose gradient is that of the only output, as it is
    alike = False  # whether the gradients of all inputs are equal
    joins = False  # an update in place, element by element: of arrays that lie side by side it may be done at once
    elementwise = False  # element i of each output depends on elements i of the inputs only, all of one shape
    initial: dict[str, str] = {}  # input or state → the initializer (as text) that MXNet notes at its variable
    channelled: tuple[str, ...] = ()  # inputs and outputs (N, C, …) that its special kernels take in any layout of
    # `ops/layout.py`, all in the same one; the gradients of these, too
    gains = False  # whether these kernels are so much faster in such a layout that arrays are brought into it
    direction = "forward"  # which of its special kernels `prepare` looks for
    short: Callable[..., None] | None = None  # `short(xp, *inputs, out=out)` does all of it: one output, nothing else
    # to hand in, no special kernel
    forward_names: Signature
    backward_names: Signature | None

    def __init__(self, **attrs):
        self.attrs: dict[str, Any] = attrs  # every declared parameter, parsed
        self.__dict__.update(attrs)
        self.setup()
        self._derive()

    def setup(self) -> None:
        """Derive constants from the parameters, once per instance; raise ParameterError when they contradict."""

    @classmethod
    def parse(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Every parameter with its value, from those that were given; raises ParameterError."""
        return parse_all(cls.declared, given, cls.name)

    def fresh(self) -> Op:
        """The operator to use in one program; another one each time if it has a state."""
        return self

    def canonical(self) -> Op:
        """The operator that stands for this one; a form that only old files use returns today's equal."""
        return self

    def inputs(self) -> tuple[str, ...]:
        return ("data",)

    def aux(self) -> tuple[str, ...]:
        return ()

    def outputs(self) -> tuple[str, ...]:
        return ("out",)

    def visible_outputs(self) -> int:
        """How many of the outputs, from the first, may be composed and are listed."""
        return len(self.outputs())

    def counted_outputs(self) -> int:
        """How many outputs MXNet's files count; its operators may hide others than ours."""
        return len(self.outputs())

    def infer_shape(self, **known: Shape | None) -> dict[str, Shape | None]:
        """What is deduced, by input, aux and output name, from the shapes that the parameters name. A parameter
        without default is always complete; one with `=None` may be None or hold 0 for unknown dimensions."""
        raise NotImplementedError(self.name)

    def infer_type(self, known: dict[str, np.dtype | None]) -> dict[str, np.dtype | None]:
        """Deduced dtypes from `known` (None = unknown). By default everything in `one_type` has one dtype."""
        names = self.one_type or tuple(known)
        return dict.fromkeys(names, next((known[n] for n in names if known[n] is not None), None))

    def scratch(self, shapes: dict[str, Shape], dtype: np.dtype) -> dict[str, tuple[Shape, np.dtype]]:
        """Temporary arrays that forward wants: name → (shape, dtype). `shapes` are by input, aux and output name."""
        return {}

    def scratch_backward(self, shapes: dict[str, Shape], dtype: np.dtype) -> dict[str, tuple[Shape, np.dtype]]:
        """Likewise for backward; `shapes` are by its names: `g`, what it reads, and the wanted `d_<input>`."""
        return {}

    def forward(self, xp, *args, **destinations) -> None:
        raise NotImplementedError(self.name)

    backward: Any = None

    def pieces(self) -> tuple[str, tuple[str, ...]] | None:
        """An input or output that is nothing but others, the outputs or inputs named, one after the other in memory:
        nothing is to be done where they lie like that."""
        return None

    # ---- derived ----

    def _derive(self) -> None:
        names = self.forward_names
        self.extras: tuple[str, ...] = tuple(n for n in names.keywords if n not in self.outputs())
        simple = self.outputs() == ("out",) and not self.extras and not self.heavy
        self.short = self.forward if simple else None

    def subject(self) -> Op:
        """The operator under which special kernels are registered: this one, or the one that a gradient is of."""
        return self

    def prepare(self, xp, ins, outs, **extras) -> Callable[[], None]:
        """A function without arguments that runs this operator over these arrays, as often as they are refilled.

        `ins` follow `inputs()` and `aux()`, `outs` follow `outputs()`; None among `outs` is not wanted. `extras`
        may hold more than the operator takes: `is_train`, `rng`, and what `scratch` asked for. A special kernel wins
        over `forward`.
        """
        destinations = {n: array for n, array in zip(self.outputs(), outs, strict=True) if array is not None}
        extras = {n: extras[n] for n in self.extras if n in extras}
        named = dict(zip(self.inputs() + self.aux(), ins, strict=True))
        special = kernels.prepare(self.subject(), self.direction, xp, named, destinations, extras)
        return special or functools.partial(self.forward, xp, *ins, **destinations, **extras)

    def output_labels(self) -> tuple[str, ...]:
        """Names as `list_outputs` appends them to the node's: `output` for `out`."""
        return tuple("output" if n == "out" else n for n in self.outputs())

    def text_attrs(self) -> dict[str, str]:
        return {k: text(v) for k, v in self.attrs.items()}

    def has_gradient(self, input_name: str) -> bool:
        names = self.backward_names
        return names is not None and (names.any_destination or f"d_{input_name}" in names.keywords)

    def needs_head_gradient(self) -> bool:
        names = self.backward_names
        return names is not None and (names.takes("g") or names.takes("gs"))

    def head_names(self) -> tuple[str, ...]:
        """Names of the gradients that backward reads, of the first outputs."""
        if not self.needs_head_gradient():
            return ()
        names = self.backward_names
        return ("g",) if names and names.takes("g") else tuple(f"g{i}" for i in range(self.visible_outputs()))

    def backward_needs(self) -> tuple[str, ...]:
        """Names of the inputs, aux states and outputs that backward reads, in its positional order, `g`s left out."""
        names = self.backward_names
        if names is None:
            return ()
        listed = tuple(n for n in names.positional if n not in ("g", "gs"))
        return listed + (self.inputs() if names.any_positional else ())

    def remake(self) -> tuple[Op, tuple[str, ...], tuple[str, ...]] | None:
        """For recomputation: an operator, what it reads of our inputs and outputs, which outputs it makes again with
        the same bits. None = this operator itself, if it draws no random numbers."""
        return None

    def random(self) -> bool:
        return self.forward_names.takes("rng")

    def __repr__(self):
        given = ", ".join(f"{k}={v!r}" for k, v in self.attrs.items())
        return f"{self.name}({given})"

    def __reduce__(self):
        return _restore, (self.name, self.attrs)


class Signature:
    """The parameter names of a kernel, read once per class."""

    def __init__(self, function):
        params = list(inspect.signature(function).parameters.values())[2:]  # self, xp
        kinds = inspect.Parameter
        self.positional = tuple(p.name for p in params if p.kind == kinds.POSITIONAL_OR_KEYWORD)
        self.keywords = tuple(p.name for p in params if p.kind == kinds.KEYWORD_ONLY)
        self.any_positional = any(p.kind == kinds.VAR_POSITIONAL for p in params)
        self.any_destination = any(p.kind == kinds.VAR_KEYWORD for p in params)

    def takes(self, name: str) -> bool:
        return name in self.positional or name in self.keywords


def operator(name: str, *aliases: str):
    """Class decorator: register the operator under its canonical name and aliases and read its declaration."""

    def register(cls: type[Op]) -> type[Op]:
        declared = {}
        for base in reversed(cls.__mro__):
            notes = base.__dict__.get("__annotations__", {})
            for key, value in list(base.__dict__.items()):
                if isinstance(value, Param):
                    value.declare(key, notes.get(key, "str"))
                    declared[key] = value
        hidden = [key for key in declared if hasattr(Op, key)]
        if hidden:
            raise RuntimeError(f"operator {name!r}: parameters {hidden} hide what every operator has.")
        cls.declared = {key: declared[key] for key in dict.fromkeys((*cls.leading, *declared))}
        cls.name, cls.aliases = name, aliases
        cls.forward_names = Signature(cls.forward)
        cls.backward_names = Signature(cls.backward) if cls.backward is not None else None
        for n in (name, *aliases):
            if n in REGISTRY:
                raise RuntimeError(f"operator {n!r} is declared twice.")
            REGISTRY[n] = cls
        return cls

    return register


def find(name: str) -> type[Op]:
    """The operator class behind a name or alias; raises MXNetError with the nearest known name."""
    try:
        return REGISTRY[name]
    except KeyError:
        raise MXNetError(f"no operator is called {name!r}{did_you_mean(name, REGISTRY)}.") from None


_interned: dict[Any, Op] = {}
_INTERN_LIMIT = 8192


def make(name_or_class, /, **attrs) -> Op:
    """The operator with these parameters (values or strings). Equal ones are one object."""
    cls: type[Op] = name_or_class if isinstance(name_or_class, type) else find(name_or_class)
    if cls.stateful:
        return cls(**cls.parse(attrs))
    try:
        key = (cls, *((k, type(v), _distinct(v)) for k, v in attrs.items()))
        return _interned[key]
    except (KeyError, TypeError):
        pass
    op = cls(**cls.parse(attrs)).canonical()
    op = _interned.setdefault((type(op), *((k, type(v), _distinct(v)) for k, v in op.attrs.items())), op)
    try:
        _interned[key] = op
    except (TypeError, UnboundLocalError):
        pass
    if len(_interned) > _INTERN_LIMIT:
        _interned.clear()
    return op


def _distinct(value):
    """A key that is equal for equal parameters only: -0.0 == 0.0, but 1 / them is not."""
    return "-0.0" if value.__class__ is float and value == 0 and math.copysign(1, value) < 0 else value


def _restore(name, attrs) -> Op:
    return make(name, **attrs)
