"""Helpers for tests of operators and symbols, with the names and arguments that MXNet's tests use.

The checks raise AssertionError that shows the worst elements. Random inputs come from NumPy's global generator. What
old releases called `threshold` or `check_eps` is `rtol` today, in the same place.
"""

from __future__ import annotations

import contextlib
import functools
import json
import numbers
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import raymx as mx  # noqa: F401  (tests that take everything from here take this, too)
from raymx import ndarray as nd
from raymx import runtime
from raymx import symbol as sym_module
from raymx.context import Context, current_context
from raymx.ndarray import NDArray
from raymx.symbol import Symbol

# ---- defaults ----


def default_context() -> Context:
    """The context that the checks use if none is given."""
    return current_context()


def set_default_context(ctx: Context) -> None:
    """Make `ctx` the default of this thread."""
    Context.default_ctx = ctx


def default_dtype():
    """The element type of random arrays."""
    return np.float32


_EXACT = dict.fromkeys(map(np.dtype, ("bool", "int8", "uint8", "int32", "uint32", "int64", "uint64")), 0)


def default_rtols() -> dict[np.dtype, float]:
    """Relative tolerances by element type."""
    return {np.dtype("float16"): 1e-2, np.dtype("float32"): 1e-4, np.dtype("float64"): 1e-5, **_EXACT}


def default_atols() -> dict[np.dtype, float]:
    """Absolute tolerances by element type."""
    return {np.dtype("float16"): 1e-1, np.dtype("float32"): 1e-3, np.dtype("float64"): 1e-20, **_EXACT}


def default_numeric_eps() -> dict[np.dtype, float]:
    """Steps of finite differences by element type."""
    return {np.dtype("float16"): 2.0**-6, np.dtype("float32"): 2.0**-9, np.dtype("float64"): 2.0**-14}


def default_numerical_threshold() -> float:
    """The tolerance of release 0.8."""
    return 1e-6


def get_atol(atol: float | None = None, dtype=np.float64) -> float:
    """`atol`, or the default of an element type."""
    return default_atols()[np.dtype(dtype)] if atol is None else atol


def get_rtol(rtol: float | None = None, dtype=np.float64) -> float:
    """`rtol`, or the default of an element type."""
    return default_rtols()[np.dtype(dtype)] if rtol is None else rtol


def get_etol(etol: float | None = None) -> float:
    """Which part of the elements may be wrong; none by default."""
    return 0 if etol is None else etol


def get_tols(x, y, rtol=None, atol=None) -> tuple[float, float]:
    """The tolerances for comparing two arrays: those given (numbers, or by element type), else the looser default."""
    types = [np.dtype(each.dtype if hasattr(each, "dtype") else type(each)) for each in (x, y)]

    def one(tolerance, default) -> float:
        if isinstance(tolerance, numbers.Number):
            return tolerance  # type: ignore[return-value]
        known = {np.dtype(k): v for k, v in (tolerance or {}).items()}
        return max(known.get(t, default.get(t, 0)) for t in types)

    return one(rtol, default_rtols()), one(atol, default_atols())


# ---- random inputs ----


def random_arrays(*shapes):
    """Normal numbers in float32: one NumPy array, or a list for several shapes."""
    arrays = [np.asarray(np.random.randn(*shape), default_dtype()) for shape in shapes]
    return arrays[0] if len(arrays) == 1 else arrays


def random_uniform_arrays(*shapes, low: float = 0.0, high: float = 1.0, dtype=np.float32) -> list[np.ndarray]:
    """Uniform numbers, a NumPy array for each shape."""
    return [np.asarray(np.random.uniform(low, high, shape), dtype) for shape in shapes]


def random_sample(population: Sequence, k: int) -> list:
    """`k` different elements of a sequence, in random order."""
    return [population[i] for i in np.random.permutation(len(population))[:k]]


def rand_ndarray(shape, stype="default", density=None, dtype=None, modifier_func=None, ctx=None, **_) -> NDArray:
    """An NDArray of normal numbers; `modifier_func` is applied to each. There are no sparse arrays."""
    if stype != "default":
        raise NotImplementedError(f"rand_ndarray: stype must be 'default', got {stype!r}; there are no sparse arrays.")
    values = np.atleast_1d(random_arrays(tuple(shape)))
    values = values if modifier_func is None else np.vectorize(modifier_func)(values)
    return nd.array(values, ctx or default_context(), dtype)


