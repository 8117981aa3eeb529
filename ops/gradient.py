"""The gradient of an operator as an operator of its own, so that graphs, plans and runners know one kind of step."""

from __future__ import annotations

import functools

from raymx.ops.op import Op


class Gradient(Op):
    """Runs `op.backward` for the inputs in `wants`.

    inputs: `g` (or `g0`, `g1`, … for the visible outputs of an operator that takes `gs`), left out if `op` ignores head
    gradients; then `op.backward_needs()`, of which the aux states come last. outputs: `d_<name>` for each of `wants`.
    For each of `adds`, the gradient is added to an input `sum_<name>`, which follows the others and is best the same
    memory as `d_<name>`.
    """

    direction = "backward"

    def __init__(self, op: Op, wants: tuple[str, ...], adds: tuple[str, ...] = ()):
        self.op, self.wants, self.adds = op, wants, adds
        self.name = op.name  # under which kernels and errors know it
        self.attrs, self.declared, self.heavy, self.stateful = op.attrs, op.declared, op.heavy, op.stateful
        assert op.backward_names is not None, f"{op.name} has no gradient"
        self.forward_names = op.backward_names
        states = tuple(n for n in op.backward_needs() if n in op.aux())
        self._inputs = op.head_names() + tuple(n for n in op.backward_needs() if n not in states)
        self._inputs += tuple(f"sum_{n}" for n in adds)
        self._states = states  # which backward may change
        self._outputs = tuple(f"d_{w}" for w in wants)
        self.inplace = tuple((i, o) for i, o in op.inplace_backward if i in self._inputs and o in self._outputs)
        self.extras = tuple(n for n in self.forward_names.keywords if not n.startswith("d_"))
        self.view = op.view and self._inputs == ("g",)
        self.elementwise, self.gains = op.elementwise, op.gains
        self.channelled = tuple(n for n in self._inputs + self._outputs if self._of_same_shape(n) in op.channelled)
        self.forward = self._kernel()  # type: ignore[method-assign]
        self.short = self._shortened()

    def _of_same_shape(self, name: str) -> str:
        """Of which of `op`'s inputs and outputs `name` is the gradient; other names stand for themselves."""
        if name in self._outputs:
            return name.removeprefix("d_")
        heads = self.op.head_names()
        return self.op.outputs()[heads.index(name)] if name in heads else name

    def subject(self):
        return self.op

    def inputs(self):
        return self._inputs

    def aux(self):
        return self._states

    def outputs(self):
        return self._outputs

    def infer_shape(self, **known):
        """Each gradient has its input's shape, where that input is among the operator's needs."""
        return {f"d_{w}": known[w] for w in self.wants if w in known}

    def infer_type(self, known):
        """Nothing by itself: each gradient has the type of the array that it belongs to, which the graph knows."""
        return {}

    def pieces(self):
        """As those of `op`, if all their gradients are here."""
        found = self.op.pieces()
        if found is None:
            return None
        names = {self._of_same_shape(n): n for n in self._inputs + self._outputs if n not in self.op.backward_needs()}
        whole, parts = names.get(found[0]), tuple(names[n] for n in found[1] if n in names)
        return (whole, parts) if whole and len(parts) == len(found[1]) else None

    def scratch(self, shapes, dtype):
        return self.op.scratch_backward(shapes, dtype)

    def _kernel(self):
        """What `forward` is: backward itself, where its positional arguments are our inputs. It does not hold this
        object, so that the gradient of an operator with a state goes when it is no longer used."""
        backward = self.op.backward
        if self.adds:
            return functools.partial(_adding, backward, self.adds)
        if self.forward_names.takes("gs"):
            return functools.partial(_with_tuple, backward, len(self.op.head_names()))
        if self.forward_names.takes("g") and not self.op.needs_head_gradient():
            return functools.partial(_without_head, backward)
        return backward

    def _shortened(self):
        """The kernel with its only destination as `out`, where there is nothing else to prepare."""
        op, one = self.op, len(self.wants) == 1 and not self.adds
        asks = {"is_train", "rng"} & {*self.extras} or type(op).scratch_backward is not Op.scratch_backward
        if asks or op.heavy or not one:
            return None
        kernel, name = self.forward, self._outputs[0]
        return lambda xp, *ins, out: kernel(xp, *ins, **{name: out})

    def __repr__(self):
        added = f", adds={self.adds}" if self.adds else ""
        return f"gradient_of({self.op!r}, {', '.join(self.wants)}{added})"

    def __reduce__(self):
        return gradient_of, (self.op, self.wants, self.adds)


def _with_tuple(backward, heads: int, xp, *args, **destinations):
    backward(xp, args[:heads], *args[heads:], **destinations)


def _without_head(backward, xp, *args, **destinations):
    backward(xp, None, *args, **destinations)


def _adding(backward, adds: tuple[str, ...], xp, *args, **destinations):
    for name, total in zip(adds, args[-len(adds) :], strict=True):
        if total is not destinations[f"d_{name}"]:
            xp.copyto(destinations[f"d_{name}"], total)
    backward(xp, *args[: -len(adds)], add=adds, **destinations)


def gradient_of(op: Op, wants: tuple[str, ...], adds: tuple[str, ...] = ()) -> Gradient:
    """The operator that computes `op`'s gradients for the inputs in `wants`. Equal ones are one object.

    Every name in `wants` must have a gradient (`op.has_gradient(name)`); those of `adds` must be in `op.addable`."""
    if op.stateful:
        return Gradient(op, wants, adds)
    known: dict[tuple, Gradient] = op.__dict__.setdefault("_gradients", {})
    return known.get((wants, adds)) or known.setdefault((wants, adds), Gradient(op, wants, adds))
