"""Rows: pairs of operators in one."""

import numpy as np

from tests.ops.cases.convolution import convolve
from tests.ops.cases.normalize import WIDE, _vectors, batch_norm
from tests.ops.cases.reference import sigmoid
from tests.ops.cases.table import case

FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "softrelu": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
}


def _convolve_and(act_type, **settings):
    return lambda x, w, b=0: FUNCTIONS[act_type](convolve(x, w, b, **settings))


def _batch_norm_relu(*settings, **more):
    def reference(*arrays):
        values = batch_norm(*settings, **more)(*arrays)
        out = np.maximum(values["out"], 0)
        packed = out.ndim > 2 and out.shape[1] % 16 == 0
        return {**values, "out": out, "mask": np.packbits(out > 0, bitorder="little") if packed else (out > 0).ravel()}

    return reference


# fmt: off
for name in FUNCTIONS:
    case("_conv_act", (2, 3, 6, 5), (4, 3, 3, 3), (4,), kernel=(3, 3), num_filter=4, pad=(1, 1), act_type=name,
         ref=_convolve_and(name, pad=(1, 1)))
case("_conv_act", (2, 16, 6, 5), (16, 16, 3, 3), kernel=(3, 3), num_filter=16, stride=(2, 2), no_bias=True,
     act_type="relu", ref=_convolve_and("relu", stride=(2, 2)))
for name in FUNCTIONS:
    case("_conv_act", (2, 16, 4, 5), (16, 16, 3, 3), (16,), kernel=(3, 3), num_filter=16, pad=(1, 1), act_type=name,
         ref=_convolve_and(name, pad=(1, 1)))
case("_conv_act", (2, 4, 8), (6, 2, 3), (6,), kernel=(3,), num_filter=6, num_group=2, act_type="tanh",
     ref=_convolve_and("tanh", groups=2))
case("_batchnorm_relu", (3, 4, 5, 2), *_vectors(4), train=True, dtypes=WIDE, ref=_batch_norm_relu())
case("_batchnorm_relu", (3, 16, 5, 2), *_vectors(16), train=True, fix_gamma=False, dtypes=WIDE,
     ref=_batch_norm_relu(1e-3, False))
case("_batchnorm_relu", (3, 32, 5, 2), *_vectors(32), dtypes=WIDE, ref=_batch_norm_relu(train=False))
case("_batchnorm_relu", (3, 5), *_vectors(5), fix_gamma=False, dtypes=WIDE, ref=_batch_norm_relu(1e-3, False, False))
case("_batchnorm_relu", (3, 4, 5, 2), *_vectors(4), train=True, use_global_stats=True, dtypes=WIDE,
     ref=_batch_norm_relu(1e-3, True, False))
case("_add_relu", (3, 4), (3, 4), ref=lambda a, b: np.maximum(a + b, 0))
