"""Optimizers: the steps they take against plain NumPy, multipliers, counts, names and states."""

import pickle

import numpy as np
import pytest

import raymx as mx
from raymx.errors import ParameterError

rng = np.random.RandomState(7)
SHAPE = (3, 4, 5)
SETTINGS = [
    {},
    {"clip_gradient": 0.5},
    {"rescale_grad": 0.8},
    {"clip_gradient": 0.4, "rescale_grad": 0.14},
    {"clip_gradient": 0.5, "wd": 0.07},
    {"clip_gradient": 0.4, "rescale_grad": 0.14, "wd": 0.03},
    {"rescale_grad": 0.8, "wd": 0.05},
]


def sgd(w, gradients, lr=0.01, momentum=0.0, wd=0.0, rescale_grad=1.0, clip_gradient=np.inf):
    m = np.zeros_like(w)
    for g in gradients:
        m = momentum * m - lr * (np.clip(rescale_grad * g, -clip_gradient, clip_gradient) + wd * w)
        w = w + m
    return w


def adam(w, gradients, lr=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8, wd=0.0, rescale_grad=1.0, clip_gradient=np.inf):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        g = np.clip(rescale_grad * g + wd * w, -clip_gradient, clip_gradient)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        rate = lr * np.sqrt(1 - beta2**t) / (1 - beta1**t)
        w = w - rate * m / (np.sqrt(v) + epsilon)
    return w


def steps(optimizer, weight, gradients):
    """The weight after `gradients` went through an updater."""
    w = mx.nd.array(weight)
    update = mx.optimizer.get_updater(optimizer)
    for g in gradients:
        update(0, mx.nd.array(g), w)
    return w.asnumpy()


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd(momentum, settings):
    weight, gradients = rng.randn(*SHAPE), rng.randn(3, *SHAPE)
    got = steps(mx.optimizer.SGD(momentum=momentum, **settings), weight, gradients)
    np.testing.assert_allclose(got, sgd(weight, gradients, momentum=momentum, **settings), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", SETTINGS)
def test_adam(settings):
    weight, gradients = rng.randn(*SHAPE), rng.randn(3, *SHAPE)
    got = steps(mx.optimizer.Adam(**settings), weight, gradients)
    np.testing.assert_allclose(got, adam(weight, gradients, **settings), rtol=1e-5, atol=1e-6)


# ---- other optimizers: the step of update t from weight, gradient (rescaled, clipped, decayed) and states ----


def nag(momentum):
    def step(w, g, t, lr, m):
        new = momentum * m - lr * g
        return w - momentum * m + (1 + momentum) * new, (new,)

    return step


def signum(w, g, t, lr, m):
    m = 0.9 * m - 0.1 * g
    return w + lr * np.sign(m), (m,)


def dcasgd(w, g, t, lr, m, previous):
    m = 0.9 * m - lr * (g + 0.04 * g * g * (w - previous))
    return w + m, (m, w)


def adamax(w, g, t, lr, m, u):
    m, u = 0.9 * m + 0.1 * g, np.maximum(0.999 * u, np.abs(g))
    return w - lr / (1 - 0.9**t) * m / u, (m, u)


def nadam(w, g, t, lr, m, v, product=1.0):
    now, then = (0.9 * (1 - 0.5 * 0.96 ** (k * 0.004)) for k in (t, t + 1))
    product *= now
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    ahead = (1 - now) * g / (1 - product) + then * m / (1 - product * then)
    return w - lr * ahead / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), (m, v, product)


def adagrad(w, g, t, lr, h):
    h = h + g * g
    return w - lr * g / np.sqrt(h + 1e-7), (h,)


def adadelta(w, g, t, lr, h, u):
    h = 0.9 * h + 0.1 * g * g
    d = np.sqrt(u + 1e-5) / np.sqrt(h + 1e-5) * g
    return w - d, (h, 0.9 * u + 0.1 * d * d)


def rmsprop(w, g, t, lr, n):
    n = 0.9 * n + 0.1 * g * g
    return w - lr * g / np.sqrt(n + 1e-8), (n,)


def centered(w, g, t, lr, n, a, d):
    n, a = 0.9 * n + 0.1 * g * g, 0.9 * a + 0.1 * g
    d = 0.9 * d - lr * g / np.sqrt(n - a * a + 1e-8)
    return w + d, (n, a, d)


def ftrl(w, g, t, lr, z, n):
    z = z + g - (np.sqrt(n + g * g) - np.sqrt(n)) * w / lr
    n = n + g * g
    return np.where(np.abs(z) > 0.01, (np.sign(z) * 0.01 - z) / ((1 + np.sqrt(n)) / lr), 0), (z, n)


