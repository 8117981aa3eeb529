"""Optimizers: how a weight is changed by its gradient.

The rules themselves are operators (`sgd_update`, `adam_update`, …; see ops/update.py, which gives their formulas): one
recorded task for each weight, on the weight's device, reading and writing in place. The classes here keep what the
rules need to know: learning rates, weight decay, counts and states. In their docstrings g is the gradient as the rule
sees it, rescaled and clipped, and t counts a weight's updates from 1.
"""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np

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
    - multi_precision: a float16 weight is kept in float32 beside it; steps are taken there.

    Raises ParameterError for parameters that no optimizer knows.
    """

    opt_registry = _optimizers.classes

    def __init__(self, rescale_grad=1.0, param_idx2name=None, wd=0.0, clip_gradient=None, learning_rate=0.01,
                 lr_scheduler=None, sym=None, begin_num_update=0, multi_precision=False, **unknown):  # fmt: skip
        if unknown:
            _refuse(type(self), unknown)
        self.rescale_grad, self.wd, self.clip_gradient = rescale_grad, wd, clip_gradient
        self.lr, self.lr_scheduler, self.multi_precision = learning_rate, lr_scheduler, multi_precision
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

    def create_state_multi_precision(self, index, weight):
        """What is remembered of a weight in float16 under `multi_precision`: (the weight in float32, the state for it);
        of any other what `create_state` says."""
        if not self._has_master(weight):
            return self.create_state(index, weight)
        master = weight.astype("float32")
        return master, self.create_state(index, master)

    def update_multi_precision(self, index, weight, grad, state) -> None:
        """`update` with a state of `create_state_multi_precision`."""
        if not self._has_master(weight):
            self.update(index, weight, grad, state)
            return
        master, state = state
        self.update(index, master, grad.astype("float32"), state)
        weight[:] = master

    def _has_master(self, weight) -> bool:
        return self.multi_precision and weight.dtype == np.float16

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

    def set_lr_scale(self, args_lrscale: dict[Any, float]) -> None:
        """2015's name of `set_lr_mult`."""
        self.set_lr_mult(args_lrscale)

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

    _clip_name = "clip_gradient"  # what the rules call the bound

    def _apply(self, rule: str, lr: float, index, weight, grad, *states, **params) -> None:
        """Push the update operator `rule`; the latest ones are kept, as most updates are like the one before."""
        key = rule, lr, self._get_wd(index), self.rescale_grad, self.clip_gradient, *params.values()
        op = self._rules.get(key)
        if op is None:
            clip = {} if self.clip_gradient is None else {self._clip_name: self.clip_gradient}
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
    """Stochastic gradient descent: m = momentum m - lr (g + wd w); w += m.

    `lazy_update` is accepted and has no effect.
    """

    # the rules without and with momentum, for weights in one and in two element types
    _plain, _wide = ("sgd_update", "sgd_mom_update"), ("mp_sgd_update", "mp_sgd_mom_update")

    def __init__(self, momentum: float = 0.0, lazy_update: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.momentum, self.lazy_update = momentum, lazy_update

    def create_state(self, index, weight):
        return None if self.momentum == 0.0 else _zeros_like(weight)

    def create_state_multi_precision(self, index, weight):
        state = super().create_state_multi_precision(index, weight)
        return state[::-1] if self._has_master(weight) else state  # in the order of the rules' inputs

    def update(self, index, weight, grad, state) -> None:
        self._step(index, weight, grad, self._plain, [state])

    def update_multi_precision(self, index, weight, grad, state) -> None:
        if self._has_master(weight):
            self._step(index, weight, grad, self._wide, state)
        else:
            self.update(index, weight, grad, state)

    def _step(self, index, weight, grad, rules, states) -> None:
        self._update_count(index)
        self._descend(self._get_lr(index), index, weight, grad, rules, states)

    def _descend(self, lr: float, index, weight, grad, rules, states) -> None:
        if self.momentum == 0.0:
            self._apply(rules[0], lr, index, weight, grad, *(s for s in states if s is not None))
        else:
            self._apply(rules[1], lr, index, weight, grad, *states, momentum=self.momentum)


@register
class ccSGD(SGD):  # the name of MXNet's SGD in C++
    """SGD under another name."""


@register
class NAG(SGD):
    """Nesterov's accelerated gradient: m = momentum m - lr (g + wd w), and w stands where the next m starts from."""

    _plain, _wide = ("sgd_update", "nag_mom_update"), ("mp_sgd_update", "mp_nag_mom_update")


@register
class LBSGD(SGD):
    """SGD that takes one step for `batch_scale` gradients, by their mean, as if batches were that much larger.

    The learning rate is multiplied by a factor that grows to batch_scale within `warmup_epochs` of `updates_per_epoch`
    gradients: linearly, as `power2` or as `sqrt`; `lars` takes |w| / sqrt(|g|² + wd |w|²) of each weight, which waits
    for the device (You et al. 2017). `num_epochs` is accepted and has no effect.
    """

    def __init__(self, momentum=0.0, multi_precision=False, warmup_strategy="linear", warmup_epochs=5, batch_scale=1,
                 updates_per_epoch=32, begin_epoch=0, num_epochs=60, **kwargs):  # fmt: skip
        super().__init__(momentum=momentum, multi_precision=multi_precision, **kwargs)
        self.warmup_strategy, self.warmup_epochs, self.batch_scale = warmup_strategy, warmup_epochs, batch_scale
        self.updates_per_epoch, self.num_epochs = updates_per_epoch, num_epochs
        self.init_updates = begin_epoch * updates_per_epoch
        self._gathered: dict[Any, tuple[int, Any]] = {}  # index → gradients so far, and the sum of those that wait

    def _step(self, index, weight, grad, rules, states) -> None:
        lr = self._get_lr(index)  # as in MXNet, before this gradient is counted
        self._update_count(index)
        count, total = self._gathered.get(index, (self.init_updates, None))
        count, total = count + 1, grad.copy() if total is None else total + grad
        if count % self.batch_scale:
            self._gathered[index] = count, total
            return
        self._gathered[index] = count, None
        grad = total / self.batch_scale
        lars = self.warmup_strategy == "lars"
        factor = _trust(weight, grad, self._get_wd(index)) if lars else self._warmup(count)
        self._descend(lr * factor, index, weight, grad, rules, states)

    def _warmup(self, count: int) -> float:
        """The factor after so many gradients."""
        end = self.warmup_epochs * self.updates_per_epoch
        shapes = {"linear": lambda x: x, "power2": lambda x: x * x, "sqrt": math.sqrt}
        if count >= end:
            return float(self.batch_scale)
        if end <= 1 or self.warmup_strategy not in shapes:
            return 1.0
        return 1.0 + (self.batch_scale - 1) * shapes[self.warmup_strategy](count / end)


def _trust(weight, grad, wd: float) -> float:
    """|w| / sqrt(|g|² + wd |w|²), between 0.01 and 100."""
    w2, g2 = (float(nd.sum(nd.square(a)).asscalar()) for a in (weight, grad))
    return min(max(math.sqrt(w2 / (g2 + wd * w2 + 1e-18)), 0.01), 100.0)


@register
class Signum(Optimizer):
    """m = momentum m - (1-momentum) (g + wd w); w = (1 - lr wd_lh) w + lr sign(m); without momentum
    w -= lr (sign(g) + wd w) (Bernstein et al. 2018)."""

    def __init__(self, learning_rate=0.01, momentum=0.9, wd_lh=0.0, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.momentum, self.wd_lh = momentum, wd_lh

    def create_state(self, index, weight):
        return None if self.momentum == 0.0 else _zeros_like(weight)

    def update(self, index, weight, grad, state) -> None:
        self._update_count(index)
        if state is None:
            self._apply("signsgd_update", self._get_lr(index), index, weight, grad)
        else:
            self._apply("signum_update", self._get_lr(index), index, weight, grad, state, momentum=self.momentum,
                        wd_lh=self.wd_lh)  # fmt: skip


@register
class DCASGD(Optimizer):
    """SGD that makes up for delay (Zheng et al. 2016): m = momentum m - lr (g + wd w + lamda g² (w - p)); w += m, for
    p the weight before its last update."""

    def __init__(self, momentum=0.0, lamda=0.04, **kwargs):
        super().__init__(**kwargs)
        self.momentum, self.lamda = momentum, lamda

    def create_state(self, index, weight):
        return _zeros_like(weight), weight.copy()

    def update(self, index, weight, grad, state) -> None:
        self._update_count(index)
        self._apply("_dcasgd_update", self._get_lr(index), index, weight, grad, *state, momentum=self.momentum,
                    lamda=self.lamda)  # fmt: skip


@register
class SGLD(Optimizer):
    """Stochastic gradient Langevin dynamics: w -= lr/2 (g + wd w) - normal numbers of variance lr."""

    def update(self, index, weight, grad, state) -> None:
        self._update_count(index)
        self._apply("_sgld_update", self._get_lr(index), index, weight, grad)


@register
class Adam(Optimizer):
    """Adam (Kingma and Ba 2014, the form before section 2.1): g is rescaled, decayed, then clipped;
    m = beta1 m + (1-beta1) g; v = beta2 v + (1-beta2) g²; w -= lr sqrt(1-beta2^t)/(1-beta1^t) m / (sqrt(v) + epsilon).

    `decay_factor` and `lazy_update` are accepted and have no effect.
    """

    def __init__(self, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8, decay_factor=1 - 1e-8,
                 lazy_update=True, **kwargs):  # fmt: skip
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.decay_factor, self.lazy_update = decay_factor, lazy_update

    def create_state(self, index, weight):
        return _zeros_like(weight), _zeros_like(weight)

    def update(self, index, weight, grad, state) -> None:
        t = self._update_count(index)
        lr = self._get_lr(index) * math.sqrt(1.0 - self.beta2**t) / (1.0 - self.beta1**t)
        self._apply("adam_update", lr, index, weight, grad, *state, beta1=self.beta1, beta2=self.beta2,
                    epsilon=self.epsilon)  # fmt: skip


@register
class Adamax(Optimizer):
    """Adam with a peak instead of the mean square: g is rescaled, decayed, then clipped; m = beta1 m + (1-beta1) g;
    u = max(beta2 u, |g|); w -= lr/(1-beta1^t) m / u."""

    def __init__(self, learning_rate=0.002, beta1=0.9, beta2=0.999, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta1, self.beta2 = beta1, beta2

    def create_state(self, index, weight):
        return _zeros_like(weight), _zeros_like(weight)

    def update(self, index, weight, grad, state) -> None:
        t = self._update_count(index)
        lr = self._get_lr(index) / (1.0 - self.beta1**t)
        self._apply("_adamax_update", lr, index, weight, grad, *state, beta1=self.beta1, beta2=self.beta2)


@register
class Nadam(Optimizer):
    """Adam with Nesterov's momentum (Dozat 2015). The momentum of update t is beta1 (1 - 0.96^(t schedule_decay) / 2).

    As in MXNet the product of all momenta, `m_schedule`, is one for all weights and grows with each of their updates.
    """

    def __init__(self, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8, schedule_decay=0.004, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta1, self.beta2, self.epsilon, self.schedule_decay = beta1, beta2, epsilon, schedule_decay
        self.m_schedule = 1.0

    def create_state(self, index, weight):
        return _zeros_like(weight), _zeros_like(weight)

    def update(self, index, weight, grad, state) -> None:
        t = self._update_count(index)
        now, then = (self.beta1 * (1 - 0.5 * 0.96 ** (k * self.schedule_decay)) for k in (t, t + 1))
        self.m_schedule *= now
        self._apply("_nadam_update", self._get_lr(index), index, weight, grad, *state, beta1=self.beta1,
                    beta2=self.beta2, epsilon=self.epsilon, from_grad=(1 - now) / (1 - self.m_schedule),
                    from_mean=then / (1 - self.m_schedule * then), var_part=1 - self.beta2**t)  # fmt: skip


@register
class AdaGrad(Optimizer):
    """h += g²; w -= lr (g / sqrt(h + eps) + wd w) (Duchi et al. 2011)."""

    def __init__(self, eps=1e-7, **kwargs):
        super().__init__(**kwargs)
        self.float_stable_eps = eps

    def create_state(self, index, weight):
        return _zeros_like(weight)

    def update(self, index, weight, grad, state) -> None:
        self._update_count(index)
        self._apply("_adagrad_update", self._get_lr(index), index, weight, grad, state, eps=self.float_stable_eps)


@register
class AdaDelta(Optimizer):
    """h = rho h + (1-rho) g²; d = sqrt(u + epsilon) / sqrt(h + epsilon) g; u = rho u + (1-rho) d²; w -= d + wd w
    (Zeiler 2012). There is no learning rate."""

    def __init__(self, rho=0.90, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.rho, self.epsilon = rho, epsilon

    def create_state(self, index, weight):
        return _zeros_like(weight), _zeros_like(weight)

    def update(self, index, weight, grad, state) -> None:
        self._update_count(index)
        self._apply("_adadelta_update", self.lr, index, weight, grad, *state, rho=self.rho, epsilon=self.epsilon)


@register
class RMSProp(Optimizer):
    """g is rescaled, decayed, then clipped; n = gamma1 n + (1-gamma1) g²; w -= lr g / sqrt(n + epsilon).

    `centered` is the variant of Graves 2013, the only one in 2015: a = gamma1 a + (1-gamma1) g;
    d = gamma2 d - lr g / sqrt(n - a² + epsilon); w += d. `clip_weights` bounds the new weight.
    """

    def __init__(self, learning_rate=0.001, gamma1=0.9, gamma2=0.9, epsilon=1e-8, centered=False, clip_weights=None,
                 **kwargs):  # fmt: skip
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.gamma1, self.gamma2, self.epsilon = gamma1, gamma2, epsilon
        self.centered, self.clip_weights = centered, clip_weights

    def create_state(self, index, weight):
        return tuple(_zeros_like(weight) for _ in range(3 if self.centered else 1))

    def update(self, index, weight, grad, state) -> None:
        self._update_count(index)
        rule, more = ("rmspropalex_update", {"gamma2": self.gamma2}) if self.centered else ("rmsprop_update", {})
        self._apply(rule, self._get_lr(index), index, weight, grad, *state, gamma1=self.gamma1, epsilon=self.epsilon,
                    clip_weights=self.clip_weights or -1.0, **more)  # fmt: skip


@register
class Ftrl(Optimizer):
    """Follow the regularized leader (McMahan et al. 2013): weights whose z stays within lamda1 are 0.

    z += g - (sqrt(n + g²) - sqrt(n)) w / lr; n += g²; w = (sign(z) lamda1 - z) / ((beta + sqrt(n)) / lr + wd).
    """

    def __init__(self, lamda1=0.01, learning_rate=0.1, beta=1, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.lamda1, self.beta = lamda1, beta

    def create_state(self, index, weight):
        return _zeros_like(weight), _zeros_like(weight)

    def update(self, index, weight, grad, state) -> None:
        self._update_count(index)
        self._apply("ftrl_update", self._get_lr(index), index, weight, grad, *state, lamda1=self.lamda1, beta=self.beta)


@register
class FTML(Optimizer):
    """Follow the moving leader (Zheng and Kwok 2017); g is rescaled, decayed, then clipped."""

    _clip_name = "clip_grad"

    def __init__(self, beta1=0.6, beta2=0.999, epsilon=1e-8, **kwargs):
        super().__init__(**kwargs)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def create_state(self, index, weight):
        return tuple(_zeros_like(weight) for _ in range(3))

    def update(self, index, weight, grad, state) -> None:
        t = self._update_count(index)
        self._apply("ftml_update", self._get_lr(index), index, weight, grad, *state, beta1=self.beta1, beta2=self.beta2,
                    epsilon=self.epsilon, t=t)  # fmt: skip


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
            self.states[index] = self.optimizer.create_state_multi_precision(index, weight)
        elif index in self._unplaced:
            self.states[index] = _in_context(self.states[index], weight.context)
            self._unplaced.discard(index)
        self.optimizer.update_multi_precision(index, weight, grad, self.states[index])

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
    return type(optimizer) in _ELEMENTWISE


_ELEMENTWISE = {SGD, ccSGD, NAG, Signum, DCASGD, Adam, Adamax, AdaGrad, AdaDelta, RMSProp, Ftrl, FTML}


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