def rand_shape_2d(dim0: int = 10, dim1: int = 10) -> tuple[int, ...]:
    """Two dimensions, each from 1 to a bound."""
    return _rand_shape(dim0, dim1)


def rand_shape_3d(dim0: int = 10, dim1: int = 10, dim2: int = 10) -> tuple[int, ...]:
    """Three dimensions, each from 1 to a bound."""
    return _rand_shape(dim0, dim1, dim2)


def rand_shape_nd(num_dim: int, dim: int = 10) -> tuple[int, ...]:
    """`num_dim` dimensions from 1 to `dim`."""
    return _rand_shape(*[dim] * num_dim)


def _rand_shape(*bounds: int) -> tuple[int, ...]:
    return tuple(int(np.random.randint(1, bound + 1)) for bound in bounds)


def rand_coord_2d(x_low: int, x_high: int, y_low: int, y_high: int) -> tuple[int, int]:
    """A random place in a rectangle; upper bounds are not in it."""
    return int(np.random.randint(x_low, x_high)), int(np.random.randint(y_low, y_high))


def create_vector(size: int, dtype=np.int64) -> NDArray:
    """0, 1, …, size - 1."""
    return nd.arange(0, size, dtype=dtype)


def create_2d_tensor(rows: int, columns: int, dtype=np.int64) -> NDArray:
    """Row i is full of i."""
    return nd.arange(0, rows, dtype=dtype).reshape((rows, 1)).broadcast_to((rows, columns))


# ---- comparing ----


def np_reduce(dat: np.ndarray, axis, keepdims: bool, numpy_reduce_func: Callable) -> np.ndarray:
    """`numpy_reduce_func` over one axis, several (a list), or all (None), one after the other."""
    axes = range(dat.ndim) if axis is None else [axis] if isinstance(axis, int) else list(axis)
    positive = sorted((a % dat.ndim for a in axes), reverse=True)
    reduced = functools.reduce(lambda value, a: numpy_reduce_func(value, axis=a), positive, dat)
    shape = tuple(1 if i in positive else n for i, n in enumerate(dat.shape))
    return np.asarray(reduced).reshape(shape) if keepdims else reduced


def assign_each(the_input, function: Callable | None) -> np.ndarray:
    """`function` of each element; the array itself without one."""
    return np.asarray(the_input) if function is None else np.vectorize(function)(np.asarray(the_input))


def assign_each2(input1, input2, function: Callable | None) -> np.ndarray:
    """`function` of each pair of elements; the first array without one."""
    first = np.asarray(input1)
    return first if function is None else np.vectorize(function)(first, np.asarray(input2))


def _numpy(value) -> np.ndarray:
    return value.asnumpy() if isinstance(value, NDArray) else np.asarray(value)


def reldiff(a, b) -> float:
    """Sum of differences by sum of magnitudes, the measure of releases before 0.9."""
    a, b = _numpy(a), _numpy(b)
    difference = np.abs(a - b).sum()
    return float(difference / np.abs(a).sum()) if difference else 0.0


def _violations(a: np.ndarray, b: np.ndarray, rtol: float, atol: float) -> np.ndarray:
    """How many times more than allowed each element is away."""
    with np.errstate(invalid="ignore", over="ignore"):
        away = np.where(a == b, 0, np.abs(a.astype("float64") - b.astype("float64")))
        return away / (atol + rtol * np.abs(b.astype("float64")) + 1e-20)


def find_max_violation(a, b, rtol: float | None = None, atol: float | None = None) -> tuple[tuple, float]:
    """Index of the element that is farthest away, and how many times more than `atol + rtol * |b|` that is."""
    a, b = _numpy(a), _numpy(b)
    violation = _violations(a, b, *get_tols(a, b, rtol, atol))
    worst = int(np.nanargmax(violation)) if not np.isnan(violation).all() else 0
    index = tuple(int(i) for i in np.unravel_index(worst, violation.shape))
    return index, float(violation[index])


def same(a, b) -> bool:
    """Whether two arrays have equal shapes and elements."""
    return np.array_equal(_numpy(a), _numpy(b))