def ftml(w, g, t, lr, d, v, z):
    v = 0.999 * v + 0.001 * g * g
    new = (1 - 0.6**t) / lr * (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    z = 0.6 * z + 0.4 * g - (new - 0.6 * d) * w
    return -z / new, (new, v, z)


# what weight decay is added to: the clipped gradient, the gradient before it is clipped, or the step; None: not tested
AFTER, BEFORE, APART = "after the clip", "before the clip", "apart"
OTHERS = {
    "nag": (nag(0.9), {"momentum": 0.9}, 0.01, 1, AFTER),
    "signum": (signum, {}, 0.01, 1, AFTER),
    "dcasgd": (dcasgd, {"momentum": 0.9}, 0.01, 2, None),
    "adamax": (adamax, {}, 0.002, 2, BEFORE),
    "nadam": (nadam, {}, 0.001, 2, BEFORE),
    "adagrad": (adagrad, {}, 0.01, 1, APART),
    "adadelta": (adadelta, {}, 1.0, 2, APART),
    "rmsprop": (rmsprop, {}, 0.001, 1, BEFORE),
    "rmsprop centered": (centered, {"centered": True}, 0.001, 3, BEFORE),
    "ftrl": (ftrl, {}, 0.1, 2, None),
    "ftml": (ftml, {}, 0.01, 3, BEFORE),
}


def plain_steps(step, w, gradients, lr, states, decay, wd=0.0, rescale_grad=1.0, clip_gradient=np.inf):
    for t, g in enumerate(gradients, start=1):
        if decay == BEFORE:
            g = np.clip(rescale_grad * g + wd * w, -clip_gradient, clip_gradient)
        else:
            g = np.clip(rescale_grad * g, -clip_gradient, clip_gradient)
            g = g + wd * w if decay == AFTER else g
        before = w
        w, states = step(w, g, t, lr, *states)
        w = w - lr * wd * before if decay == APART else w
    return w


@pytest.mark.parametrize(
    ("name", "settings"), [(n, s) for n in OTHERS for s in SETTINGS if OTHERS[n][4] or "wd" not in s]
)
def test_the_others(name, settings):
    step, params, lr, count, decay = OTHERS[name]
    weight, gradients = rng.randn(*SHAPE), rng.randn(3, *SHAPE)
    states = [np.zeros(SHAPE)] * count
    if name == "dcasgd":
        states[1] = weight
    got = steps(mx.optimizer.create(name.split()[0], **params, **settings), weight, gradients)
    expected = plain_steps(step, weight, gradients, lr, states, decay, **settings)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_signs_without_momentum():
    got = steps(mx.optimizer.Signum(momentum=0, learning_rate=0.5, wd=0.5), [1.0, 2.0, 4.0], [[0.1, -9.0, 0.0]])
    np.testing.assert_allclose(got, [0.25, 2.0, 3.0])


def test_new_weights_may_be_bounded():
    got = steps(mx.optimizer.RMSProp(learning_rate=0.5, clip_weights=0.75), [1.0, -1.0, 0.0], [[0.0, 0.0, 0.0]])
    np.testing.assert_allclose(got, [0.75, -0.75, 0.0])


def test_langevin_noise_has_the_learning_rate_for_its_variance():
    mx.random.seed(3)
    got = steps(mx.optimizer.SGLD(learning_rate=0.25, wd=0.5), np.full(20000, 2.0), [np.full(20000, 4.0)])
    assert got.mean() == pytest.approx(2 - 0.125 * (4 + 1), abs=0.02)
    assert got.std() == pytest.approx(0.5, rel=0.02)


def test_large_batches_are_the_mean_of_small_ones():
    gradients = rng.randn(4, *SHAPE)
    got = steps(mx.optimizer.LBSGD(batch_scale=2, warmup_epochs=0, learning_rate=0.1), np.zeros(SHAPE), gradients)
    expected = -0.2 * (gradients[:2].mean(axis=0) + gradients[2:].mean(axis=0))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("strategy", "factor"), [("linear", 2.5), ("power2", 1.75), ("sqrt", 1 + 3 * 0.5**0.5)])
def test_the_rate_of_large_batches_is_warmed_up(strategy, factor):
    optimizer = mx.optimizer.LBSGD(batch_scale=4, warmup_epochs=2, updates_per_epoch=4, warmup_strategy=strategy)
    got = steps(optimizer, np.zeros(1), np.ones((4, 1)))
    assert got[0] == pytest.approx(-0.01 * factor)


def test_each_weight_of_a_large_batch_may_have_its_own_rate():
    optimizer = mx.optimizer.LBSGD(learning_rate=1.0, wd=0.25, warmup_strategy="lars")
    got = steps(optimizer, [3.0, 4.0], [[0.0, 1.0]])
    rate = (25 / (1 + 0.25 * 25)) ** 0.5
    np.testing.assert_allclose(got, [3 - rate * 0.75, 4 - rate * 2.0], rtol=1e-6)


