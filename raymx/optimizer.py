"""Optimizers: how a weight is changed by its gradient.

The rules themselves are operators (`sgd_update`, `sgd_mom_update`, `adam_update`): one recorded task for each weight,
on the weight's device, reading and writing in place. The classes here keep what the rules need to know: learning rates,
weight decay, counts and states.
"""

from __future__ import annotations

import math
import pickle
from typing import Any

from raymx import ndarray as nd
from raymx.errors import ParameterError, did_you_mean
from raymx.ops.op import Op, make
from raymx.registry import Registry

_optimizers = Registry("optimizer")
_RULES_KEPT = 256
_DECAYED = ("_weight", "_gamma")  # weight decay is for names that end so


class Optimizer:
    """Base of optimizers. A subclass defines `create_state(index, weight)` and `update(index, weight, grad, state)`.

    - rescale_grad: gradients are multiplied by this, then clipped to [-clip_gradient, clip_gradient].
    - wd: weight decay, the gradient of wd/2 |weight|².
    - learning_rate, or an `lr_scheduler` that starts from it and is asked with the largest update count of any index.
    - param_idx2name: index → name. Names that end neither in `_weight` nor in `_gamma` then have no weight decay.
    - sym: a Symbol whose variables' attributes `lr_mult` and `wd_mult` are multipliers by name.
    - begin_num_update: the count to go on from.

    Raises ParameterError for parameters that no optimizer knows.
    """

    opt_registry = _optimizers.classes

    def __init__(self, rescale_grad=1.0, param_idx2name=None, wd=0.0, clip_gradient=None, learning_rate=0.01,
                 lr_scheduler=None, sym=None, begin_num_update=0, **unknown):  # fmt: skip
        if unknown:
            _refuse(type(self), unknown)
        self.rescale_grad, self.wd, self.clip_gradient = rescale_grad, wd, clip_gradient
        self.lr, self.lr_scheduler = learning_rate, lr_scheduler
        if lr_scheduler is not None:
            lr_scheduler.base_lr = learning_rate
        self.idx2name = dict(param_idx2name or {})
        self.begin_num_update = self.num_update = begin_num_update
        self._index_update_count: dict[Any, int] = {}
        self._rules: dict[tuple, Op] = {}  # operators by their parameters, see _apply
        self._sym_lr_mult, self._sym_wd_mult = _multipliers(sym, "lr_mult"), _multipliers(sym, "wd_mult")
        self.set_lr_mult({})
        self.set_wd_mult({})

    @staticmethod
    def register(cls):
        """Class decorator: make an optimizer known by its name in any case."""
        return _optimizers.register(cls)

    @staticmethod
    def create_optimizer(name: str, rescale_grad: float = 1.0, **kwargs) -> Optimizer:
        """An optimizer by name; raises ParameterError with the nearest known name, or for unknown parameters."""
        return _optimizers.create(name, rescale_grad=rescale_grad, **kwargs)

    def create_state(self, index, weight):
        """What the rule remembers of one weight: None, an NDArray or a tuple of them, on the weight's device."""
        return None

    def update(self, index, weight, grad, state) -> None:
        """Change `weight` (and `state`) in place by the gradient `grad`, all of one shape."""
        raise NotImplementedError(f"{type(self).__name__} must define update(index, weight, grad, state).")

    @property
    def learning_rate(self) -> float:
        """The rate of the next update, multipliers left out."""
        return self.lr if self.lr_scheduler is None else self.lr_scheduler(self.num_update)

    def set_learning_rate(self, lr: float) -> None:
        """Change the rate; raises ParameterError if a scheduler decides it."""
        if self.lr_scheduler is not None:
            raise ParameterError(f"{type(self).__name__}: the learning rate comes from {self.lr_scheduler!r}; "
                                 "change the scheduler's base_lr instead.")
        self.lr = lr

    def set_lr_mult(self, args_lr_mult: dict[Any, float]) -> None:
        """Multipliers of the learning rate by name or index, over those of the symbol's attributes."""
        self.lr_mult = {**self._sym_lr_mult, **args_lr_mult}

    def set_wd_mult(self, args_wd_mult: dict[Any, float]) -> None:
        """Multipliers of weight decay by name or index, over the symbol's attributes, over 0 for undecayed names."""
        undecayed = {name: 0.0 for name in self.idx2name.values() if not name.endswith(_DECAYED)}
        self.wd_mult = {**undecayed, **self._sym_wd_mult, **args_wd_mult}

    def _update_count(self, index) -> int:
        """Count one more update of `index`; returns how many it has had."""
        count = self._index_update_count.get(index, self.begin_num_update) + 1
        self._index_update_count[index] = count
        self.num_update = max(count, self.num_update)
        return count

    def _get_lr(self, index) -> float:
        return self.learning_rate * self._multiplier(self.lr_mult, index)

    def _get_wd(self, index) -> float:
        return self.wd * self._multiplier(self.wd_mult, index)

    def _multiplier(self, by_name_or_index, index) -> float:
        if index in by_name_or_index:
            return by_name_or_index[index]
        return by_name_or_index.get(self.idx2name.get(index), 1.0)

    def _apply(self, rule: str, lr: float, index, weight, grad, *states, **params) -> None:
        """Push the update operator `rule`; the latest ones are kept, as most updates are like the one before."""
        key = rule, lr, self._get_wd(index), self.rescale_grad, self.clip_gradient, *params.values()
        op = self._rules.get(key)
        if op is None:
            clip = {} if self.clip_gradient is None else {"clip_gradient": self.clip_gradient}
            if len(self._rules) >= _RULES_KEPT:
                self._rules.clear()
            op = self._rules[key] = make(rule, lr=lr, wd=key[2], rescale_grad=key[3], **clip, **params)
        nd.invoke(op, (weight, grad, *states), weight)


