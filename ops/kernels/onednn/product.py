"""oneDNN's matrix product for dot, batch_dot and FullyConnected.

A product is planned once over fixed arrays: pointers and sizes become C values, so that a run costs little more than
the call. Results do not depend on the number of threads: oneDNN's sgemm cuts the common axis among its threads only
where that is long, so long ones are cut here, always at the same places, and added up in order; or left to a primitive
that never cuts them.
"""

from __future__ import annotations

import functools

import numpy as np

from raymx.ops.kernels import Run, register
from raymx.ops.kernels.onednn import binding as dnn
from raymx.ops.kernels.onednn.binding import FLAG, NUMBER, POINTER, SIZE, library

DEEPEST = 368  # the longest common axis, in elements, of one call; from 384 on oneDNN 3.2 may cut it among threads
BY_BLOCKS = "brg"  # how the names of primitives begin that give each thread whole sums
SMALLEST_OF_BATCH = 32**3  # multiplications in one product of a batch below which NumPy's loop is as good


# ---- a planned product ----


def product(a, b, out, beta: float = 0.0) -> list[Run] | None:
    """Steps that compute out (M, N) = a (M, K) @ b (K, N) + beta * out; None where NumPy must do it.

    Transposed operands are read as they lie; an operand without unit stride is copied at every run.
    """
    (m, k), n = a.shape, b.shape[1]
    lead = _lead(out)
    if 1 in (m, n) or lead is None or any(x.dtype != np.float32 for x in (a, b, out)):
        return None
    at_once = affine(a, b, None, out) if k > DEEPEST and beta == 0 else None
    if at_once is not None:
        return [at_once]
    steps: list[Run] = []
    a, b = _readable(a, steps), _readable(b, steps)
    parts = -(-k // DEEPEST)
    edges = [k * i // parts // 16 * 16 for i in range(parts)] + [k]
    for start, stop in zip(edges, edges[1:], strict=False):
        factor = beta if start == 0 else 1.0
        steps.append(_call(a[:, start:stop], b[start:stop], out, lead, factor))
    return steps


def _call(a, b, out, lead: int, beta: float) -> Run:
    (flag_a, lead_a), (flag_b, lead_b) = _layout(a), _layout(b)
    (m, k), n = a.shape, b.shape[1]
    run = functools.partial(
        library().dnnl_sgemm, flag_a, flag_b, SIZE(m), SIZE(n), SIZE(k),
        NUMBER(1.0), POINTER(a.ctypes.data), SIZE(lead_a), POINTER(b.ctypes.data), SIZE(lead_b),
        NUMBER(beta), POINTER(out.ctypes.data), SIZE(lead),
    )  # fmt: skip
    run.arrays = a, b, out  # type: ignore[attr-defined]  # keeps the memory behind the pointers
    return run


def _lead(matrix) -> int | None:
    """Elements from one row to the next, if each row lies together and rows do not overlap."""
    (rows, columns), size = matrix.shape, matrix.itemsize
    if columns > 1 and matrix.strides[1] != size:
        return None
    lead = columns if rows == 1 else matrix.strides[0] // size
    return lead if lead >= columns and (rows == 1 or matrix.strides[0] % size == 0) else None


def _layout(matrix):
    """How sgemm reads the matrix: not transposed or transposed, and its leading dimension."""
    lead = _lead(matrix)
    return (FLAG(b"N"), lead) if lead is not None else (FLAG(b"T"), _lead(matrix.T))


def _readable(matrix, steps: list[Run]):
    """The matrix, or a copy that `steps` refreshes if it has no unit stride."""
    if _lead(matrix) is not None or _lead(matrix.T) is not None:
        return matrix
    copy = np.empty_like(matrix, order="C")
    steps.append(functools.partial(np.copyto, copy, matrix))
    return copy


def affine(a, b, bias, out) -> Run | None:
    """out (M, N) = a (M, K) @ b (K, N) + bias (N,) by one primitive, which never cuts the common axis among threads;
    None where there is none. Faster than `product` for few rows, and the bias costs nothing."""
    if 1 in out.shape or any(x.dtype != np.float32 for x in (a, b, out)):
        return None
    try:
        source, weights, target = map(dnn.strided, (a, b, out))
        added = dnn.NONE if bias is None else dnn.describe_strided(bias[None])
        computation = dnn.primitive("matmul", source.layout, weights.layout, added, target.layout)
        if not computation.implementation.startswith(BY_BLOCKS):
            return None
        arguments = {dnn.SRC: source, dnn.WEIGHTS: weights, dnn.DST: target}
        if bias is not None:
            arguments[dnn.BIAS] = dnn.Memory(added, bias)
        return dnn.call(computation, arguments)
    except dnn.Unsupported:
        return None


def _chain(*plans: list[Run] | None) -> Run | None:
    """One function that runs all steps; None if one of the plans is missing."""
    if any(plan is None for plan in plans):
        return None
    steps = [step for plan in plans for step in plan or ()]
    if len(steps) == 1:
        return steps[0]

    def run() -> None:
        for step in steps:
            step()

    return run


def _viewable(arrays) -> bool:
    """Whether the arrays keep their memory under any shape."""
    return all(a.ndim <= 2 or a.flags.c_contiguous for a in arrays.values())


# ---- kernels ----


@register("FullyConnected", "forward", "onednn")
def fully_connected(op, xp, ins, outs, extras) -> Run | None:
    data, weight, out = ins["data"], ins["weight"], outs["out"]
    if not _viewable(ins) or not _viewable(outs):
        return None
    shape = op.rows(data.shape)
    rows, matrix = data.reshape(shape), out.reshape(shape[0], op.num_hidden)
    at_once = affine(rows, weight.T, ins.get("bias"), matrix)
    if at_once is not None:
        return at_once
    if op.no_bias:
        return _chain(product(rows, weight.T, matrix))
    fill = functools.partial(np.copyto, matrix, ins["bias"])
    return _chain([fill], product(rows, weight.T, matrix, beta=1.0))


@register("FullyConnected", "backward", "onednn")
def fully_connected_backward(op, xp, ins, outs, extras) -> Run | None:
    if not _viewable(ins) or not _viewable(outs):
        return None
    shape = op.rows(ins["data"].shape)
    g = ins["g"].reshape(shape[0], op.num_hidden)
    plans: list[list[Run] | None] = []
    if "d_data" in outs:
        plans.append(product(g, ins["weight"], outs["d_data"].reshape(shape)))
    if "d_weight" in outs:
        plans.append(_begun("weight", ins, outs))
        beta = 1.0 if "sum_weight" in ins else 0.0
        plans.append(product(g.T, ins["data"].reshape(shape), outs["d_weight"], beta))
    if "d_bias" in outs:
        plans.append(_begun("bias", ins, outs))
        plans.append([functools.partial(_sum_of_rows, g, outs["d_bias"], "sum_bias" in ins)])
    return _chain(*plans)


def _begun(name: str, ins, outs) -> list[Run]:
    """What brings the sum to which a gradient is to be added into its place."""
    total, target = ins.get(f"sum_{name}"), outs[f"d_{name}"]
    return [] if total is None or total is target else [functools.partial(np.copyto, target, total)]


def _sum_of_rows(g, out, add: bool) -> None:
    if add:
        np.add(out, np.add.reduce(g, axis=0), out=out)
    else:
        np.add.reduce(g, axis=0, out=out)


@register("dot", "forward", "onednn")
def dot(op, xp, ins, outs, extras) -> Run | None:
    if not _viewable(ins) or not _viewable(outs):
        return None
    a, b = op.matrices(ins["lhs"], ins["rhs"])
    return _chain(product(a, b, outs["out"].reshape(a.shape[0], b.shape[1])))


@register("dot", "backward", "onednn")
def dot_backward(op, xp, ins, outs, extras) -> Run | None:
    if not _viewable(ins) or not _viewable(outs):
        return None
    a, b = op.matrices(ins["lhs"], ins["rhs"])
    g = ins["g"].reshape(a.shape[0], b.shape[1])
    return _chain(*(product(x, y, out) for x, y, out in op.products(a, b, g, outs.get("d_lhs"), outs.get("d_rhs"))))


@register("batch_dot", "forward", "onednn")
def batch_dot(op, xp, ins, outs, extras) -> Run | None:
    return _batch([(*op.matrices(ins["lhs"], ins["rhs"]), outs["out"])])


@register("batch_dot", "backward", "onednn")
def batch_dot_backward(op, xp, ins, outs, extras) -> Run | None:
    a, b = op.matrices(ins["lhs"], ins["rhs"])
    return _batch(op.products(a, b, ins["g"], outs.get("d_lhs"), outs.get("d_rhs")))


def _batch(stacks) -> Run | None:
    """Products of stacks of matrices, one after the other."""
    plans: list[list[Run] | None] = []
    for a, b, out in stacks:
        if a.shape[-2] * a.shape[-1] * b.shape[-1] < SMALLEST_OF_BATCH:
            return None
        plans += [product(a[i], b[i], out[i]) for i in np.ndindex(out.shape[:-2])]
    return _chain(*plans)