@pytest.mark.parametrize(("name", "params"), [("sgd", {}), ("sgd", {"momentum": 0.9}), ("nag", {"momentum": 0.9}),
                                              ("adam", {})])  # fmt: skip
def test_a_short_weight_is_kept_in_float32_beside_it(name, params):
    """A thousand steps too small for float16 add up."""
    weight, update = {}, {}
    for precise in (True, False):
        weight[precise] = mx.nd.ones((2,), dtype="float16")
        rate = {"learning_rate": 1e-5, "multi_precision": precise, **params}
        update[precise] = mx.optimizer.get_updater(mx.optimizer.create(name, **rate))
    gradient = mx.nd.ones((2,), dtype="float16")
    for _ in range(1000):
        for precise in weight:
            update[precise](0, gradient, weight[precise])
    assert weight[True].dtype == np.float16
    assert weight[True].asnumpy()[0] == pytest.approx(0.9 if "momentum" in params else 0.99, abs=2e-3)
    assert name == "adam" or "momentum" in params or weight[False].asnumpy()[0] == 1


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_an_update_reads_its_gradient_and_leaves_it(name):
    gradient = mx.nd.array(rng.randn(*SHAPE))
    before = gradient.asnumpy()
    mx.optimizer.get_updater(mx.optimizer.create(name, wd=0.1, clip_gradient=0.1))(0, gradient, mx.nd.ones(SHAPE))
    np.testing.assert_array_equal(gradient.asnumpy(), before)


def test_states_have_the_weights_type():
    weight = mx.nd.ones((2,), dtype="float64")
    mean, var = mx.optimizer.Adam().create_state(0, weight)
    assert mean.dtype == var.dtype == np.float64
    assert mx.optimizer.SGD().create_state(0, weight) is None
    assert mx.optimizer.SGD(momentum=0.5).create_state(0, weight).shape == (2,)


# ---- multipliers ----

NAMES = {0: "a_weight", 1: "a_bias", 2: "b_gamma", 3: "b_beta"}


def test_weight_decay_is_for_weights_and_gammas():
    optimizer = mx.optimizer.create("sgd", param_idx2name=NAMES, wd=0.1)
    assert [optimizer._get_wd(i) for i in range(5)] == [0.1, 0.0, 0.1, 0.0, 0.1]
    assert optimizer.wd_mult == {"a_bias": 0.0, "b_beta": 0.0}


def test_without_names_everything_decays():
    assert mx.optimizer.create("sgd", wd=0.1)._get_wd(1) == 0.1


def test_multipliers_by_name_and_index():
    optimizer = mx.optimizer.create("sgd", param_idx2name=NAMES, learning_rate=0.01, wd=0.1)
    optimizer.set_lr_mult({"a_weight": 2.0, 1: 3.0})
    optimizer.set_wd_mult({"a_bias": 0.5})
    assert [optimizer._get_lr(i) for i in range(3)] == pytest.approx([0.02, 0.03, 0.01])
    assert [optimizer._get_wd(i) for i in range(4)] == pytest.approx([0.1, 0.05, 0.1, 0.0])


def test_multipliers_of_the_symbols_attributes():
    data = mx.sym.Variable("data")
    bias = mx.sym.Variable("fc1_bias", attr={"lr_mult": "1.0"})
    net = mx.sym.FullyConnected(data, bias=bias, name="fc1", num_hidden=10, attr={"lr_mult": "0"})
    net = mx.sym.FullyConnected(net, name="fc2", num_hidden=10, attr={"__wd_mult__": "0.5"})
    names = dict(enumerate(["fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias"]))
    optimizer = mx.optimizer.create("sgd", sym=net, param_idx2name=names)
    assert optimizer.lr_mult == {"fc1_bias": 1.0, "fc1_weight": 0.0}
    assert optimizer.wd_mult == {"fc2_bias": 0.5, "fc2_weight": 0.5, "fc1_bias": 0.0}
    optimizer.set_lr_mult({"fc1_weight": 4.0})
    assert optimizer._get_lr(0) == pytest.approx(0.04), "what is set wins over the attribute"


def test_a_frozen_weight_stays():
    optimizer = mx.optimizer.create("sgd", learning_rate=1.0, param_idx2name=NAMES)
    optimizer.set_lr_mult({"a_weight": 0.0})
    np.testing.assert_array_equal(steps(optimizer, np.ones(2), [np.ones(2)]), np.ones(2))


# ---- counts and schedules ----


