"""What losses keep from step to step."""

import numpy as np

import raymx as mx

data = mx.sym.Variable("data")


def test_a_sparse_code_follows_its_average_once_in_each_backward_pass():
    net = mx.sym.IdentityAttachKLSparseReg(data, momentum=0.5, penalty=0.0, name="sparse")
    run = net.simple_bind(mx.cpu(), data=(2, 3))
    run.arg_dict["data"][:] = 0.5
    for expected in (0.25, 0.375):
        run.forward(is_train=True)
        run.backward(mx.nd.ones((2, 3)))
        np.testing.assert_allclose(run.aux_dict["sparse_moving_avg"].asnumpy(), [expected] * 3)
        np.testing.assert_allclose(run.grad_dict["data"].asnumpy(), np.ones((2, 3)))