def same_array(array1: NDArray, array2: NDArray) -> bool:
    """Whether two NDArrays show the same memory: a change of one is seen in the other."""
    before = array1.asnumpy()
    array1[:] += 1
    seen = same(array1, array2)
    array1[:] = before
    return seen and same(array1, array2)


def almost_equal(a, b, rtol=None, atol=None, equal_nan: bool = False, use_broadcast: bool = True) -> bool:
    """Whether |a - b| <= atol + rtol * |b| everywhere. Shapes may stretch, unless `use_broadcast` is False."""
    a, b = _numpy(a), _numpy(b)
    if not use_broadcast and a.shape != b.shape:
        raise AssertionError(f"shapes differ: {a.shape} and {b.shape}.")
    rtol, atol = get_tols(a, b, rtol, atol)
    try:
        return bool(np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan))
    except ValueError:  # shapes that do not fit
        return False


def assert_almost_equal(
    a, b, rtol=None, atol=None, names=("a", "b"), equal_nan: bool = False, use_broadcast: bool = True,
    mismatches=(10, 10), threshold=None,
) -> None:  # fmt: skip
    """Raise AssertionError unless |a - b| <= atol + rtol * |b| everywhere.

    `a` and `b` are NDArrays, NumPy arrays or numbers; tolerances are numbers or dicts by element type, by default those
    of the looser type. The error shows the worst elements, `mismatches[0]` of them.
    """
    a, b = _numpy(a), _numpy(b)
    rtol, atol = get_tols(a, b, threshold if rtol is None else rtol, atol)
    if almost_equal(a, b, rtol, atol, equal_nan, use_broadcast):
        return
    raise AssertionError(_difference(a, b, rtol, atol, names, equal_nan, mismatches[0]))


def _difference(a: np.ndarray, b: np.ndarray, rtol: float, atol: float, names, equal_nan: bool, shown: int) -> str:
    """What an error says about arrays that differ."""
    shapes = "" if a.shape == b.shape else f" Shapes are {a.shape} and {b.shape}."
    try:
        a, b = np.broadcast_arrays(a, b)
    except ValueError:
        return f"{names[0]} and {names[1]} differ: shapes {a.shape} and {b.shape} do not fit."
    violation = _violations(a, b, rtol, atol)
    nans = np.isnan(a.astype("float64")) | np.isnan(b.astype("float64"))
    both = np.isnan(a.astype("float64")) & np.isnan(b.astype("float64"))
    violation = np.where(nans, np.where(both & equal_nan, 0, np.inf), violation)
    count = int((violation > 1).sum())
    order = np.argsort(violation, axis=None)[::-1][: min(max(shown, 1), count)]
    lines = [
        f"{names[0]} and {names[1]} differ at {count} of {a.size} elements by more than atol={atol:g} + rtol={rtol:g} "
        f"* |{names[1]}|.{shapes} The worst:"
    ]
    for place in order:
        index = tuple(int(i) for i in np.unravel_index(place, a.shape))
        where = f"[{', '.join(map(str, index))}]"
        lines.append(f"  {where}: {names[0]} {a[index]!r}, {names[1]} {b[index]!r} ({violation[index]:.3g} times more)")
    return "\n".join(lines)


def assert_allclose(a, b, rtol=1e-07, atol=0, equal_nan: bool = True) -> None:
    """As `assert_almost_equal`, with NumPy's defaults."""
    assert_almost_equal(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)


def assert_almost_equal_with_err(a, b, rtol=None, atol=None, etol=None, names=("a", "b"), equal_nan=False) -> None:
    """As `assert_almost_equal`, but a part `etol` of the elements may be wrong."""
    a, b = _numpy(a), _numpy(b)
    rtol, atol = get_tols(a, b, rtol, atol)
    close = np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)
    if 1 - close.mean() > get_etol(etol):
        raise AssertionError(_difference(a, b, rtol, atol, names, equal_nan, 10))


def _without_nans(a, b) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.array(_numpy(a)), np.array(_numpy(b))
    nans = np.isnan(a) | np.isnan(b)
    a[nans] = b[nans] = 0
    return a, b


def almost_equal_ignore_nan(a, b, rtol=None, atol=None) -> bool:
    """As `almost_equal`, where neither is NaN."""
    return almost_equal(*_without_nans(a, b), rtol, atol)


