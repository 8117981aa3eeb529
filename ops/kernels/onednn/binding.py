"""oneDNN's C interface as far as the kernels need it: arrays described, primitives made and kept, calls prepared.

A `Layout` is a memory descriptor. A `Primitive` is made once for its parameters and shared by everyone in the process
(making one takes 0.1 to 0.7 ms). A `Call` is a primitive over fixed memory: a function without arguments that keeps all
alive that it points to. Numbers beside names are those of `dnnl_types.h`, version 3.2.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from raymx.ops.kernels import Run, register
from raymx.ops.layout import NHWC, Blocked, layout_of

PATH = os.path.join(sys.prefix, "lib", "libdnnl.so.3")  # where the wheel onednn-cpu-gomp puts it

POINTER, SIZE, FLAG, NUMBER, INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_char, ctypes.c_float, ctypes.c_int

# which way a primitive computes
TRAIN, INFER, BACKWARD = 64, 96, 128
# arguments of a call
SRC, SRC_1, DST, WEIGHTS, BIAS, MEAN, VARIANCE, SCALE, SHIFT = 1, 2, 17, 33, 41, 49, 50, 51, 52
WORKSPACE, SCRATCHPAD = 64, 80
DIFF_SRC, DIFF_DST, DIFF_WEIGHTS, DIFF_BIAS, DIFF_SCALE, DIFF_SHIFT = 129, 145, 161, 169, 255, 256
MULTIPLE_SRC = 1024
# what may be asked of a primitive: the layout of an argument
_QUERIES = {
    SRC: 129, DIFF_SRC: 130, WEIGHTS: 131, DIFF_WEIGHTS: 132, DST: 133, DIFF_DST: 134, WORKSPACE: 135, SCRATCHPAD: 136,
}  # fmt: skip

_AVX512 = 0x20  # among the bits of an instruction set
_FLOAT = 3
_TYPES = {np.dtype("float32"): _FLOAT, np.dtype("int32"): 4, np.dtype("uint8"): 6}
_ANY = 1
_IN_BLOCKS = {3: 56, 4: 78, 5: 121}  # the tag of channels in blocks of 16, by the number of axes
_USER_SCRATCHPAD = 1
KEPT = 4096  # primitives and layouts that are kept for the next who asks


class Unsupported(Exception):
    """oneDNN has no kernel for this case, or it does not understand how an array lies in memory."""


@functools.cache
def load() -> bool:
    """Whether oneDNN can be used; the first call loads it and holds NumPy's BLAS to one thread, as their thread pools
    in one process ruin each other."""
    if not os.path.exists(PATH):
        return False
    try:
        library()
        _gomp()
    except OSError as error:
        warnings.warn(f"oneDNN is installed but cannot be loaded ({error}); is libgomp.so.1 missing?", stacklevel=2)
        return False
    from raymx.ops import backend

    backend.limit_blas(1)
    return True


@functools.cache
def library() -> ctypes.CDLL:
    found = ctypes.CDLL(PATH)
    found.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
    found.dnnl_primitive_desc_query_md.restype = POINTER
    return found


@functools.cache
def _gomp() -> ctypes.CDLL:
    return ctypes.CDLL("libgomp.so.1")


def has_avx512() -> bool:
    """Whether kernels use vectors of 512 bits here, for which blocks of 16 channels are made."""
    return bool(library().dnnl_get_effective_cpu_isa() & _AVX512)


def use_threads(n: int) -> None:
    """Let oneDNN use `n` threads for what the calling thread starts."""
    _gomp().omp_set_num_threads(n)


def _threads() -> int:
    return _gomp().omp_get_max_threads()


def kernel(op_name: str, direction: str):
    """Decorate the builder of a kernel: `build(op, ins, outs, extras)` may raise Unsupported, or return None, to leave
    a case to the operator's own kernel."""

    def keep(build: Callable[..., Run | None]):
        @register(op_name, direction, "onednn")
        def guarded(op, xp, ins, outs, extras) -> Run | None:
            copies: list[Run] = []
            ins = {n: a if n in op.aux() else _without_gaps(a, copies) for n, a in ins.items()}
            try:
                run = build(op, ins, outs, extras)
            except Unsupported:
                return None
            return run and chain([*copies, run])

        return build

    return keep


