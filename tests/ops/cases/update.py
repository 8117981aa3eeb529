"""Rows: optimizer rules."""

import numpy as np

from tests.ops.cases.reference import positive
from tests.ops.cases.table import case, fixed

# fmt: off
_plain = {"lr": 0.1}
_full = {"lr": 0.1, "wd": 0.5, "rescale_grad": 0.5, "clip_gradient": 0.2}


def _sgd(w, g, lr, wd=0.0, rescale_grad=1.0, clip_gradient=np.inf):
    return w - lr * (np.clip(g * rescale_grad, -clip_gradient, clip_gradient) + wd * w)


def _momentum(w, g, mom, momentum, **settings):
    mom = momentum * mom + _sgd(w, g, **settings) - w
    return {"out": w + mom, "mom": mom}


def _adam(w, g, mean, var, lr, wd=0.0, rescale_grad=1.0, clip_gradient=np.inf):
    g = np.clip(g * rescale_grad + wd * w, -clip_gradient, clip_gradient)
    mean, var = 0.9 * mean + 0.1 * g, 0.999 * var + 0.001 * g * g
    return {"out": w - lr * mean / (np.sqrt(var) + 1e-8), "mean": mean, "var": var}


for _settings in (_plain, _full):
    case("sgd_update", (3, 4), (3, 4), **_settings, constant=("weight", "grad"),
         ref=lambda *a, s=_settings: _sgd(*a, **s))
    case("sgd_mom_update", (3, 4), (3, 4), (3, 4), momentum=0.9, **_settings, constant=("weight", "grad"),
         ref=lambda *a, s=_settings: _momentum(*a, 0.9, **s))
    case("adam_update", (3, 4), (3, 4), (3, 4), (3, 4), **_settings, between=positive, constant=("weight", "grad"),
         ref=lambda *a, s=_settings: _adam(*a, **s))


# ---- rules whose references say what a step does to weight and states ----


def _rescaled(g, rescale_grad=1.0, clip_gradient=np.inf, **_):
    return np.clip(g * rescale_grad, -clip_gradient, clip_gradient)


def _decayed(w, g, wd=0.0, rescale_grad=1.0, clip_gradient=np.inf, **_):
    return np.clip(g * rescale_grad + wd * w, -clip_gradient, clip_gradient)


def _nag(w, g, mom, lr, momentum=0.0, wd=0.0, **s):
    """Nesterov's step in the form that keeps the weight one step ahead."""
    new = momentum * mom - lr * (_rescaled(g, **s) + wd * w)
    return {"out": w - momentum * mom + (1 + momentum) * new, "mom": new}


def _signum(w, g, mom, lr, momentum=0.0, wd=0.0, wd_lh=0.0, **s):
    mom = momentum * mom - (1 - momentum) * (_rescaled(g, **s) + wd * w)
    return {"out": (1 - lr * wd_lh) * w + lr * np.sign(mom), "mom": mom}


def _bounded(w, clip_weights=np.inf):
    return np.clip(w, -clip_weights, clip_weights)


def _rmsprop(w, g, n, lr, gamma1=0.95, epsilon=1e-8, clip_weights=np.inf, **s):
    d = _decayed(w, g, **s)
    n = gamma1 * n + (1 - gamma1) * d * d
    return {"out": _bounded(w - lr * d / np.sqrt(n + epsilon), clip_weights), "n": n}


def _rmsprop_alex(w, g, n, mean, delta, lr, gamma1=0.95, gamma2=0.9, epsilon=1e-8, clip_weights=np.inf, **s):
    d = _decayed(w, g, **s)
    n, mean = gamma1 * n + (1 - gamma1) * d * d, gamma1 * mean + (1 - gamma1) * d
    delta = gamma2 * delta - lr * d / np.sqrt(n - mean * mean + epsilon)
    return {"out": _bounded(w + delta, clip_weights), "n": n, "g": mean, "delta": delta}


def _ftrl(w, g, z, n, lr, lamda1=0.01, beta=1.0, wd=0.0, **s):
    g = _rescaled(g, **s)
    z = z + g - (np.sqrt(n + g * g) - np.sqrt(n)) * w / lr
    n = n + g * g
    new = np.where(np.abs(z) > lamda1, (np.sign(z) * lamda1 - z) / ((beta + np.sqrt(n)) / lr + wd), 0)
    return {"out": new, "z": z, "n": n}


def _ftml(w, g, d, v, z, lr, t, beta1=0.6, beta2=0.999, epsilon=1e-8, clip_grad=np.inf, **s):
    g = _decayed(w, g, clip_gradient=clip_grad, **s)
    v = beta2 * v + (1 - beta2) * g * g
    new = (1 - beta1**t) / lr * (np.sqrt(v / (1 - beta2**t)) + epsilon)
    z = beta1 * z + (1 - beta1) * g - (new - beta1 * d) * w
    return {"out": -z / new, "d": new, "v": v, "z": z}


def _adagrad(w, g, h, lr, eps=1e-7, wd=0.0, **s):
    g = _rescaled(g, **s)
    h = h + g * g
    return {"out": w - lr * (g / np.sqrt(h + eps) + wd * w), "history": h}