def assert_almost_equal_ignore_nan(a, b, rtol=None, atol=None, names=("a", "b")) -> None:
    """As `assert_almost_equal`, where neither is NaN."""
    assert_almost_equal(*_without_nans(a, b), rtol, atol, names)


def assert_exception(f: Callable, exception_type, *args, **kwargs) -> None:
    """Raise AssertionError unless `f(*args, **kwargs)` raises an exception of this type."""
    try:
        f(*args, **kwargs)
    except exception_type:
        return
    raise AssertionError(f"{getattr(f, '__name__', f)} did not raise {exception_type.__name__}.")


def compare_ndarray_tuple(t1, t2, rtol=None, atol=None) -> None:
    """`assert_almost_equal` of arrays in nested tuples; None anywhere fits anything."""
    if t1 is None or t2 is None:
        return
    if isinstance(t1, tuple):
        for a, b in zip(t1, t2, strict=True):
            compare_ndarray_tuple(a, b, rtol, atol)
    else:
        assert_almost_equal(t1, t2, rtol=rtol, atol=atol)


def compare_optimizer(opt1, opt2, shape, dtype, rtol=1e-4, atol=1e-5) -> None:
    """Assert that two optimizers make the same step, and the same states, from one random weight and gradient."""
    weight, gradient = (nd.array(np.random.uniform(-1, 1, shape), dtype=dtype) for _ in range(2))
    other, states = weight.copy(), []
    for optimizer, w in ((opt1, weight), (opt2, other)):
        state = optimizer.create_state(0, w)
        optimizer.update(0, w, gradient.copy(), state)
        states.append(state)
    compare_ndarray_tuple(states[0], states[1], rtol, atol)
    assert_almost_equal(weight, other, rtol=rtol, atol=atol)


def same_symbol_structure(sym1: Symbol, sym2: Symbol) -> bool:
    """Whether two symbols have the same operators, connected in the same way, whatever their names."""
    graphs = [json.loads(s.tojson()) for s in (sym1, sym2)]
    shapes = [[(n["op"], [e[:2] for e in n["inputs"]]) for n in g["nodes"]] for g in graphs]
    return shapes[0] == shapes[1]


# ---- running symbols ----


def simple_forward(sym: Symbol, ctx: Context | None = None, is_train: bool = False, **inputs):
    """The outputs of a symbol for NumPy inputs, as a NumPy array, or a list of several."""
    ctx = ctx or default_context()
    exe = sym.bind(ctx, {name: nd.array(value, ctx) for name, value in inputs.items()})
    outputs = [x.asnumpy() for x in exe.forward(is_train)]
    return outputs[0] if len(outputs) == 1 else outputs


def _by_name(given, names: Sequence[str], what: str) -> dict[str, Any]:
    """Values by name, out of a dict or a list in the order of `names`."""
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise ValueError(f"{what} must name {sorted(set(names))}, got {sorted(given)}.")
        return dict(given)
    if not isinstance(given, (list, tuple)):
        raise ValueError(f"{what} must be a list or a dict, got {type(given).__name__}.")
    return dict(zip(names, given, strict=False))


def _placed(values: Mapping[str, Any], ctx: Context, dtype) -> dict[str, NDArray]:
    """Arrays on `ctx`, of `dtype` unless they are NDArrays of their own type already."""
    return {
        name: v.as_in_context(ctx) if isinstance(v, NDArray) and dtype is None else nd.array(v, ctx, dtype)
        for name, v in values.items()
    }


class _Case(NamedTuple):
    """A symbol's arguments and states."""

    ctx: Context
    args: dict[str, NDArray]
    aux: dict[str, NDArray] | None

    @classmethod
    def of(cls, sym: Symbol, location, aux_states, ctx: Context | None, dtype) -> _Case:
        ctx = ctx or default_context()
        args = _placed(_by_name(location, sym.list_arguments(), "location"), ctx, dtype)
        if aux_states is None:
            return cls(ctx, args, None)
        states = _by_name(aux_states, sym.list_auxiliary_states(), "aux_states")
        return cls(ctx, args, _placed(states, ctx, dtype))


def _requests(grad_req, names: Sequence[str]) -> dict[str, str]:
    if isinstance(grad_req, str):
        return dict.fromkeys(names, grad_req)
    return dict(grad_req) if isinstance(grad_req, Mapping) else dict(zip(names, grad_req, strict=False))


