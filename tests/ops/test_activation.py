"""What LeakyReLU infers, draws and refuses."""

import numpy as np
import pytest

import raymx as mx
from raymx.errors import ParameterError, ShapeError

data = mx.sym.Variable("data")


def test_gamma_has_a_slope_for_each_channel_unless_told_otherwise():
    net = mx.sym.LeakyReLU(data, act_type="prelu", name="act")
    assert net.list_arguments() == ["data", "act_gamma"]
    assert net.infer_shape(data=(2, 3, 4, 4))[0][1] == (3,)
    assert net.infer_shape(data=(2, 3, 4, 4), act_gamma=(1,))[0][1] == (1,)
    with pytest.raises(ShapeError, match=r"LeakyReLU 'act': gamma must be \(3,\) for data \(2, 3, 4, 4\).*got \(4,\)"):
        net.infer_shape(data=(2, 3, 4, 4), act_gamma=(4,))


def test_random_slopes_show_one_output_and_their_mask_scales_the_gradient():
    net = mx.sym.LeakyReLU(data, act_type="rrelu", lower_bound=0.25, upper_bound=0.5, name="act")
    assert net.list_outputs() == ["act_output"]
    run = net.simple_bind(mx.cpu(), data=(50, 4))
    run.arg_dict["data"][:] = -1
    slopes = -run.forward(is_train=True)[0].asnumpy()
    assert 0.25 <= slopes.min() < 0.3 and 0.45 < slopes.max() < 0.5
    run.backward(mx.nd.ones((50, 4)))
    np.testing.assert_array_equal(run.grad_dict["data"].asnumpy(), slopes)
    np.testing.assert_array_equal(run.forward(is_train=False)[0].asnumpy(), np.full((50, 4), -0.375, "float32"))


def test_bounds_in_the_wrong_order():
    with pytest.raises(ParameterError, match="LeakyReLU: lower_bound 0.5 is above upper_bound 0.25"):
        mx.sym.LeakyReLU(data, act_type="rrelu", lower_bound=0.5, upper_bound=0.25)