def _adadelta(w, g, a, b, lr, rho=0.9, epsilon=1e-5, wd=0.0, **s):
    g = _rescaled(g, **s)
    a = rho * a + (1 - rho) * g * g
    delta = np.sqrt(b + epsilon) / np.sqrt(a + epsilon) * g
    return {"out": w - delta - wd * w, "acc_g": a, "acc_delta": rho * b + (1 - rho) * delta * delta}


def _adamax(w, g, m, u, lr, beta1=0.9, beta2=0.999, **s):
    g = _decayed(w, g, **s)
    m, u = beta1 * m + (1 - beta1) * g, np.maximum(beta2 * u, np.abs(g))
    return {"out": w - lr * m / u, "mean": m, "peak": u}


def _nadam(w, g, m, v, lr, from_grad, from_mean, var_part, beta1=0.9, beta2=0.999, epsilon=1e-8, **s):
    g = _decayed(w, g, **s)
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    return {"out": w - lr * (from_grad * g + from_mean * m) / (np.sqrt(v / var_part) + epsilon), "mean": m, "var": v}


def _dcasgd(w, g, mom, previous, lr, momentum=0.0, lamda=0.04, wd=0.0, **s):
    g = _rescaled(g, **s)
    mom = momentum * mom - lr * (g + wd * w + lamda * g * g * (w - previous))
    return {"out": w + mom, "mom": mom, "previous": w}


def _sgld(w, g, rng, lr, wd=0.0, **s):
    return w - lr / 2 * (_rescaled(g, **s) + wd * w) + np.sqrt(lr) * rng.standard_normal(w.shape, dtype="float32")


_near = np.random.default_rng(3).uniform(-0.2, 0.2, (3, 4))
for _name, _ref, _states, _more in (
    ("nag_mom_update", _nag, 1, {"momentum": 0.9}), ("signum_update", _signum, 1, {"momentum": 0.9, "wd_lh": 0.25}),
    ("rmsprop_update", _rmsprop, 1, {"gamma1": 0.75}), ("rmsprop_update", _rmsprop, 1, {"clip_weights": 1.0}),
    ("ftrl_update", _ftrl, 2, {}), ("ftrl_update", _ftrl, 2, {"lamda1": 1.0, "beta": 0.5}),
    ("ftml_update", _ftml, 3, {"t": 3}),
    ("_adagrad_update", _adagrad, 1, {}), ("_adadelta_update", _adadelta, 2, {}), ("_adamax_update", _adamax, 2, {}),
    ("_nadam_update", _nadam, 2, {"from_grad": 0.5, "from_mean": 0.75, "var_part": 0.5}),
    ("_dcasgd_update", _dcasgd, 2, {"momentum": 0.9, "lamda": 0.5}),
):
    for _settings in (_plain, _full):
        _all = {("clip_grad" if k == "clip_gradient" and _name == "ftml_update" else k): v
                for k, v in {**_settings, **_more}.items()}
        case(_name, *[(3, 4)] * (2 + _states), **_all, between=positive, constant=("weight", "grad"),
             ref=lambda *a, f=_ref, s=_all: f(*a, **s))
for _settings in (_plain, _full):
    for _more in ({}, {"clip_weights": 1.0}):
        case("rmspropalex_update", (3, 4), (3, 4), (3, 4), _near, (3, 4), **_settings, **_more, between=positive,
             constant=("weight", "grad"), ref=lambda *a, s={**_settings, **_more}: _rmsprop_alex(*a, **s))
    case("signsgd_update", (3, 4), (3, 4), **_settings, constant=("weight", "grad"),
         ref=lambda w, g, s=_settings: (1 - s["lr"] * s.get("wd", 0)) * w - s["lr"] * np.sign(g))
    case("_sgld_update", (3, 4), (3, 4), **_settings, dtypes=("float32",), constant=("weight", "grad"),
         ref=lambda w, g, rng, s=_settings: _sgld(w, g, rng, **s))
_master = fixed(np.random.default_rng(1).uniform(-1, 1, (3, 4)), "float32")
_moment = fixed(np.random.default_rng(2).uniform(-1, 1, (3, 4)), "float32")
for _settings in (_plain, _full):
    case("mp_sgd_update", (3, 4), (3, 4), _master, **_settings, dtypes=("float32", "float16"),
         constant=("weight", "grad"),
         ref=lambda w, g, w32, s=_settings: dict.fromkeys(("out", "weight32"), _sgd(w32, g, **s)))
    for _name, _rule in (("mp_sgd_mom_update", _momentum), ("mp_nag_mom_update", _nag)):
        _why = "mom gets the decay of the new weight" if _rule is _nag and "wd" in _settings else ""
        case(_name, (3, 4), (3, 4), _moment, _master, momentum=0.9, **_settings, dtypes=("float32", "float16"),
             constant=("weight", "grad"), mxnet=_why,
             ref=lambda w, g, mom, w32, f=_rule, s=_settings: (r := f(w32, g, mom, momentum=0.9, **s))
             and {**r, "weight32": r["out"]})
