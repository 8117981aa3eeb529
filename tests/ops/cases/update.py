"""Rows: optimizer rules."""

import numpy as np

from tests.ops.cases.reference import positive
from tests.ops.cases.table import case

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