def _check_gradient(name: str, req: str, words: str, expected, found, before, rtol, atol, equal_nan=False) -> None:
    """Compare one gradient with what is expected under its `grad_req`; `before` is what stood in its array."""
    if req not in ("write", "add", "null"):
        raise ValueError(f"grad_req of {name!r} must be 'write', 'add' or 'null', got {req!r}.")
    names = (f"{words}_{name}", f"BACKWARD_{name}")
    if req == "null":
        assert_almost_equal(before, found, rtol, atol, names, equal_nan)
    else:
        added = found - before if req == "add" else found
        assert_almost_equal(expected, added, rtol, atol, names, equal_nan)


def numeric_grad(
    executor, location: Mapping[str, np.ndarray], aux_states: Mapping[str, np.ndarray] | None = None,
    eps: float = 1e-4, use_forward_train: bool = True, dtype=np.float32,
) -> dict[str, np.ndarray]:  # fmt: skip
    """The gradients of the sum of an executor's outputs by central differences with step `eps`, element by element."""
    values = {name: np.array(value, order="C") for name, value in location.items()}

    def total(name: str) -> float:
        executor.arg_dict[name][:] = values[name]
        for state, value in (aux_states or {}).items():
            executor.aux_dict[state][:] = value
        executor.forward(is_train=use_forward_train)
        return float(sum(out.asnumpy().astype("float64").sum() for out in executor.outputs))

    for name, value in values.items():
        executor.arg_dict[name][:] = value
    gradients = {}
    for name, value in values.items():
        gradients[name] = np.zeros(value.shape, dtype)
        for index in np.ndindex(value.shape) if value.dtype.kind == "f" else ():
            before, ends = value[index], []
            for sign in (1, -1):
                value[index] = before + sign * eps / 2
                ends.append(total(name))
            value[index] = before
            gradients[name][index] = (ends[0] - ends[1]) / eps
        executor.arg_dict[name][:] = value
    return gradients


def check_numeric_gradient(
    sym: Symbol, location, aux_states=None, numeric_eps=None, rtol=None, atol=None, grad_nodes=None,
    use_forward_train: bool = True, ctx: Context | None = None, grad_stype_dict=None, dtype=np.float32,
    check_eps=None,
) -> None:  # fmt: skip
    """Compare the gradients of a symbol with one output with finite differences of a random projection of it.

    - location, aux_states: values of the arguments and states, as a list or a dict by name.
    - grad_nodes: the arguments to check, as a list or a dict of their `grad_req`; all by default.
    """
    rtol = check_eps if rtol is None else rtol
    case = _Case.of(sym, location, aux_states, ctx, dtype)
    names = list(case.args) if grad_nodes is None else list(grad_nodes)
    reqs = dict(grad_nodes) if isinstance(grad_nodes, Mapping) else dict.fromkeys(names, "write")
    shape = sym.infer_shape(**{name: x.shape for name, x in case.args.items()})[1][0]
    projection = nd.array(np.random.uniform(0.1, 1.1, shape), case.ctx, dtype)
    args = {**case.args, "__random_proj": projection}
    before = {name: np.random.normal(0, 0.01, args[name].shape) for name in names}
    grads = {name: nd.array(value, case.ctx, dtype) for name, value in before.items()}
    before = {name: grad.asnumpy() for name, grad in grads.items()}
    projected = sym_module.MakeLoss(sym * sym_module.Variable("__random_proj"))
    exe = projected.bind(case.ctx, args, grads, reqs, case.aux)
    plain = {name: x.asnumpy() for name, x in args.items()}
    states = None if case.aux is None else {name: x.asnumpy() for name, x in case.aux.items()}
    exe.forward(is_train=True)
    eps = default_numeric_eps()[np.dtype(dtype)] if numeric_eps is None else numeric_eps
    exe.backward()
    found = {name: grads[name].asnumpy() for name in names}
    measured = numeric_grad(exe, plain, states, eps, use_forward_train, dtype)
    for name in names:
        _check_gradient(name, reqs[name], "NUMERICAL", measured[name], found[name], before[name], rtol, atol)