def test_the_scheduler_is_asked_with_the_largest_count_of_any_index():
    schedule = mx.lr_scheduler.FactorScheduler(2, 0.1)
    optimizer = mx.optimizer.create("sgd", learning_rate=1.0, lr_scheduler=schedule)
    update = mx.optimizer.get_updater(optimizer)
    weights = [mx.nd.zeros((1,)), mx.nd.zeros((1,))]
    taken = []
    for index in (0, 0, 1, 0, 1):
        before = weights[index].asscalar()
        update(index, mx.nd.ones((1,)), weights[index])
        taken.append(round(float(before - weights[index].asscalar()), 6))
    assert taken == [1, 1, 1, 0.1, 0.1]
    assert optimizer.num_update == 3
    assert optimizer.learning_rate == pytest.approx(0.1)


def test_counting_goes_on_from_begin_num_update():
    schedule = mx.lr_scheduler.FactorScheduler(10, 0.1)
    optimizer = mx.optimizer.create("sgd", learning_rate=1.0, lr_scheduler=schedule, begin_num_update=10)
    assert steps(optimizer, [0.0], [[1.0]])[0] == pytest.approx(-0.1)


def test_adam_corrects_each_weight_by_its_own_count():
    optimizer = mx.optimizer.Adam(learning_rate=0.1)
    update = mx.optimizer.get_updater(optimizer)
    early, late = mx.nd.zeros((1,)), mx.nd.zeros((1,))
    update(0, mx.nd.ones((1,)), early)
    update(0, mx.nd.ones((1,)), early)
    update(1, mx.nd.ones((1,)), late)
    assert late.asscalar() == pytest.approx(-0.1, rel=1e-4), "the first step is the learning rate"


def test_the_rate_can_be_changed_unless_scheduled():
    optimizer = mx.optimizer.SGD(learning_rate=0.5)
    optimizer.set_learning_rate(0.25)
    assert optimizer.learning_rate == 0.25
    optimizer = mx.optimizer.SGD(lr_scheduler=mx.lr_scheduler.FactorScheduler(2))
    with pytest.raises(ParameterError, match="SGD: the learning rate comes from .*change the scheduler's base_lr"):
        optimizer.set_learning_rate(0.1)


# ---- names ----


def test_create_by_name_in_any_case():
    assert isinstance(mx.optimizer.create("SGD", momentum=0.9), mx.optimizer.SGD)
    assert isinstance(mx.optimizer.Optimizer.create_optimizer("ccsgd"), mx.optimizer.ccSGD)
    assert mx.optimizer.create_optimizer("adam", 0.5).rescale_grad == 0.5


def test_own_optimizers_can_be_registered():
    @mx.optimizer.register
    class Downhill(mx.optimizer.Optimizer):
        def update(self, index, weight, grad, state):
            weight -= grad * self._get_lr(index)

    assert mx.optimizer.Optimizer.opt_registry["downhill"] is Downhill
    assert steps(mx.optimizer.create("downhill", learning_rate=2.0), [1.0], [[0.25]])[0] == 0.5


def test_the_test_optimizer_adds():
    weight, state = mx.nd.ones((2,)), mx.nd.zeros((2,))
    mx.optimizer.create("test", rescale_grad=2.0).update(0, weight, mx.nd.ones((2,)), state)
    assert weight.asnumpy().tolist() == state.asnumpy().tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mx.optimizer.create("sgdd"), r"no optimizer is called 'sgdd'; did you mean '(cc)?sgd'\? \(known: ad"),
        (lambda: mx.optimizer.create("sgd", learning_rat=1), "SGD: unknown parameter 'learning_rat'; did you mean "
         r"'learning_rate'\? \(known: begin_num_update, clip_gradient, .*momentum"),
        (lambda: mx.optimizer.create("adam", beta3=1), "Adam: unknown parameter 'beta3'; did you mean 'beta[12]'"),
    ],
)  # fmt: skip
def test_unknown_names(make, text):
    with pytest.raises(ParameterError, match=text):
        make()


def test_a_rule_must_be_defined():
    class Mine(mx.optimizer.Optimizer):
        pass

    with pytest.raises(NotImplementedError, match=r"Mine must define update\(index, weight, grad, state\)"):
        Mine().update(0, None, None, None)


# ---- states ----


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_states_travel_as_bytes_and_in_a_pickled_updater(name):
    settings = {"momentum": 0.9} if name == "sgd" else {}
    weight, gradients = rng.randn(*SHAPE), rng.randn(4, *SHAPE)
    whole = steps(mx.optimizer.create(name, **settings), weight, gradients)

    w = mx.nd.array(weight)
    first = mx.optimizer.get_updater(mx.optimizer.create(name, **settings))
    for g in gradients[:2]:
        first(0, mx.nd.array(g), w)
    second = pickle.loads(pickle.dumps(first))
    third = mx.optimizer.get_updater(pickle.loads(pickle.dumps(first.optimizer)))
    third.set_states(first.get_states())
    for update in (second, third):
        mine = w.copy()
        for g in gradients[2:]:
            update(0, mx.nd.array(g), mine)
        np.testing.assert_array_equal(mine.asnumpy(), whole)