register = Optimizer.register
create_optimizer = Optimizer.create_optimizer


def create(name: str, **kwargs) -> Optimizer:
    """An optimizer by name, as `create_optimizer`."""
    return _optimizers.create(name, **kwargs)


@register
class SGD(Optimizer):
    """Stochastic gradient descent: m = momentum m - lr (g + wd w); w += m."""

    def __init__(self, momentum: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.momentum = momentum

    def create_state(self, index, weight):
        return None if self.momentum == 0.0 else _zeros_like(weight)

    def update(self, index, weight, grad, state) -> None:
        self._update_count(index)
        if state is None:
            self._apply("sgd_update", self._get_lr(index), index, weight, grad)
        else:
            self._apply("sgd_mom_update", self._get_lr(index), index, weight, grad, state, momentum=self.momentum)


@register
class ccSGD(SGD):  # the name of MXNet's SGD in C++
    """SGD under another name."""


@register
class Adam(Optimizer):
    """Adam (Kingma and Ba 2014, the form before section 2.1): g is rescaled, decayed, then clipped;
    m = beta1 m + (1-beta1) g; v = beta2 v + (1-beta2) g²; w -= lr sqrt(1-beta2^t)/(1-beta1^t) m / (sqrt(v) + epsilon).

    `decay_factor` is taken for old scripts and changes nothing.
    """

    def __init__(self, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8, decay_factor=1 - 1e-8, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta1, self.beta2, self.epsilon, self.decay_factor = beta1, beta2, epsilon, decay_factor

    def create_state(self, index, weight):
        return _zeros_like(weight), _zeros_like(weight)

    def update(self, index, weight, grad, state) -> None:
        t = self._update_count(index)
        lr = self._get_lr(index) * math.sqrt(1.0 - self.beta2**t) / (1.0 - self.beta1**t)
        self._apply("adam_update", lr, index, weight, grad, *state, beta1=self.beta1, beta2=self.beta2,
                    epsilon=self.epsilon)  # fmt: skip


@register
class Test(Optimizer):
    """w += rescale_grad g, and the state follows w: for tests of key-value stores."""

    def create_state(self, index, weight):
        return _zeros_like(weight)

    def update(self, index, weight, grad, state) -> None:
        weight += grad * self.rescale_grad
        state[:] = weight


class Updater:
    """`updater(index, grad, weight)`: an optimizer with the states of all weights, made when first seen."""

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer
        self.states: dict[Any, Any] = {}
        self._unplaced: set = set()  # indices whose loaded states may lie on another device than the weight

    def __call__(self, index, grad, weight) -> None:
        if index not in self.states:
            self.states[index] = self.optimizer.create_state(index, weight)
        elif index in self._unplaced:
            self.states[index] = _in_context(self.states[index], weight.context)
            self._unplaced.discard(index)
        self.optimizer.update(index, weight, grad, self.states[index])

    def get_states(self) -> bytes:
        """All states as bytes; waits for them. The optimizer itself is not in them."""
        return pickle.dumps(self.states)

    def set_states(self, states: bytes) -> None:
        """Take over what `get_states` gave. Unpickles: only for bytes that you trust."""
        self.states = pickle.loads(states)
        self._unplaced = set(self.states)

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._unplaced = set(self.states)


def is_elementwise(optimizer: Optimizer) -> bool:
    """Whether several weights with equal multipliers may be updated as one long vector with the same result."""
    return type(optimizer) in (SGD, ccSGD, Adam)


def get_updater(optimizer: Optimizer) -> Updater:
    """A function `(index, grad, weight)` that updates weights in place, for `KVStore._set_updater` or a loop."""
    return Updater(optimizer)


def _zeros_like(weight):
    return nd.zeros(weight.shape, weight.context, dtype=weight.dtype)


def _in_context(state, context):
    if isinstance(state, (tuple, list)):
        return type(state)(_in_context(part, context) for part in state)
    return state.as_in_context(context) if isinstance(state, nd.NDArray) else state


def _multipliers(sym, key: str) -> dict[str, float]:
    """Argument name → value of the attribute `key`, bare or as `__key__`."""
    if sym is None:
        return {}
    arguments = set(sym.list_arguments())
    found = {}
    for name, attrs in sym.attr_dict().items():
        value = attrs.get(f"__{key}__", attrs.get(key))
        if name in arguments and value is not None:
            found[name] = float(value)
    return found


def _refuse(cls, unknown) -> None:
    """Raise ParameterError for the first unknown parameter, with all that `cls` and its bases know."""
    known: list[str] = []
    for base in cls.__mro__[:-1]:
        if "__init__" in base.__dict__:
            code = base.__init__.__code__
            known += [n for n in code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount] if n not in known]
    name = next(iter(unknown))
    raise ParameterError(f"{cls.__name__}: unknown parameter {name!r}{did_you_mean(name, known)} "
                         f"(known: {', '.join(sorted(known))}).")  # fmt: skip