def check_symbolic_forward(
    sym: Symbol, location, expected, rtol=None, atol=None, aux_states=None, ctx: Context | None = None,
    equal_nan: bool = False, dtype=np.float32, check_eps=None,
) -> list[np.ndarray]:  # fmt: skip
    """Compare the outputs of a symbol with expected ones (a list, or a dict by output name); returns the outputs."""
    rtol = check_eps if rtol is None else rtol
    case = _Case.of(sym, location, aux_states, ctx, dtype)
    names = sym.list_outputs()
    wanted = _by_name(expected, names, "expected")
    exe = sym.bind(case.ctx, case.args, aux_states=case.aux)
    outputs = dict(zip(names, (x.asnumpy() for x in exe.forward(is_train=False)), strict=True))
    for name, value in wanted.items():
        assert_almost_equal(value, outputs[name], rtol, atol, (f"EXPECTED_{name}", f"FORWARD_{name}"), equal_nan)
    return list(outputs.values())


def check_symbolic_backward(
    sym: Symbol, location, out_grads, expected, rtol=None, atol=None, aux_states=None, grad_req="write",
    ctx: Context | None = None, grad_stypes=None, equal_nan: bool = False, dtype=np.float32, check_eps=None,
) -> list[np.ndarray]:  # fmt: skip
    """Compare the gradients of a symbol for the head gradients `out_grads` (a list, a dict, or None for losses) with
    expected ones (a list in the order of the arguments, or a dict of some); returns the gradients."""
    rtol = check_eps if rtol is None else rtol
    case = _Case.of(sym, location, aux_states, ctx, dtype)
    names = sym.list_arguments()
    wanted = dict(expected) if isinstance(expected, Mapping) else _by_name(expected, names, "expected")
    reqs = _requests(grad_req, names)
    grads = {n: nd.array(np.random.normal(size=np.shape(v)), case.ctx, case.args[n].dtype) for n, v in wanted.items()}
    before = {name: grad.asnumpy() for name, grad in grads.items()}
    exe = sym.bind(case.ctx, case.args, grads, reqs, case.aux)
    exe.forward(is_train=True)
    if isinstance(out_grads, Mapping):
        heads: Any = [out_grads[name] for name in sym.list_outputs()]
    else:
        heads = out_grads if out_grads is None or isinstance(out_grads, (list, tuple)) else [out_grads]
    types = [out.dtype for out in exe.outputs]
    exe.backward(None if heads is None else [nd.array(h, case.ctx, t) for h, t in zip(heads, types, strict=True)])
    for name, value in wanted.items():
        found = grads[name].asnumpy()
        _check_gradient(name, reqs.get(name, "null"), "EXPECTED", value, found, before[name], rtol, atol, equal_nan)
    return [grads[name].asnumpy() for name in names if name in grads]


def check_speed(
    sym: Symbol, location: Mapping[str, np.ndarray] | None = None, ctx: Context | None = None, N: int = 20,
    grad_req="write", typ: str = "whole", **kwargs,
) -> float:  # fmt: skip
    """Seconds of one pass, the mean of `N`: forward and backward for `typ` "whole", else "forward". Shapes come from
    `location` (inputs by name), or from keywords as for `simple_bind`, with random inputs."""
    if typ not in ("whole", "forward"):
        raise ValueError(f"check_speed: typ must be 'whole' or 'forward', got {typ!r}.")
    shapes = kwargs if location is None else {name: value.shape for name, value in location.items()}
    exe = sym.simple_bind(ctx or default_context(), "write" if grad_req is None else grad_req, **shapes)
    if location is None:
        location = {name: np.random.normal(size=x.shape) for name, x in exe.arg_dict.items()}
    for name, value in location.items():
        exe.arg_dict[name][:] = value

    def run() -> None:
        exe.forward(is_train=typ == "whole")
        if typ == "whole":
            exe.backward(exe.outputs)

    run()
    nd.waitall()
    start = time.perf_counter()
    for _ in range(N):
        run()
    nd.waitall()
    return (time.perf_counter() - start) / N