def _without_gaps(array, copies: list[Run]):
    """The array, or a copy that `copies` refreshes if its elements lie in no order that kernels know."""
    if order_of(array) is not None:
        return array
    copy = np.empty(array.shape, array.dtype)
    copies.append(functools.partial(np.copyto, copy, array))
    return copy


# ---- the C interface ----


def _call(name: str, *arguments) -> None:
    """Call a function of the library; raises Unsupported if it refuses."""
    status = getattr(library(), f"dnnl_{name}")(*arguments)
    if status:
        raise Unsupported(f"{name}: status {status}")


class _Handle:
    """An object of the library, destroyed with this one."""

    def __init__(self, kind: str, create: str, *arguments, keep: Any = ()):
        self._destroy: Callable | None = None
        self.pointer, self._keep = POINTER(), keep
        _call(create, ctypes.byref(self.pointer), *arguments)
        self._destroy = getattr(library(), f"dnnl_{kind}_destroy")

    def __del__(self):
        if self._destroy is not None:
            self._destroy(self.pointer)


@functools.cache
def _engine() -> _Handle:
    return _Handle("engine", "engine_create", INT(1), ctypes.c_size_t(0))


@functools.cache
def _stream() -> _Handle:
    return _Handle("stream", "stream_create", _engine().pointer, INT(1))


def dims(numbers) -> Any:
    """A C array of dimensions."""
    return (SIZE * 12)(*numbers)


# ---- layouts ----


class Layout:
    """How an array lies in memory: a memory descriptor. `pointer` is None for one that oneDNN does not need."""

    def __init__(self, pointer, owner):
        self.pointer, self._owner = pointer, owner  # the owner keeps the descriptor

    @property
    def nbytes(self) -> int:
        return library().dnnl_memory_desc_get_size(self.pointer)

    def same(self, other: Layout) -> bool:
        return bool(library().dnnl_memory_desc_equal(self.pointer, other.pointer))


NONE = Layout(None, None)


def describe(array, like=None) -> Layout:
    """The layout of an array; raises Unsupported if it is none that oneDNN's kernels know.

    One that can be called C order or channels last (of one channel, say) is called what the array `like` is."""
    dtype = _TYPES.get(array.dtype)
    if dtype is None:
        raise Unsupported(f"element type {array.dtype}")
    if isinstance(array, Blocked):
        return _tagged(array.stands_for, dtype, _IN_BLOCKS.get(array.ndim - 1, 0))
    order = order_of(array)
    if order is None:
        raise Unsupported(f"strides {array.strides}")
    if like is not None and layout_of(like) == NHWC and lies_in(array, channels_last(array.ndim)):
        order = channels_last(array.ndim)
    return _strided(array.shape, dtype, _dense(array.shape, order))


def free(shape) -> Layout:
    """A layout of the primitive's choice for an array of floats of this shape."""
    return _tagged(tuple(shape), _FLOAT, _ANY)


