import numpy as np
import pytest
import tensorflow as tf

from qpipe.layers import QuantizedBatchNormalization

MOMENTUM = 0.75


@pytest.fixture
def layer():
    layer = QuantizedBatchNormalization(momentum=MOMENTUM)
    layer.build((None, 4))
    return layer


def moments_and_gradient(moments, x, weights):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        mean, variance = moments(x)
        loss = tf.reduce_sum(mean * weights[0]) + tf.reduce_sum(variance * weights[1])
    return mean.numpy(), variance.numpy(), tape.gradient(loss, x).numpy()


@pytest.mark.parametrize("shape", [(1, 4), (6, 4), (5, 3, 4), (3, 5, 2, 4), (2, 3, 2, 2, 4)])
@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("in_one_pass", [False, True])
def test_moments_and_their_gradient_are_the_derived_ones_in_float64(shape, in_one_pass, in_graph, layer, rng):
    layer.moments_in_one_pass = in_one_pass
    x = rng.normal(size=shape) * [0.1, 1.0, 3.0, 10.0] + [5.0, 0.0, -3.0, 20.0]
    weights = rng.normal(size=(2, 4))
    axes = list(range(len(shape) - 1))
    expected = moments_and_gradient(lambda x: tf.nn.moments(x, axes), x, weights)
    function = tf.function(layer.batch_moments) if in_graph else layer.batch_moments
    ours = moments_and_gradient(function, x.astype("float32"), weights.astype("float32"))
    for value, reference in zip(ours, expected, strict=True):
        np.testing.assert_allclose(value, reference, rtol=2e-5, atol=2e-5)


def test_large_means_keep_two_passes(layer, rng):
    """One pass would lose the variance beside the square of the mean."""
    x = (rng.normal(size=(500, 4)) * 1e-2 + 100.0).astype("float32")
    expected = x.astype("float64").var(0)
    layer.choose_moments()
    assert layer.moments_in_one_pass
    _, in_one_pass = layer.batch_moments(tf.constant(x))
    layer.moving_mean.assign([100.0, 0.0, 0.0, 0.0])
    layer.moving_variance.assign([1e-4] * 4)
    layer.choose_moments()
    assert not layer.moments_in_one_pass
    assert not QuantizedBatchNormalization.from_config(layer.get_config()).moments_in_one_pass
    _, in_two_passes = layer.batch_moments(tf.constant(x))
    np.testing.assert_allclose(in_two_passes, expected, rtol=1e-3)
    assert np.abs(np.array(in_one_pass) / expected - 1.0).max() > 1e-2
    assert np.array(in_one_pass).min() >= 0.0


def test_moments_move_the_moving_statistics_and_count_the_step(layer, rng):
    x = rng.normal(size=(50, 4)).astype("float32") + 2.0
    layer.batch_moments(tf.constant(x))
    np.testing.assert_allclose(layer.moving_mean, (1 - MOMENTUM) * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, MOMENTUM + (1 - MOMENTUM) * x.var(0), rtol=1e-5)
    assert int(layer.steps) == 1