def check_consistency(
    sym, ctx_list: Sequence[Mapping[str, Any]], scale: float = 1.0, grad_req="write", arg_params=None,
    aux_params=None, rtol=None, atol=None, raise_on_err: bool = True, ground_truth=None, equal_nan: bool = False,
    use_uniform: bool = False, rand_type=np.float64, tol=None,
) -> dict[str, Any]:  # fmt: skip
    """Compare outputs and gradients of one symbol (or one for each) between contexts and element types.

    `ctx_list` holds the arguments of `simple_bind`, such as {"ctx": mx.gpu(0), "data": (2, 3), "type_dict": {…}}. The
    executor with the most precise outputs is the truth, unless `ground_truth` gives arrays by name. Returns the truth.
    `tol` is 0.9's word for `rtol` and `atol`. Without `raise_on_err`, differences are printed.
    """
    rtol, atol = (tol, tol) if tol is not None else (rtol, atol)
    executors = _consistent_executors(sym, ctx_list, grad_req)
    _fill(executors, dict(arg_params or {}), dict(aux_params or {}), scale, use_uniform, rand_type)
    best = int(np.argmax([np.dtype(exe.outputs[0].dtype).itemsize for exe in executors]))
    for exe in executors:
        exe.forward(is_train=False)
    truth = ground_truth if ground_truth is not None else _truth(executors[best])
    _compare("forward", executors, best, truth, False, rtol, atol, equal_nan, raise_on_err)
    if grad_req != "null":
        for exe in executors:
            exe.forward(is_train=True)
        heads = [_least_precise([exe.outputs[i] for exe in executors]) for i in range(len(executors[0].outputs))]
        for exe in executors:
            exe.backward([nd.array(h, exe._ctx, out.dtype) for h, out in zip(heads, exe.outputs, strict=True)])
        truth = ground_truth if ground_truth is not None else _truth(executors[best])
        _compare("backward", executors, best, truth, True, rtol, atol, equal_nan, raise_on_err)
    return truth


def _consistent_executors(sym, ctx_list: Sequence[Mapping[str, Any]], grad_req) -> list[Any]:
    if len(ctx_list) < 2:
        raise ValueError("check_consistency: ctx_list must name at least two executors.")
    symbols = [sym] * len(ctx_list) if isinstance(sym, Symbol) else list(sym)
    for each in symbols:
        assert each.list_arguments() == symbols[0].list_arguments()
        assert each.list_outputs() == symbols[0].list_outputs()
    return [s.simple_bind(grad_req=grad_req, **each) for s, each in zip(symbols, ctx_list, strict=True)]


def _fill(executors, arg_params, aux_params, scale: float, use_uniform: bool, rand_type) -> None:
    """Give all executors the same arguments and states, random where none are given, and gradients of zero."""
    for name, array in sorted(executors[0].arg_dict.items()):
        if name not in arg_params:
            drawn = np.random.uniform(-0.92, 0.92, array.shape) if use_uniform else np.random.normal(size=array.shape)
            arg_params[name] = (drawn * scale).astype(rand_type)
    for exe in executors:
        for name, array in exe.arg_dict.items():
            array[:] = arg_params[name]
        for name, array in exe.aux_dict.items():
            array[:] = aux_params.get(name, 0)
        for array in exe.grad_arrays:
            if array is not None:
                array[:] = 0


def _truth(exe) -> dict[str, Any]:
    arrays = {**exe.output_dict, **exe.grad_dict}
    return {name: None if x is None else x.asnumpy() for name, x in arrays.items()}


def _least_precise(outputs: Sequence[NDArray]) -> np.ndarray:
    """The first of these arrays, rounded to the least precise of their types."""
    least = min((out.dtype for out in outputs), key=lambda dtype: dtype.itemsize)
    return outputs[0].asnumpy().astype(least)


def _compare(phase, executors, best: int, truth, gradients: bool, rtol, atol, equal_nan, raise_on_err) -> None:
    least = executors[best].outputs[0].dtype
    for i, exe in enumerate(executors):
        if i == best:
            continue
        rough = min(exe.outputs[0].dtype, least, key=lambda dtype: dtype.itemsize)
        for name, array in {**exe.output_dict, **(exe.grad_dict if gradients else {})}.items():
            if array is None or truth[name] is None:
                assert array is None and truth[name] is None, f"{name}: only one of two executors has a gradient."
                continue
            kind = min(array.dtype, rough, key=lambda dtype: dtype.itemsize)
            tolerances = get_tols(np.empty(0, kind), truth[name], rtol, atol)
            words = (f"{phase} {name} of executor {i}", f"of executor {best}")
            try:
                assert_almost_equal(array, truth[name], *tolerances, words, equal_nan)
            except AssertionError as error:
                if raise_on_err:
                    raise
                print(error)


