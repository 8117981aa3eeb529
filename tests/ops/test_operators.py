"""Every row of the table on every backend: values, rules, gradients, and what a kernel must leave alone."""

from __future__ import annotations

import inspect
import zlib

import numpy as np
import pytest

import raymx.ops  # noqa: F401
from raymx import config
from raymx.ops.backend import array_module
from raymx.ops.gradient import gradient_of
from raymx.ops.infer import infer_shapes, infer_types
from raymx.ops.op import REGISTRY, make
from tests.ops.cases import CASES, Case, Classes, Fixed

TOLERANCE = {"float16": 2e-2, "float32": 2e-5, "float64": 1e-12}


@pytest.fixture(params=["numpy", "onednn"])
def xp(request):
    """The array module, with oneDNN's kernels on or off."""
    if request.param == "onednn":
        pytest.importorskip("raymx.ops.kernels.onednn").load() or pytest.skip("oneDNN's library is not installed")
    with config.using(onednn=request.param == "onednn"), np.errstate(all="ignore"):
        yield array_module("cpu")


class Run:
    """One row in one element type: its operator, its inputs, and the arrays that it writes."""

    def __init__(self, case: Case, dtype: str, train: bool | None = None):
        self.case, self.dtype = case, np.dtype(dtype)
        self.train = case.train if train is None else train
        self.op = make(case.op, **case.params)
        self.seed = zlib.crc32(str(case).encode())
        self.rng = np.random.default_rng(self.seed)
        self.names = self.op.inputs() + self.op.aux()
        self.ins = [self._draw(spec) for spec in case.inputs]
        assert len(self.ins) == len(self.names), f"{case.op} takes {self.names}"

    def _draw(self, spec):
        if isinstance(spec, Classes):
            return self.rng.integers(0, spec.n, spec.shape).astype(self.dtype)
        if isinstance(spec, tuple):
            return self.rng.uniform(*self.case.between, spec).astype(self.dtype)
        return spec.values.copy() if isinstance(spec, Fixed) else np.array(spec, self.dtype)

    def shapes(self) -> dict:
        known = dict(zip(self.names, (a.shape for a in self.ins), strict=True))
        merged = infer_shapes(self.op, {**known, **dict.fromkeys(self.op.outputs())})
        return {**merged, "out": (2, 3)} if self.case.op == "_set_value" else merged

    def types(self) -> dict:
        known = dict(zip(self.names, (a.dtype for a in self.ins), strict=True))
        return infer_types(self.op, {**known, **dict.fromkeys(self.op.outputs())})

    def empty_outs(self) -> list:
        """Destinations full of rubbish."""
        shapes, types = self.shapes(), self.types()
        return [_rubbish(shapes[n], types[n] or self.dtype) for n in self.op.outputs()]

    def forward(self, xp, ins=None, outs=None) -> list:
        """The outputs; aux states in `ins` are changed."""
        ins = [a.copy() for a in self.ins] if ins is None else ins
        outs = self.empty_outs() if outs is None else outs
        _execute(self.op, xp, ins, outs, is_train=self.train, rng=np.random.default_rng(self.seed))
        return outs

    def expected(self) -> dict:
        """The reference's values by output or aux name."""
        wants_rng = "rng" in inspect.signature(self.case.ref).parameters
        extras = {"rng": np.random.default_rng(self.seed)} if wants_rng else {}
        values = self.case.ref(*self.wide(), **extras)
        if isinstance(values, dict):
            return values
        values = values if isinstance(values, tuple) else (values,)
        return dict(zip(self.op.outputs(), values, strict=False))

    def wide(self) -> list:
        """The inputs as the reference gets them: float64, whole numbers as int64."""
        wide = [a.astype("float64" if a.dtype.kind == "f" else "int64") for a in self.ins]
        drawn = zip(wide, self.case.inputs, strict=True)
        return [a.astype("int64") if isinstance(spec, Classes) else a for a, spec in drawn]

    def wanted(self) -> tuple[str, ...]:
        return tuple(n for n in self.op.inputs() if self.op.has_gradient(n))

    def backward(self, xp, heads, wants, outs=None, ins=None, destinations=None) -> dict:
        """The gradients of `wants` by input name."""
        ins = self.ins if ins is None else ins
        outs = self.forward(xp) if outs is None else outs
        gradient = gradient_of(self.op, wants)
        values = dict(zip(self.names, ins, strict=True)) | dict(zip(self.op.outputs(), outs, strict=True))
        values |= {"g": heads[0], **{f"g{i}": g for i, g in enumerate(heads)}}
        shapes = self.shapes()
        destinations = destinations or [_rubbish(shapes[n], values[n].dtype) for n in wants]
        rng = np.random.default_rng(self.seed)
        arguments = [values[n] for n in gradient.inputs()] + [values[n].copy() for n in gradient.aux()]
        _execute(gradient, xp, arguments, destinations, is_train=self.train, rng=rng)
        return dict(zip(wants, destinations, strict=True))

    def heads(self, outs) -> list:
        rng = np.random.default_rng(1)
        return [rng.uniform(-1, 1, o.shape).astype(o.dtype) for o in outs[: self.op.visible_outputs()]]