def describe_strided(array) -> Layout:
    """As `describe`, for an array with gaps, which only a reorder can take."""
    size = array.itemsize
    if any(n > 1 and (s <= 0 or s % size) for n, s in zip(array.shape, array.strides, strict=True)):
        raise Unsupported(f"strides {array.strides}")
    return _strided(array.shape, _TYPES[array.dtype], tuple(s // size for s in array.strides))


def order_of(array) -> tuple[int, ...] | None:
    """The order of an array's axes in memory: C order or channels last; None if it is neither, or has gaps."""
    orders = tuple(range(array.ndim)), channels_last(array.ndim)
    return next((order for order in orders if lies_in(array, order)), None)


def lies_in(array, order: tuple[int, ...]) -> bool:
    """Whether the array's axes are in this order in memory, without gaps."""
    return array.transpose(order).flags.c_contiguous


def channels_last(ndim: int) -> tuple[int, ...]:
    """The order of axes (N, C, …) in memory."""
    return (0, *range(2, ndim), 1) if ndim > 2 else tuple(range(ndim))


def _dense(shape, order) -> tuple[int, ...]:
    """Strides of an array of `shape` without gaps, its axes in memory in this order. (Those that NumPy gives to axes of
    size 1 mean nothing, but oneDNN looks at them.)"""
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


@functools.lru_cache(KEPT)
def _tagged(shape, dtype: int, tag: int) -> Layout:
    return _layout("memory_desc_create_with_tag", INT(len(shape)), dims(shape), INT(dtype), INT(tag))


@functools.lru_cache(KEPT)
def _strided(shape, dtype: int, strides) -> Layout:
    return _layout("memory_desc_create_with_strides", INT(len(shape)), dims(shape), INT(dtype), dims(strides))


def _layout(create: str, *arguments) -> Layout:
    handle = _Handle("memory_desc", create, *arguments)
    return Layout(handle.pointer, handle)


# ---- primitives ----


class Primitive:
    """A computation, and the layouts of its arguments where it chose them."""

    def __init__(self, description: _Handle):
        self.description = description
        self._handle = _Handle("primitive", "primitive_create", description.pointer)
        self.pointer = self._handle.pointer

    def layout(self, argument: int) -> Layout:
        """The layout of an argument."""
        found = library().dnnl_primitive_desc_query_md(self.description.pointer, INT(_QUERIES[argument]), INT(0))
        return Layout(POINTER(found), self)

    @property
    def implementation(self) -> str:
        """oneDNN's name for what computes this; `ref` stands in that of the slow kind which can do everything."""
        text = ctypes.c_char_p()
        library().dnnl_primitive_desc_query(self.description.pointer, INT(8), INT(0), ctypes.byref(text))
        return (text.value or b"?").decode()


class Function(NamedTuple):
    """What may follow on a result: a function of each element."""

    algorithm: int
    alpha: float = 0.0
    beta: float = 0.0

    def append(self, after: _Handle) -> None:
        numbers = INT(self.algorithm), NUMBER(self.alpha), NUMBER(self.beta)
        _call("post_ops_append_eltwise", after.pointer, *numbers)


class With(NamedTuple):
    """What may follow on a result: an operation with another array, argument `second_of(position)` of the call."""

    algorithm: int
    layout: Layout

    def append(self, after: _Handle) -> None:
        _call("post_ops_append_binary", after.pointer, INT(self.algorithm), self.layout.pointer)


def second_of(position: int) -> int:
    """The argument for the array of the `position`-th thing that follows."""
    return 32768 * (position + 1) | SRC_1


def primitive(
    kind: str, *arguments, hint: Primitive | None = None, after: tuple[Function | With, ...] = ()
) -> Primitive:
    """The primitive that `dnnl_<kind>_primitive_desc_create` makes of these arguments: Layouts, tuples for dimensions,
    and numbers. `hint` is the forward primitive of a backward one; `after` is done with the result.

    Raises Unsupported if there is none.
    """
    return _primitive(kind, arguments, hint, after, _threads())


@functools.lru_cache(KEPT)
def _primitive(kind: str, arguments, hint: Primitive | None, after, threads: int) -> Primitive:
    values = [_engine().pointer, *map(_c_value, arguments)]
    if kind == "reorder":
        engine, source, target = values
        values = [source, engine, target, engine]
    if hint is not None:
        values.append(hint.description.pointer)
    create, attributes = f"{kind}_primitive_desc_create", _attributes(after)
    description = _Handle("primitive_desc", create, *values, attributes.pointer, keep=(arguments, hint, after))
    return Primitive(description)


def _c_value(value):
    if isinstance(value, Layout):
        return value.pointer
    if isinstance(value, tuple):
        if value and isinstance(value[0], Layout):
            return (POINTER * len(value))(*(v.pointer for v in value))
        return dims(value)
    return NUMBER(value) if isinstance(value, float) else SIZE(value)  # fits where an int is expected, too


def _attributes(after) -> _Handle:
    """Scratch memory comes from the caller."""
    attributes = _Handle("primitive_attr", "primitive_attr_create")
    _call("primitive_attr_set_scratchpad_mode", attributes.pointer, INT(_USER_SCRATCHPAD))
    if after:
        steps = _Handle("post_ops", "post_ops_create")
        for step in after:
            step.append(steps)
        _call("primitive_attr_set_post_ops", attributes.pointer, steps.pointer)
    return attributes


# ---- calls ----


class _Argument(ctypes.Structure):
    _fields_ = [("argument", INT), ("memory", POINTER)]


class Memory:
    """An array under a layout, as an argument of calls."""

    def __init__(self, layout: Layout, array):
        self.layout, self.array = layout, array  # kept alive
        self._handle = _Handle(
            "memory", "memory_create", layout.pointer, _engine().pointer, POINTER(array.ctypes.data), keep=layout
        )
        self.pointer = self._handle.pointer


def memory(array) -> Memory:
    return Memory(describe(array), array)


def strided(array) -> Memory:
    """Memory with gaps, for reorders only."""
    return Memory(describe_strided(array), array)


def vector(array) -> Memory:
    """A vector; raises Unsupported if it has gaps, with which oneDNN does not reckon."""
    if not array.flags.c_contiguous:
        raise Unsupported(f"strides {array.strides} of a vector")
    return memory(array.reshape(-1))


def room(layout: Layout) -> Memory:
    """New memory for a layout."""
    return Memory(layout, _aligned(layout.nbytes))


def call(computation: Primitive, arguments: dict[int, Memory]) -> Run:
    """A function without arguments that runs the primitive over this memory."""
    pad = computation.layout(SCRATCHPAD)
    if pad.nbytes:
        arguments = {**arguments, SCRATCHPAD: Memory(pad, _scratchpad(pad.nbytes))}
    table = (_Argument * len(arguments))(*((n, m.pointer) for n, m in arguments.items()))
    run = functools.partial(_execute(), computation.pointer, _stream().pointer, INT(len(arguments)), table)
    run.kept = computation, arguments  # type: ignore[attr-defined]
    return run


@functools.cache
def _execute():
    """`dnnl_primitive_execute`; a status that is not 0 is an error."""
    function = library()["dnnl_primitive_execute"]
    function.restype = _checked
    return function


def _checked(status: int) -> None:
    if status:
        raise RuntimeError(f"oneDNN: dnnl_primitive_execute failed with status {status}")


def reorder(source: Memory, target: Memory) -> Run:
    """Copy elements from one layout to another."""
    return call(primitive("reorder", source.layout, target.layout), {SRC: source, DST: target})


def brought(source: Memory, layout: Layout, steps: list[Run]) -> Memory:
    """`source`, or a copy in `layout` that `steps` refreshes if it has another one."""
    if source.layout.same(layout):
        return source
    target = room(layout)
    steps.append(reorder(source, target))
    return target


def delivered(target: Memory, layout: Layout, steps: list[Run]) -> Memory:
    """Where to write what shall come to `target`, or memory in `layout` from which `steps` copies it."""
    if target.layout.same(layout):
        return target
    source = room(layout)
    steps.append(reorder(source, target))
    return source


_pads = threading.local()


def _scratchpad(nbytes: int):
    """Memory that all calls of a thread share; a larger one takes over when it is asked for."""
    pad = getattr(_pads, "memory", None)
    if pad is None or pad.nbytes < nbytes:
        pad = _pads.memory = _aligned(max(nbytes, 2 * pad.nbytes if pad is not None else 1 << 16))
    return pad


def _aligned(nbytes: int):
    """Memory that begins where a cache line does."""
    raw = np.empty(nbytes + 64, "uint8")
    start = -raw.ctypes.data % 64
    return raw[start : start + nbytes]


def chain(steps: list[Run]) -> Run:
    """One function that runs all steps."""
    if len(steps) == 1:
        return steps[0]

    def run() -> None:
        for step in steps:
            step()

    return run