# ---- the surroundings ----


def list_gpus() -> list[int]:
    """The numbers of the GPUs that `mx.gpu(i)` can name; without a cluster, of virtual ones only."""
    try:
        return list(range(runtime.num_gpus()))
    except Exception:  # no cluster can be reached
        return []


def retry(n: int) -> Callable:
    """Decorate a test that depends on chance: AssertionError counts when it comes `n` times in a row."""
    if n < 1:
        raise ValueError(f"retry: n must be at least 1, got {n}.")

    def decorate(f: Callable) -> Callable:
        @functools.wraps(f)
        def wrapper(*args, **kwargs):
            for _ in range(n - 1):
                try:
                    return f(*args, **kwargs)
                except AssertionError:
                    pass
            return f(*args, **kwargs)

        return wrapper

    return decorate


@contextlib.contextmanager
def discard_stderr() -> Iterator[None]:
    """Inside, what this process writes to the standard error of the system is lost."""
    kept = os.dup(_STDERR)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), _STDERR)
            yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)


_STDERR = 2


@contextlib.contextmanager
def environment(*args) -> Iterator[None]:
    """Inside, environment variables are set: `environment(name, value)` or a dict of them; None takes one away."""
    wanted = args[0] if len(args) == 1 else {args[0]: args[1]}
    before = {name: os.environ.get(name) for name in wanted}
    try:
        _set_variables(wanted)
        yield
    finally:
        _set_variables(before)


def _set_variables(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = str(value)


def set_env_var(key: str, val: str, default_val: str = "") -> str:
    """Set an environment variable; returns what it was, or `default_val`."""
    before = os.environ.get(key, default_val)
    os.environ[key] = val
    return before


# ---- random generators ----


def mean_check(generator: Callable[[int], Any], mu: float, sigma: float, nsamples: int = 1_000_000) -> bool:
    """Whether the mean of samples lies within three standard errors of `mu`."""
    samples = _numpy(generator(nsamples))
    return bool(abs(samples.mean() - mu) < 3 * sigma / np.sqrt(nsamples))


def var_check(generator: Callable[[int], Any], sigma: float, nsamples: int = 1_000_000) -> bool:
    """Whether the variance of samples lies within three standard errors of `sigma ** 2`."""
    samples = _numpy(generator(nsamples)).astype("float64")
    fourth = ((samples - samples.mean()) ** 4).mean()
    error = np.sqrt(max(fourth - sigma**4, 0) / nsamples)
    return bool(abs(samples.var(ddof=1) - sigma**2) < 3 * error)


def gen_buckets_probs_with_ppf(ppf: Callable[[float], float], nbuckets: int) -> tuple[list, list[float]]:
    """Buckets of equal probability from the inverse of a distribution function, and their probabilities."""
    edges = [ppf(i / nbuckets) for i in range(nbuckets + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True)), [1 / nbuckets] * nbuckets


def chi_square_check(generator: Callable[[int], Any], buckets, probs, nsamples: int = 1_000_000):
    """The p-value of a chi-square test of samples against the probabilities of buckets, with observed and expected
    counts. Buckets are (from, to) pairs, or the values of a discrete distribution. Needs SciPy."""
    from scipy import stats

    samples = _numpy(generator(nsamples)).reshape(-1)
    expected = np.array(probs) * samples.size
    if isinstance(buckets[0], (list, tuple)):
        observed = np.array([((samples >= low) & (samples < high)).sum() for low, high in buckets])
    else:
        observed = np.array([(samples == value).sum() for value in buckets])
    _, p = stats.chisquare(observed, expected * observed.sum() / expected.sum())
    return p, observed, expected


def verify_generator(
    generator: Callable[[int], Any], buckets, probs, nsamples: int = 1_000_000, nrepeat: int = 5,
    success_rate: float = 0.2, alpha: float = 0.05,
) -> list[float]:  # fmt: skip
    """Raise AssertionError if too few of `nrepeat` chi-square tests pass at level `alpha`; returns the p-values."""
    values = [chi_square_check(generator, buckets, probs, nsamples)[0] for _ in range(nrepeat)]
    passed = sum(p > alpha for p in values)
    assert passed >= nrepeat * success_rate, f"only {passed} of {nrepeat} chi-square tests passed; p-values: {values}."
    return values