def _rubbish(shape, dtype):
    return np.full(shape, 77, dtype)


def _execute(op, xp, ins, outs, **extras) -> None:
    shapes = dict(zip(op.inputs() + op.aux(), (a.shape for a in ins), strict=True))
    shapes |= dict(zip(op.outputs(), (o.shape for o in outs), strict=True))
    scratch = op.scratch(shapes, (ins + outs)[0].dtype)
    temporary = {n: _rubbish(shape, dtype) for n, (shape, dtype) in scratch.items()}
    op.prepare(xp, ins, outs, **temporary, **extras)()


def _close(got, expected, dtype, what=""):
    expected = np.asarray(expected)
    assert got.shape == expected.shape, what
    if dtype.kind == "f":
        tolerance = TOLERANCE[dtype.name]
        np.testing.assert_allclose(got, expected.astype("float64"), rtol=tolerance, atol=tolerance, err_msg=what)
    else:
        np.testing.assert_array_equal(got, expected.astype(dtype), err_msg=what)


def _strided(array):
    """The same values in every second element of a larger array, with the axes laid out the other way round."""
    larger = np.zeros(tuple(2 * n for n in array.shape[::-1]), array.dtype)
    view = larger[tuple(slice(None, None, 2) for _ in array.shape)].T
    view[...] = array
    return view


def _wide(array):
    return array.astype("float64") if array.dtype.kind == "f" else array


def _each(function, arrays) -> list:
    return [function(a) for a in arrays]


every_row = pytest.mark.parametrize("case", CASES, ids=str)
float_rows = pytest.mark.parametrize("case", [c for c in CASES if "float32" in c.dtypes], ids=str)


def _has_gradient(case: Case) -> bool:
    op = make(case.op, **case.params)
    return "float32" in case.dtypes and any(map(op.has_gradient, op.inputs()))


gradient_rows = pytest.mark.parametrize("case", list(filter(_has_gradient, CASES)), ids=str)



def test_every_operator_has_a_row():
    rows = {REGISTRY[c.op] for c in CASES}
    assert not sorted(cls.name for cls in set(REGISTRY.values()) - rows)


@every_row
def test_values_and_rules(case, xp):
    for dtype in case.dtypes:
        run = Run(case, dtype)
        ins = [a.copy() for a in run.ins]
        outs = run.forward(xp, ins)
        types = run.types()
        values = dict(zip(run.op.outputs(), outs, strict=True)) | dict(zip(run.names, ins, strict=True))
        for name, expected in run.expected().items():
            _close(values[name], expected, types.get(name) or run.dtype, f"{name} in {dtype}")
        for name, before, after in zip(run.op.inputs(), run.ins, ins, strict=False):
            np.testing.assert_array_equal(before, after, err_msg=f"input {name} was modified")


@every_row
def test_non_contiguous_inputs(case, xp):
    run = Run(case, case.dtypes[0])
    plain = run.forward(xp)
    strided = [_strided(a) for a in run.ins]
    for got, expected in zip(run.forward(xp, strided), plain, strict=True):
        _close(got, expected, got.dtype)


