"""Learned step sizes against equation 3 of arXiv 1902.08153, in float64 NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from qpipe.errors import QuantizationError
from qpipe.quantizers import OutputQuantizer, WeightQuantizer
from qpipe.quantizers.learned_step import learned_fake_quantize, learned_scale
from qpipe.quantizers.weight import BiasSteps

SHAPE = (30, 4)


def equation_3(v, lowest, highest):
    """Derivative of the quantized value by the step."""
    inside = (v > lowest) & (v < highest)
    return np.where(inside, np.rint(v) - v, np.clip(v, lowest, highest))


@pytest.mark.parametrize("scale_shape", [(1, 1), (1, 4), (4,), ()])
def test_value_and_gradients(scale_shape, rng):
    x = rng.normal(size=SHAPE).astype("float32")
    scale = rng.uniform(0.1, 0.3, scale_shape).astype("float32")
    upstream = rng.normal(size=SHAPE).astype("float32")
    with tf.GradientTape() as tape:
        inputs = [tf.constant(x), tf.constant(scale)]
        tape.watch(inputs)
        y = learned_fake_quantize(*inputs, -7.0, 7.0, 0.25)
        loss = tf.reduce_sum(y * upstream)
    by_x, by_scale = tape.gradient(loss, inputs)
    v = x.astype("float64") / scale
    np.testing.assert_array_equal(y, np.clip(np.rint(x / scale), -7, 7) * scale)
    np.testing.assert_array_equal(by_x, upstream * (np.abs(np.rint(x / scale)) <= 7))
    expected = 0.25 * upstream * equation_3(v, -7, 7)
    axes = tuple(axis for axis in range(2) if (1, 1, *scale_shape)[-2:][axis] == 1)
    np.testing.assert_allclose(by_scale, expected.sum(axis=axes).reshape(scale_shape), rtol=1e-4, atol=1e-5)


def test_descent_on_the_logarithm_moves_the_step_as_descent_on_the_step():
    scale, log_step, rate, gradient = 0.02, tf.Variable(0.1), 1e-4, 0.5
    with tf.GradientTape() as tape:
        step = learned_scale(tf.constant(scale), log_step)
        loss = gradient * step
    moved = learned_scale(tf.constant(scale), log_step - rate * tape.gradient(loss, log_step))
    assert float(step - moved) == pytest.approx(rate * gradient, rel=2e-2)


def learning(rng, **arguments):
    kernel = rng.normal(size=SHAPE).astype("float32")
    quantizer = WeightQuantizer(bitwidth=4, learned_step=True, name="q", **arguments)
    quantizer.build(SHAPE)
    quantizer.fix(kernel)
    quantizer.release()
    return quantizer, tf.constant(kernel)


@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_start_from_the_calibration_and_learn(per_channel, rng):
    quantizer, kernel = learning(rng, per_channel=per_channel)
    start = np.array(quantizer.scale)
    np.testing.assert_array_equal(quantizer.scale_of(kernel * 3.0), start)
    assert [variable.name for variable in quantizer.trainable_variables] == ["log_step"]
    with tf.GradientTape() as tape:
        y = quantizer.fake(kernel, quantizer.scale_of(kernel), training=True)
        loss = tf.reduce_sum(y * y)
    v = kernel.numpy().astype("float64") / start
    g = 1 / np.sqrt(SHAPE[0] * (1 if per_channel else SHAPE[1]) * 7)
    by_scale = (2 * y.numpy() * equation_3(v, -7, 7)).sum(axis=0 if per_channel else (0, 1), keepdims=True) * g
    found = tape.gradient(loss, quantizer.log_step.value)
    np.testing.assert_allclose(found, by_scale / start, rtol=1e-3, atol=1e-4)


def test_the_step_stays_positive_whatever_the_optimizer_does(rng):
    quantizer, kernel = learning(rng)
    optimizer = keras.optimizers.SGD(1.0)
    variables = quantizer.trainable_variables
    for sign in (1e3, -1e3):
        optimizer.apply([tf.fill(variables[0].shape, sign / 50)], variables)
        assert (np.array(quantizer.scale_of(kernel)) > 0).all()


def test_fixing_keeps_the_learned_scale_bit_for_bit(rng):
    quantizer, kernel = learning(rng)
    quantizer.log_step.assign(rng.normal(size=(1, 4)) / 5)
    learned = np.array(quantizer.scale_of(kernel))
    quantized = np.array(quantizer.fake(kernel, quantizer.scale_of(kernel), training=True))
    quantizer.fix(kernel)
    np.testing.assert_array_equal(quantizer.scale_of(kernel), learned)
    np.testing.assert_array_equal(quantizer.scale, learned)
    np.testing.assert_array_equal(quantizer(kernel), quantized)
    quantizer.release()
    np.testing.assert_array_equal(quantizer.scale_of(kernel), learned)


def test_a_learned_scale_is_raised_where_a_bias_would_not_fit(rng):
    quantizer, kernel = learning(rng)
    bias = BiasSteps(np.array([0, 9, 0, 0], "float32"), 1.0)
    assert np.array(quantizer.scale_of(kernel, bias))[0, 1] == 9


def test_calibrating_again_before_training_derives_the_scale_again(rng):
    quantizer = WeightQuantizer(learned_step=True)
    quantizer.build(SHAPE)
    kernel = rng.normal(size=SHAPE).astype("float32")
    quantizer.fix(kernel)
    quantizer.fix(kernel * np.float32(2.0))
    np.testing.assert_array_equal(np.ravel(quantizer.scale), np.abs(kernel * 2).max(axis=0) / np.float32(127))


def test_learning_without_a_calibration_is_an_error():
    quantizer = WeightQuantizer(learned_step=True, name="q")
    quantizer.build(SHAPE)
    with pytest.raises(QuantizationError, match="q: a learned step starts from a calibration"):
        quantizer(np.ones(SHAPE, "float32"), training=True)
    with pytest.raises(QuantizationError, match="never calibrated"):
        OutputQuantizer(learned_step=True)(np.ones(SHAPE, "float32"), training=True)


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (0.0, 6.0)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_outputs_learn_the_scale_and_keep_zero_point_and_range(symmetric, bounds, rng):
    quantizer = OutputQuantizer(bitwidth=4, learned_step=True, symmetric=symmetric, ema_freeze_delay=3)
    quantizer.set_range(-3.0, 4.0)
    scale, zero_point = float(quantizer.scale), float(quantizer.zero_point)
    lowest, highest = quantizer.integers
    x = rng.normal(size=(5, 8)).astype("float32") * 5
    with tf.GradientTape() as tape:
        y = quantizer.real(tf.constant(x), bounds, True)
        loss = tf.reduce_sum(y * y)
    gradient = tape.gradient(loss, quantizer.log_step.value)
    np.testing.assert_array_equal(y, quantizer.real(x, bounds, False))
    v = np.clip(x.astype("float64"), *bounds) / scale
    factor = equation_3(v, lowest - zero_point, highest - zero_point)
    expected = (2 * y.numpy() * factor).sum() / np.sqrt(8 * highest) / scale
    assert float(gradient) == pytest.approx(expected, rel=1e-3)
    assert (float(quantizer.zero_point), int(quantizer.steps)) == (zero_point, 0)


def test_fixing_an_output_keeps_the_learned_scale_bit_for_bit(rng):
    quantizer = OutputQuantizer(learned_step=True)
    quantizer.set_range(-1.3, 4.1)
    zero_point = float(quantizer.zero_point)
    quantizer.log_step.assign(0.123)
    x = rng.normal(size=(5, 8)).astype("float32")
    learned, y = np.array(quantizer.scale), np.array(quantizer(x, training=True))
    for _ in range(2):
        quantizer.fix()
        np.testing.assert_array_equal(quantizer.scale, learned)
        np.testing.assert_array_equal(quantizer.stored_scale, learned)
        np.testing.assert_array_equal(quantizer(x, training=True), y)
    assert float(quantizer.low) == pytest.approx(-zero_point * learned)
    assert float(quantizer.high) == pytest.approx((255 - zero_point) * learned)


@pytest.mark.parametrize("arguments", [{"scale": "power_of_two"}, {"rounding": "stochastic"}])
def test_outputs_refuse_what_does_not_combine(arguments):
    with pytest.raises(ValueError, match="with learned_step=True"):
        OutputQuantizer(learned_step=True, **arguments)
