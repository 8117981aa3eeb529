"""NDArray: an array on a device. Operations return at once; reading a value waits for it.

An array is a handle: the elements live on its device under an id, and whatever must be ordered carries its storage's
tag. Views (`x[a:b]`, `x.reshape(…)`) share memory and tag with the array that they were made from. This file is long
because it is the class that users hold; indexing, NumPy's protocols and the operator functions have files of their own.
"""

from __future__ import annotations

import builtins
import importlib
import math
import operator as python_operator
import sys
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from raymx import indexing, interop, runtime
from raymx.context import Context, current_context
from raymx.engine.segment import Failure
from raymx.errors import ContextError, DTypeError, MXNetError, ShapeError
from raymx.methods import add_methods
from raymx.ops.gradient import gradient_of
from raymx.ops.infer import infer_call
from raymx.ops.op import Op, make
from raymx.ops.params import DTYPES, Shape, as_dtype
from raymx.ops.shapes import positive_axis
from raymx.ops.training import in_training

_FLOAT32, _BOOL = DTYPES["float32"], DTYPES["bool"]
_SCALARS = (int, float, bool, np.number, np.bool_)
_new_id = runtime.engine.new_variable


class NDArray:
    """An array of `shape` and `dtype` on `context`. Create it with `mx.nd.array`, `zeros`, `ones`, `full` or `empty`.

    Arithmetic broadcasts as in NumPy; both arrays must lie on one device and have one dtype. `writable` False makes the
    handle refuse every change. Errors of work that runs later are raised by the next `asnumpy`, `wait_to_read` or
    `waitall`.
    """

    __slots__ = ("_id", "_var", "_lane", "_ids", "_vars", "_root", "_strides", "_offset", "shape", "dtype", "context",
                 "writable", "_entry", "__weakref__")  # fmt: skip

    def __init__(self, lane, context: Context, shape: Shape, dtype: np.dtype, root: NDArray | None = None,
                 strides: tuple[int, ...] | None = None, offset: int = 0):  # fmt: skip
        self._id = array = _new_id()
        self._var: int = root._var if root is not None else array
        self._ids, self._vars = (array,), (self._var,)
        self._lane, self.context, self.shape, self.dtype = lane, context, shape, dtype
        self._root = root  # the array whose memory a view shows; held so that it outlives its views
        self._strides = strides  # in bytes; None = contiguous
        self._offset = offset  # in bytes from the start of the root's memory
        self.writable = True
        # `_entry`, where the array stands on a tape, is set by raymx.tape alone

    def __del__(self):
        try:
            self._lane.free(self._id, self._var)
        except AttributeError:
            pass  # half-made, or the interpreter is ending

    # ---- what it is ----

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize

    ctx = property(lambda self: self.context, doc="The same as `context`.")

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"\n{self.asnumpy()}\n<NDArray {size} @{self.context}>"

    # ---- reading: these wait ----

    def asnumpy(self) -> np.ndarray:
        """A copy of the elements as a NumPy array; waits for them. Raises what made them fail, DeviceLostError if the
        device is gone, DeviceTimeoutError past the deadline."""
        return self._fetch().result()

    def _fetch(self) -> HostValue:
        """The elements as they are now, on their way to this process; later writes do not change them."""
        return fetch([self])[0]

    def asscalar(self):
        """The only element as a Python number. Raises ValueError for several elements."""
        if self.size != 1:
            raise ValueError(f"asscalar: the array must have one element, got shape {self.shape}.")
        return self.asnumpy().reshape(-1)[0]

    def item(self):
        """The only element as a Python number."""
        return self.asscalar().item()

    def wait_to_read(self) -> None:
        """Wait until earlier writes are done; raise what made them fail."""
        if self._lane.settled():
            return
        failure = self._lane.fetch(self._lane.sync(self._id, self._vars))
        if failure is not None:
            raise runtime.engine.explain(failure)

    wait_to_write = wait_to_read

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"the truth of an array of shape {self.shape} is ambiguous; compare with .asnumpy().any() or .all()."
            )
        return bool(self.asscalar())

    def __float__(self) -> float:
        return float(self.asscalar())

    def __int__(self) -> int:
        return int(self.asscalar())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"only an integer array can be an index, got {self.dtype}.")
        return int(self.asscalar())

    def __iter__(self):
        return (self[i] for i in range(self.shape[0]))

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError("an NDArray cannot become a NumPy array without a copy; use np.asarray(x) or x.asnumpy().")
        value = self.asnumpy()
        return value if dtype is None else value.astype(dtype, copy=False)

    __array_ufunc__ = interop.array_ufunc
    __array_function__ = interop.array_function

    def __dlpack__(self, **options):
        return self.asnumpy().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    # ---- copies ----

    def copyto(self, other: NDArray | Context) -> NDArray:
        """Copy into an array of the same shape, on any device, or into a new one on a context; returns the target."""
        if isinstance(other, Context):
            target = empty(self.shape, other, self.dtype)
        elif isinstance(other, NDArray):
            target = other
            if target is self:
                import warnings

                warnings.warn("copyto: source and target are the same array", RuntimeWarning, stacklevel=2)
                return self
            if target.shape != self.shape:
                raise ShapeError(f"copyto: the target must have shape {self.shape}, got {target.shape}.")
            target._refuse_read_only()
        else:
            raise TypeError(f"copyto: the target must be an NDArray or a Context, got {type(other).__name__}.")
        target._take(self)
        return target

    def copy(self) -> NDArray:
        """A new array with the same elements on the same device."""
        return self.copyto(self.context)

    def as_in_context(self, context: Context) -> NDArray:
        """This array if it lies on `context`, else a copy there."""
        return self if self.context == context else self.copyto(context)

    as_in_ctx = as_in_context

    def astype(self, dtype, copy: bool = True) -> NDArray:
        """A new array with the elements converted; itself if `copy` is False and the dtype is right already."""
        dtype = checked_dtype(dtype)
        if not copy and dtype == self.dtype:
            return self
        target = empty(self.shape, self.context, dtype)
        target._take(self)
        return target

    def __copy__(self) -> NDArray:
        return self.copy()

    def __deepcopy__(self, memo) -> NDArray:
        return self.copy()

    def __reduce__(self):
        from raymx import params

        state = params.dump_array(self.asnumpy())
        return _unpickle, (state, self.context.device_type, self.context.device_id, self.writable)

    def _take(self, source: NDArray) -> None:
        """Write `source`, of a shape that broadcasts, converted to this dtype, from any device."""
        if _tape is not None and _tape.active():
            _tape.copy(self, source)
            return
        if source._lane is self._lane:
            if source._id != self._id:
                if source._var == self._var:
                    source = source.copy()  # overlapping windows on one memory
                self._lane.scatter(self._id, self._var, ..., source._id, source._var)
            return
        self._lane.arrive(self._id, self._var, source._lane.export([source._id], [source._vars])[0])

    # ---- views and shapes ----

    def reshape(self, *shape, **options) -> NDArray:
        """The same memory in another shape; -1 infers one dimension, 0 keeps the one at its place (also -2, -3, -4)."""
        wanted = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        wanted = tuple(options.pop("shape", wanted))
        op = make("Reshape", shape=wanted, **options)
        new_shape = infer_call(op, (self.shape,), (self.dtype,))[0][0]
        if _tape is not None and _tape.active():
            return _tape.reshape(self, new_shape)
        return self._reshaped(new_shape)

    def _reshaped(self, new_shape: Shape) -> NDArray:
        if self._strides is None:
            return self._view(new_shape, None, 0)
        window = indexing.reshape(self.shape, self._strides, self.dtype, new_shape)
        if window is None:
            return self.copy()._reshaped(new_shape)
        return self._view(new_shape, window.strides, 0)

    def broadcast_to(self, shape) -> NDArray:
        """A copy with axes of size 1 stretched; a lower rank gets axes of size 1 in front."""
        lead = (1,) * (len(shape) - self.ndim)
        return invoke(make("broadcast_to", shape=tuple(shape)), (self.reshape(lead + self.shape) if lead else self,))

    def transpose(self, *axes, **options) -> NDArray:
        """A copy with the axes in another order, by default reversed."""
        axes = (options.pop("axes"),) if "axes" in options else axes
        order = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
        return invoke(make("transpose", axes=tuple(order), **options), (self,))

    def flatten(self, inplace: bool = True) -> NDArray:
        """The same memory as (first axis, everything else)."""
        return self.reshape((self.shape[0], -1))

    @property
    def T(self) -> NDArray:
        """The transpose (a copy)."""
        return self.transpose()

    def _view(self, shape: Shape, strides: tuple[int, ...] | None, offset: int) -> NDArray:
        root = self if self._root is None else self._root
        if strides is not None and strides == indexing.contiguous_strides(shape, self.dtype.itemsize):
            strides = None
        view = NDArray(self._lane, self.context, shape, self.dtype, root, strides, self._offset + offset)
        self._lane.view(view._id, root._id, shape, strides, view._offset)
        view.writable = self.writable
        return view

    def _resolve(self, key):
        strides = self._strides or indexing.contiguous_strides(self.shape, self.dtype.itemsize)
        keys = tuple(map(_host_index, key if isinstance(key, tuple) else (key,)))
        return indexing.resolve(keys, self.shape, strides, self.dtype)

    def __getitem__(self, key) -> NDArray:
        """A view for integers, slices, `...` and None; a copy for integer arrays and boolean masks. `x[:]` is x.

        An NDArray of numbers is an index, whatever its dtype, and comparisons give numbers: a mask must be of dtype
        bool, `x[(x > 0).astype(bool)]`. Raises IndexError, also where nothing would be left.
        """
        if key is Ellipsis or (isinstance(key, slice) and key == slice(None)):
            return self
        if _tape is not None and _tape.active():
            return _tape.index(self, key)
        return self._part(key)

    def _part(self, key) -> NDArray:
        rows = indexing.rows(key, self.shape) if self._strides is None else None
        if rows is not None:
            start, shape = rows
            return self._view(shape, None, start * (self.nbytes // self.shape[0]))
        found = self._resolve(key)
        if isinstance(found, indexing.Window):
            return self._view(*found)
        out = NDArray(self._lane, self.context, found.shape, self.dtype)
        self._lane.new_array(out._id, found.shape, self.dtype)
        self._lane.gather(out._id, self._id, self._var, found.index)
        return out

    def __setitem__(self, key, value) -> None:
        """Write a number, an array of any device, or anything NumPy takes, broadcast to the region and converted.

        Raises ShapeError, DTypeError for what is no array of numbers, ValueError if `writable` is False.
        """
        self._refuse_read_only()
        if _tape is not None and _tape.active():
            _tape.assign(self, key, value)
            return
        if key is Ellipsis or (isinstance(key, slice) and key == slice(None)):
            self._assign(value)
            return
        found = self._resolve(key)
        if isinstance(found, indexing.Window):
            self._view(*found)._assign(value)
            return
        source = value if isinstance(value, NDArray) else array(value, self.context, self.dtype)
        source = source.reshape(_fitted(source.shape, found.shape)).as_in_context(self.context)
        source = source.copy() if source._var == self._var else source
        self._lane.scatter(self._id, self._var, found.index, source._id, source._var)

    def _assign(self, value) -> None:
        if isinstance(value, _SCALARS):
            self._lane.push((_set_value(value), self._ids, ()), (), self._vars)
        elif isinstance(value, NDArray):
            shape = _fitted(value.shape, self.shape)
            self._take(value if shape == value.shape else value.reshape(shape))
        else:
            host = _host(value, self.dtype, "assignment")
            self._lane.write(self._id, self._var, host.reshape(_fitted(host.shape, self.shape)))

    def _sync_copyfrom(self, source) -> None:
        self._refuse_read_only()
        self._assign(np.asarray(source))

    def _refuse_read_only(self) -> None:
        if not self.writable:
            raise ValueError("this array is read-only (writable is False); copy() it to get one that can be changed.")

    # ---- gradients: see raymx.autograd ----

    @property
    def grad(self) -> NDArray | None:
        """The array that takes the gradient, after `attach_grad` or `autograd.mark_variables`; else None."""
        from raymx import tape

        variable = tape.variable_of(self)
        return None if variable is None else variable.grad

    @property
    def _fresh_grad(self) -> bool:
        """Whether `backward` has written `grad` since this was last set to False; MXNet's trainers ask."""
        from raymx import tape

        variable = tape.variable_of(self)
        return variable is not None and variable.fresh

    @_fresh_grad.setter
    def _fresh_grad(self, value: bool) -> None:
        from raymx import tape

        variable = tape.variable_of(self)
        if variable is not None:
            variable.fresh = bool(value)

    def attach_grad(self, grad_req: str = "write", stype: str | None = None) -> None:
        """Make this a variable: `backward` of what is computed from it while recording writes the gradient into
        `grad`, new zeros; with `grad_req` "add" adds it there, with "null" leaves it. What it was computed from is
        forgotten. `stype` must be "default" or None."""
        from raymx import autograd

        if stype not in (None, "default"):
            raise MXNetError(f"attach_grad: stype must be 'default', got {stype!r}; there are no sparse arrays.")
        autograd.mark_variables(self, zeros(self.shape, self.context, self.dtype), grad_req)

    def detach(self) -> NDArray:
        """The same memory, through which no gradient passes."""
        return self._view(self.shape, self._strides, 0)

    def backward(self, out_grad: NDArray | None = None, retain_graph: bool = False, train_mode: bool = True) -> None:
        """The gradients of all variables from which this was computed; see `raymx.autograd.backward`."""
        from raymx import autograd

        autograd.backward([self], [out_grad], retain_graph, train_mode)

    # ---- operators; those of raymx/methods.py are methods, too ----

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __neg__(self) -> NDArray:
        return invoke(make("negative"), (self,))

    def __pos__(self) -> NDArray:
        return self.copy()

    def __abs__(self) -> NDArray:
        return self.abs()

    def __matmul__(self, other) -> NDArray:
        """The matrix product; of arrays with more than two axes one for each index of the leading ones."""
        other = _operand(self, other)
        if not isinstance(other, NDArray):
            return NotImplemented
        return invoke(make("dot" if self.ndim < 3 and other.ndim < 3 else "batch_dot"), (self, other))

    __hash__ = object.__hash__

    if TYPE_CHECKING:  # they are made below
        _entry: Any

        def __add__(self, other: Any) -> NDArray: ...
        def __radd__(self, other: Any) -> NDArray: ...
        def __iadd__(self, other: Any) -> NDArray: ...
        def __sub__(self, other: Any) -> NDArray: ...
        def __rsub__(self, other: Any) -> NDArray: ...
        def __isub__(self, other: Any) -> NDArray: ...
        def __mul__(self, other: Any) -> NDArray: ...
        def __rmul__(self, other: Any) -> NDArray: ...
        def __imul__(self, other: Any) -> NDArray: ...
        def __truediv__(self, other: Any) -> NDArray: ...
        def __rtruediv__(self, other: Any) -> NDArray: ...
        def __itruediv__(self, other: Any) -> NDArray: ...
        def __pow__(self, other: Any) -> NDArray: ...
        def __rpow__(self, other: Any) -> NDArray: ...
        def __ipow__(self, other: Any) -> NDArray: ...
        def __mod__(self, other: Any) -> NDArray: ...
        def __rmod__(self, other: Any) -> NDArray: ...
        def __imod__(self, other: Any) -> NDArray: ...
        def __gt__(self, other: Any) -> NDArray: ...
        def __ge__(self, other: Any) -> NDArray: ...
        def __lt__(self, other: Any) -> NDArray: ...
        def __le__(self, other: Any) -> NDArray: ...
        def __eq__(self, other: Any) -> NDArray: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> NDArray: ...  # type: ignore[override]


# ---- running operators ----


def invoke(op: Op, inputs: Sequence[NDArray], out=None, context: Context | None = None):
    """Run an operator on arrays of one device; into `out` if given. Returns an NDArray, or a list for several outputs.

    Raises ContextError, ShapeError, DTypeError where the call stands.
    """
    if _tape is not None and _tape.active():
        return _tape.invoke(op, inputs, out, context)
    if out.__class__ is NDArray:
        known = _calls.get((op, out._id, *[x._id for x in inputs]))
        if known is not None and out.writable:
            out._lane.push(*known)
            return out
    visible = run(op, inputs, out, context)[: op.visible_outputs()]
    return visible[0] if len(visible) == 1 else visible


_tape: Any = None  # the module raymx.tape, while some thread records or trains


def run(op: Op, inputs: Sequence[NDArray], out=None, context: Context | None = None, training=False) -> list[NDArray]:
    """As `invoke`, in the given mode and without looking at the tape; returns hidden outputs, too."""
    names = op.inputs() + op.aux()
    if len(inputs) != len(names):
        raise MXNetError(f"{op.name} takes {len(names)} arrays ({', '.join(names)}), got {len(inputs)}.")
    given = [] if out is None else list(out) if isinstance(out, (list, tuple)) else [out]
    lane, context = _place(op, names, inputs, given, context)
    inferred = _infer(op, inputs, given)
    asked = inputs
    if given:
        _check_destinations(op, inferred, given, lane, context)
        if any(x._strides is not None for x in given) and not op.inplace:
            return _by_way_of_whole_arrays(op, inputs, given, training)
        inputs = _apart(op, names, inputs, given)
    fresh = [NDArray(lane, context, shape, dtype) for shape, dtype in inferred[len(given):]]
    outputs = given + fresh
    writes = tuple(x._var for x in outputs)
    for state in inputs[len(op.inputs()):]:
        state._refuse_read_only()
        writes += state._vars
    if op.random():
        writes += (lane.rng_var,)
    kernel = in_training(op) if training else op
    task: tuple[Any, ...] = (kernel, tuple(x._id for x in outputs), tuple(x._id for x in inputs))
    if given:
        for x in fresh:
            lane.new_array(x._id, x.shape, x.dtype)
    else:
        task += (inferred,)
    if op.stateful:
        _follow(op, lane)
    call = task, tuple(x._var for x in inputs), writes, op.heavy
    plain = out.__class__ is NDArray and not fresh and not training
    if plain and all(x is y for x, y in zip(inputs, asked, strict=True)):
        _remember((op, out._id, *[x._id for x in inputs]), call)
    lane.push(*call)
    return outputs


def run_gradient(
    op: Op, wants: tuple[str, ...], inputs: Sequence[NDArray], context: Context, looks: tuple, training: bool
) -> list[NDArray]:
    """The gradients of `op` for the inputs in `wants`, of the shapes and dtypes in `looks`, from what its backward
    reads, all on `context`."""
    gradient = gradient_of(op, wants)
    lane = inputs[0]._lane if inputs else context.lane
    outs = [NDArray(lane, context, shape, dtype) for shape, dtype in looks]
    writes = tuple([x._var for x in outs])
    if gradient.aux():
        writes += tuple(x._var for x in inputs[len(gradient.inputs()) :])
    if gradient.random():
        writes += (lane.rng_var,)
    task = (in_training(gradient) if training else gradient, tuple([x._id for x in outs]),
            tuple([x._id for x in inputs]), looks)  # fmt: skip
    lane.push(task, tuple([x._var for x in inputs]), writes, gradient.heavy)
    return outs


_calls: dict[tuple, tuple] = {}  # (op, id of out, ids of inputs) → what to push for it: ids never come again
_CALLS_LIMIT = 4096


def _remember(key: tuple, call: tuple) -> None:
    if len(_calls) >= _CALLS_LIMIT:
        _calls.clear()
    _calls[key] = call


def _follow(op, lane) -> None:
    """Let the device find an operator with a state again when its gradient comes, and forget it when we do."""
    if op.token is None:
        op.token = lane.new_var()
        weakref.finalize(op, lane.free, op.token, op.token).atexit = False


def _place(op: Op, names, inputs, given, context: Context | None):
    """The lane on which an operator runs, and its context."""
    for name, each in zip((*names, *("out" for _ in given)), (*inputs, *given), strict=True):
        if not isinstance(each, NDArray):
            raise TypeError(f"{op.name}: {name} must be an NDArray, got {type(each).__name__}; see mx.nd.array.")
    if not inputs:
        context = given[0].context if given else context or current_context()
        return context.lane, context
    first = inputs[0]
    for name, each in zip(names, inputs, strict=True):
        if each._lane is not first._lane:
            raise _two_devices(op.name, names[0], first.context, name, each.context)
    return first._lane, first.context


def _infer(op: Op, inputs, given):
    """The shape and dtype of each output. An operator without inputs may leave them to the arrays that it fills."""
    found = tuple((x.shape, x.dtype) for x in given)
    if op.name != "_set_value":
        infer = infer_call.__wrapped__ if op.stateful else infer_call  # what is remembered would live on
        return infer(
            op, tuple(x.shape for x in inputs), tuple(x.dtype for x in inputs), () if inputs else found
        )
    if not found:
        raise MXNetError(f"{op.name}: out must be given.")
    return found


def _check_destinations(op: Op, inferred, given, lane, context) -> None:
    if len(given) > op.visible_outputs():
        raise MXNetError(f"{op.name}: out must be at most {op.visible_outputs()} arrays, got {len(given)}.")
    for target, (shape, dtype) in zip(given, inferred, strict=False):
        target._refuse_read_only()
        if target._lane is not lane:
            raise _two_devices(op.name, "the inputs", context, "out", target.context)
        if target.shape != shape:
            raise ShapeError(f"{op.name}: out must have shape {shape}, got {target.shape}.")
        if target.dtype != dtype:
            raise DTypeError(f"{op.name}: out must be {dtype}, got {target.dtype}.")


def _by_way_of_whole_arrays(op: Op, inputs, given, training: bool) -> list[NDArray]:
    """For destinations with gaps: only elementwise operators, which may work in place, write to any window."""
    whole = [empty(x.shape, x.context, x.dtype) for x in given]
    found = run(op, inputs, whole, None, training)
    for target, value in zip(given, whole, strict=True):
        target._take(value)
    return given + found[len(given) :]


def _apart(op: Op, names, inputs, given):
    """`inputs`, but copies of those that `op` might overwrite in `given` before it has read them."""
    written = {x._var for x in given}
    if written.isdisjoint(x._var for x in inputs):
        return inputs
    uses = [x._var for x in inputs]
    return tuple(
        x if x._var not in written or name in op.aux() or (uses.count(x._var) == 1 and _may_lie(op, name, x, given))
        else x.copy()
        for name, x in zip(names, inputs, strict=True)
    )  # fmt: skip


def _may_lie(op: Op, name: str, x: NDArray, given) -> bool:
    """Whether every destination that shares memory with input `x` is `x`, and `op` allows it to be."""
    return all(
        (name, output) in op.inplace and (x._offset, x._strides, x.shape) == (y._offset, y._strides, y.shape)
        for output, y in zip(op.outputs(), given, strict=False)
        if y._var == x._var
    )


def _two_devices(op: str, a: str, where, b: str, elsewhere) -> ContextError:
    return ContextError(
        f"{op}: {a} on {where} and {b} on {elsewhere}; move one with as_in_context({where}) or copyto."
    )


def _binary(equal: str, broadcast: str, scalar: str):
    """The method for `array (op) other`; equal shapes and numbers take the short way."""
    scalar_ops: dict[Any, Op] = {}

    def method(self: NDArray, other) -> NDArray:
        kind, lane = other.__class__, self._lane
        if self.dtype is _BOOL:
            pass  # operators that do not take it say so on the long way
        elif kind is float or kind is int:
            op = scalar_ops.get((kind, other)) or _scalar_op(scalar_ops, scalar, other)
            out = NDArray(lane, self.context, self.shape, self.dtype)
            lane.push((op, out._ids, self._ids, ((self.shape, self.dtype),)), self._vars, out._vars)
            return out if _tape is None else _tape.note(op, (self,), out)
        elif kind is NDArray and other.shape == self.shape and other.dtype is self.dtype and other._lane is lane:
            out = NDArray(lane, self.context, self.shape, self.dtype)
            op = _named(equal)
            task = (op, out._ids, (self._id, other._id), ((self.shape, self.dtype),))
            lane.push(task, (self._var, other._var), out._vars)
            return out if _tape is None else _tape.note(op, (self, other), out)
        other = _operand(self, other)
        if other is NotImplemented:
            return NotImplemented
        if not isinstance(other, NDArray):
            return invoke(_scalar_op(scalar_ops, scalar, other), (self,))
        return invoke(_named(equal if other.shape == self.shape else broadcast), (self, other))

    return method


def _inplace(equal: str, broadcast: str, scalar: str):
    """The method for `array (op)= other`."""
    scalar_ops: dict[Any, Op] = {}

    def method(self: NDArray, other) -> NDArray:
        if not self.writable:
            self._refuse_read_only()
        kind = other.__class__
        if (kind is float or kind is int) and self.dtype is not _BOOL and _tape is None:
            op = scalar_ops.get((kind, other)) or _scalar_op(scalar_ops, scalar, other)
            self._lane.push((op, self._ids, self._ids), self._vars, self._vars)
            return self
        other = _operand(self, other)
        if other is NotImplemented:
            return NotImplemented
        if not isinstance(other, NDArray):
            return invoke(_scalar_op(scalar_ops, scalar, other), (self,), out=self)
        _fits(other.shape, self.shape, f"{equal} in place")
        if other._lane is not self._lane or other.dtype is not self.dtype or self.dtype is _BOOL or _tape is not None:
            return invoke(_named(equal if other.shape == self.shape else broadcast), (self, other), out=self)
        if other._var == self._var:
            other = other.copy()
        # the kernels stretch `other` by themselves
        self._lane.push((_named(equal), self._ids, (self._id, other._id)), (self._var, other._var), self._vars)
        return self

    return method


def _scalar_method(scalar: str):
    """The method for `number (op) array`."""
    scalar_ops: dict[Any, Op] = {}

    def method(self: NDArray, other) -> NDArray:
        if not isinstance(other, _SCALARS):
            other = _operand(self, other)
            return NotImplemented if other is NotImplemented else getattr(other, _FORWARD[scalar])(self)
        return invoke(_scalar_op(scalar_ops, scalar, other), (self,))

    return method


_FORWARD = {"_rminus_scalar": "__sub__", "_rdiv_scalar": "__truediv__", "_rpower_scalar": "__pow__",
            "_rmod_scalar": "__mod__"}  # fmt: skip
_SCALAR_CACHE = 1024
_named_ops: dict[str, Op] = {}


def _named(name: str) -> Op:
    op = _named_ops.get(name)
    if op is None:
        op = _named_ops[name] = make(name)
    return op


def _scalar_op(cache: dict, name: str, value) -> Op:
    if len(cache) > _SCALAR_CACHE:
        cache.clear()
    value = value.item() if isinstance(value, (np.number, np.bool_)) else value
    op = make(name, scalar=value)
    if value or value.__class__ is not float:  # 0.0 and -0.0 are one key
        cache[value.__class__, value] = op
    return op


def _set_value(value) -> Op:
    return make("_set_value", src=value.item() if isinstance(value, (np.number, np.bool_)) else value)


def _operand(self: NDArray, other):
    """`other` as something arithmetic takes: an NDArray, a Python number, or NotImplemented."""
    if isinstance(other, NDArray):
        return other
    if isinstance(other, _SCALARS):
        other = other.item() if isinstance(other, (np.number, np.bool_)) else other
        return int(other) if isinstance(other, bool) else other
    if isinstance(other, (np.ndarray, list, tuple)):
        return array(other, self.context, self.dtype)
    return NotImplemented


for _python, _word, _reflected in (
    ("add", "plus", "_plus_scalar"), ("sub", "minus", "_rminus_scalar"), ("mul", "mul", "_mul_scalar"),
    ("truediv", "div", "_rdiv_scalar"), ("pow", "power", "_rpower_scalar"), ("mod", "mod", "_rmod_scalar"),
):  # fmt: skip
    _names = (f"_{_word}", f"broadcast_{_word}", f"_{_word}_scalar")
    setattr(NDArray, f"__{_python}__", _binary(*_names))
    setattr(NDArray, f"__i{_python}__", _inplace(*_names))
    setattr(NDArray, f"__r{_python}__",
            _binary(*_names) if _reflected == _names[2] else _scalar_method(_reflected))  # fmt: skip
for _python, _word in (
    ("eq", "equal"), ("ne", "not_equal"), ("gt", "greater"), ("ge", "greater_equal"), ("lt", "lesser"),
    ("le", "lesser_equal"),
):  # fmt: skip
    setattr(NDArray, f"__{_python}__", _binary(f"_{_word}", f"broadcast_{_word}", f"_{_word}_scalar"))
NDArray.__hash__ = object.__hash__  # type: ignore[method-assign, assignment]


def _function(name: str):
    from raymx import opfunctions

    return opfunctions.ndarray_function(name)


add_methods(NDArray, _function)


# ---- values on their way to this process ----


class HostValue:
    """Elements of an array as they were when it was fetched."""

    __slots__ = ("_lane", "_handle", "_value")

    def __init__(self, lane, handle):
        self._lane, self._handle, self._value = lane, handle, None

    def result(self) -> np.ndarray:
        """The elements; waits for them. Raises what made them fail."""
        if self._value is None:
            value = self._lane.fetch(self._handle)
            if isinstance(value, Failure):
                raise runtime.engine.explain(value)
            self._value = value if value.flags.writeable else value.copy()
            self._handle = None
        return self._value


def fetch(arrays: Sequence[NDArray]) -> list[HostValue]:
    """The elements of several arrays as they are now, on their way to this process: one message per device."""
    return [HostValue(x._lane, handle) for x, handle in zip(arrays, _export(arrays), strict=True)]


def copy_all(sources: Sequence[NDArray], targets: Sequence[NDArray]) -> None:
    """Copy each source into the target of the same shape beside it, as the arrays are when this is called: one message
    per device that values leave, however many they are. A source may stand several times."""
    for source, target in zip(sources, targets, strict=True):
        if target.shape != source.shape:
            raise ShapeError(f"copy_all: the target must have shape {source.shape}, got {target.shape}.")
        target._refuse_read_only()
    leaving = {s._id: s for s, t in zip(sources, targets, strict=True) if s._lane is not t._lane}
    handles = dict(zip(leaving, _export(list(leaving.values())), strict=True))
    for source, target in zip(sources, targets, strict=True):
        if source._lane is target._lane:
            target._take(source)
        else:
            target._lane.arrive(target._id, target._var, handles[source._id])


def _export(arrays: Sequence[NDArray]) -> list[Any]:
    """A handle for each array's value, in the order given."""
    handles: list[Any] = [None] * len(arrays)
    by_lane: dict[int, list[int]] = {}
    for position, each in enumerate(arrays):
        by_lane.setdefault(id(each._lane), []).append(position)
    for positions in by_lane.values():
        lane = arrays[positions[0]]._lane
        leaving = lane.export([arrays[p]._id for p in positions], [arrays[p]._vars for p in positions])
        for position, handle in zip(positions, leaving, strict=True):
            handles[position] = handle
    return handles


# ---- making arrays ----


def empty(shape, ctx: Context | None = None, dtype=_FLOAT32) -> NDArray:
    """A new array with whatever its memory holds. `shape` may be an int. Raises ShapeError for a dimension below 1."""
    ctx = ctx or current_context()
    shape, dtype = checked_shape(shape), checked_dtype(dtype)
    out = NDArray(ctx.lane, ctx, shape, dtype)
    out._lane.new_array(out._id, shape, dtype)
    return out


def full(shape, val, ctx: Context | None = None, dtype=_FLOAT32) -> NDArray:
    """A new array with every element `val`."""
    out = empty(shape, ctx, dtype)
    out._assign(val)
    return out


def zeros(shape, ctx: Context | None = None, dtype=_FLOAT32) -> NDArray:
    """A new array of zeros."""
    return full(shape, 0, ctx, dtype)


def ones(shape, ctx: Context | None = None, dtype=_FLOAT32) -> NDArray:
    """A new array of ones."""
    return full(shape, 1, ctx, dtype)


def array(source_array, ctx: Context | None = None, dtype=None) -> NDArray:
    """A new array from anything that NumPy takes, or from an NDArray; a number gives shape (1,).

    float32 whatever the source, unless `dtype` is given or the source is an NDArray; numbers are converted as in C.
    Raises DTypeError for what is no array of numbers, ShapeError for one without elements.
    """
    ctx = ctx or current_context()
    if isinstance(source_array, NDArray):
        out = empty(source_array.shape, ctx, dtype or source_array.dtype)
        out._take(source_array)
        return out
    dtype = checked_dtype(dtype)
    host = _host(source_array, dtype, "array")
    out = NDArray(ctx.lane, ctx, checked_shape(host.shape), dtype)
    out._lane.put(out._id, host)
    return out


def adopt(memory: np.ndarray) -> NDArray:
    """An array of cpu(0) over memory that owns its elements and may be written; over a copy of any other."""
    ctx = Context("cpu", 0)
    out = NDArray(ctx.lane, ctx, memory.shape, memory.dtype)
    out._lane.put(out._id, memory)
    return out


def arange(
    start, stop=None, step=1.0, repeat=1, infer_range=None, ctx: Context | None = None, dtype=_FLOAT32
) -> NDArray:  # fmt: skip
    """Evenly spaced values of [start, stop), or of [0, start), each `repeat` times."""
    given = {"start": start, "stop": stop, "step": step, "repeat": repeat, "dtype": checked_dtype(dtype)}
    return invoke(make("_arange", **given), (), context=ctx)


def concatenate(arrays: Sequence[NDArray], axis: int = 0, always_copy: bool = True) -> NDArray:
    """Join arrays along an existing axis."""
    if not arrays:
        raise ValueError("concatenate: at least one array is needed, got none.")
    if len(arrays) == 1 and not always_copy:
        return arrays[0]
    return invoke(make("Concat", num_args=len(arrays), dim=axis), tuple(arrays))


def moveaxis(tensor: NDArray, source, destination) -> NDArray:
    """A copy with the axis `source` at the place `destination` (past the end: last), the others in their order; or
    several axes at several places."""
    one = isinstance(source, int)
    sources, places = ((source,), (destination,)) if one else (tuple(source), tuple(destination))
    if len(sources) != len(places):
        raise ValueError(f"moveaxis: source {source} and destination {destination} must be equally long.")
    moved = [positive_axis(axis, tensor.ndim) for axis in sources]
    axes = [a for a in range(tensor.ndim) if a not in moved]
    targets = (positive_axis(min(place, tensor.ndim - 1), tensor.ndim) for place in places)
    for place, axis in sorted(zip(targets, moved, strict=True)):
        axes.insert(place, axis)
    return tensor.transpose(*axes)


def onehot_encode(indices: NDArray, out: NDArray) -> NDArray:
    """Make row i of `out` (N, K) the one-hot of `indices[i]`; returns `out`."""
    return invoke(make("_onehot_encode"), (indices, out), out=out)


def waitall() -> None:
    """Wait until everything pushed so far, on every device, is done; raise the first failure not raised yet."""
    runtime.wait_all()


def save(fname: str, data) -> None:
    """Write a list or dict of arrays to a path or URL, all or nothing: in MXNet's `.params` layout, or as
    `.safetensors` by that suffix."""
    from raymx import arrayfile

    if isinstance(data, NDArray):
        data = [data]
    if not isinstance(data, (dict, list, tuple)):
        raise TypeError(f"save: expected NDArrays in a list or dict, got {type(data).__name__}.")
    names = list(data) if isinstance(data, dict) else None
    arrays = list(data.values() if isinstance(data, dict) else data)
    for each in arrays:
        if not isinstance(each, NDArray):
            raise TypeError(f"save: expected NDArrays, got {type(each).__name__}.")
    values = [v.result() for v in fetch(arrays)]
    arrayfile.write(fname, values if names is None else dict(zip(names, values, strict=True)))


def load(fname: str):
    """The list or dict of arrays in a `.params` or `.safetensors` file at a path or URL, on the current context. Raises
    FormatError."""
    from raymx import arrayfile

    found = arrayfile.read(fname)
    if isinstance(found, dict):
        return {name: array(value, dtype=value.dtype) for name, value in found.items()}
    return [array(value, dtype=value.dtype) for value in found]


def _unpickle(state: bytes, device_type: str, device_id: int, writable: bool) -> NDArray:
    from raymx import params

    host = params.load_array(state, "a pickled NDArray")
    try:
        out = array(host, Context(device_type, device_id), host.dtype)
    except ContextError:  # the array comes from a larger cluster
        out = array(host, current_context(), host.dtype)
    out.writable = writable
    return out


def checked_shape(shape) -> Shape:
    """`shape`, which may be an int, as a tuple; raises ShapeError for what is no shape of an array."""
    shape = (shape,) if isinstance(shape, (int, np.integer)) else shape
    try:
        shape = tuple(python_operator.index(n) for n in shape)
    except TypeError:
        raise ShapeError(f"a shape must be an integer or a tuple of integers, got {shape!r}.") from None
    if not shape or min(shape) < 1:
        raise ShapeError(f"every dimension of a shape must be at least 1, got {shape}.")
    return shape


def _host(value, dtype: np.dtype, who: str) -> np.ndarray:
    """A fresh NumPy array with the numbers of `value`, at least 1-d, converted as in C."""
    try:
        host = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise ShapeError(f"{who}: {type(value).__name__} is no array: {error}.") from None
    if host.dtype.kind not in "biuf":
        raise DTypeError(f"{who}: expected numbers, got {type(value).__name__} with elements of type {host.dtype}.")
    with np.errstate(all="ignore"):
        return np.array(host, dtype, order="C", ndmin=1)


def checked_dtype(dtype) -> np.dtype:
    """`dtype` as one of those that arrays have, None as float32; raises DTypeError for any other."""
    if dtype is None:
        return _FLOAT32
    try:
        return as_dtype(dtype)
    except TypeError:
        raise DTypeError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.") from None


def _fits(shape: Shape, target: Shape, what: str) -> None:
    try:
        good = np.broadcast_shapes(shape, target) == target
    except ValueError:
        good = False
    if not good:
        raise ShapeError(f"{what}: shape {shape} does not broadcast to {target}.")


def _fitted(shape: Shape, target: Shape) -> Shape:
    """The shape under which an array of `shape` is assigned to `target`: without axes of size 1 that are too many."""
    if shape == target:
        return shape
    if len(shape) > len(target):
        if [n for n in shape if n != 1] == [n for n in target if n != 1]:
            return target
        excess = len(shape) - len(target)
        shape = shape[excess:] if set(shape[:excess]) == {1} else shape
    _fits(shape, target, "assignment")
    return shape


def _host_index(key):
    return key.asnumpy().astype(bool if key.dtype is _BOOL else np.intp) if isinstance(key, NDArray) else key


def __getattr__(name: str):
    from raymx import opfunctions

    if name == "_internal":  # MXNet's name for operators that begin with an underscore
        return sys.modules[__name__]
    if name == "random":
        return importlib.import_module("raymx.random")
    found = opfunctions.FAMILIES.get(name) or opfunctions.ndarray_function(name)
    if not hasattr(builtins, name):  # `min` and its like mean Python's in this file
        globals()[name] = found
    return found


def __dir__():
    from raymx import opfunctions

    return sorted([*globals(), *opfunctions.names(), *opfunctions.FAMILIES, "random"])