@every_row
def test_in_place_pairs(case, xp):
    run = Run(case, case.dtypes[0])
    plain = run.forward(xp)
    for source, out in run.op.inplace:
        ins, outs = [a.copy() for a in run.ins], run.empty_outs()
        i, o = run.names.index(source), run.op.outputs().index(out)
        assert ins[i].shape == outs[o].shape or ins[i].size == outs[o].size
        outs[o] = ins[i].reshape(outs[o].shape)
        run.forward(xp, ins, outs)
        for got, expected in zip(outs, plain, strict=True):
            np.testing.assert_array_equal(got, expected, err_msg=f"{out} in place of {source}")


@gradient_rows
def test_gradient(case, xp):
    run = Run(case, "float64")
    outs = run.forward(xp)
    heads = run.heads(outs)
    wants = run.wanted()
    together = run.backward(xp, heads, wants, outs)
    for name in wants:
        alone = run.backward(xp, heads, (name,), outs)[name]
        np.testing.assert_array_equal(alone, together[name], err_msg=f"d_{name} alone")
        if case.gradient:
            _close(together[name], case.gradient[name](*run.wide(), g=heads[0]), np.dtype("float64"), name)
        else:
            _close_to_differences(run, xp, name, together[name], heads)


def _close_to_differences(run: Run, xp, name: str, gradient, heads) -> None:
    """`gradient` agrees with central differences in one random direction."""
    i, step = run.names.index(name), 1e-6
    direction = np.random.default_rng(2).uniform(-1, 1, gradient.shape)
    if run.case.symmetric:
        direction = direction + direction.swapaxes(-1, -2)
    values = []
    for sign in (1, -1):
        ins = [a.copy() for a in run.ins]
        ins[i] += sign * step * direction
        values.append(sum((o * g).sum() for o, g in zip(run.forward(xp, ins), heads, strict=False)))
    measured = (values[0] - values[1]) / (2 * step)
    np.testing.assert_allclose((gradient * direction).sum(), measured, rtol=1e-6, atol=1e-8, err_msg=name)


@float_rows
def test_no_gradient_means_no_influence(case, xp):
    run = Run(case, "float64")
    stated = {*run.wanted(), *case.constant, *run.op.aux()}
    stated = set(run.names) if case.gradient or not run.op.differentiable else stated
    heads = run.heads(run.forward(xp))
    for name, spec in zip(run.names, case.inputs, strict=True):
        if name not in stated and isinstance(spec, tuple) and case.op != "_onehot_encode":
            _close_to_differences(run, xp, name, np.zeros_like(run.ins[run.names.index(name)]), heads)


@gradient_rows
def test_gradient_in_float32_and_from_non_contiguous_inputs(case, xp):
    run = Run(case, "float32")
    outs = run.forward(xp)
    heads = run.heads(outs)
    got = run.backward(xp, heads, run.wanted(), outs)
    strided = run.backward(xp, _each(_strided, heads), run.wanted(), outs, ins=_each(_strided, run.ins))
    run.ins, run.dtype = _each(_wide, run.ins), np.dtype("float64")
    expected = run.backward(xp, _each(_wide, heads), run.wanted(), _each(_wide, outs))
    for name in run.wanted():
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(strided[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=f"{name}, strided")


@gradient_rows
def test_in_place_pairs_of_backward(case, xp):
    run = Run(case, "float32")
    outs = run.forward(xp)
    wants = run.wanted()
    plain = run.backward(xp, run.heads(outs), wants, outs)
    for source, destination in gradient_of(run.op, wants).inplace:
        assert source == "g"
        heads = run.heads(outs)
        i = wants.index(destination.removeprefix("d_"))
        destinations = [_rubbish(plain[w].shape, run.dtype) for w in wants]
        destinations[i] = heads[0].reshape(destinations[i].shape)
        for name, got in run.backward(xp, heads, wants, outs, destinations=destinations).items():
            np.testing.assert_array_equal(got, plain[name], err_msg=f"d_{name} with {destination} in place of {source}")
