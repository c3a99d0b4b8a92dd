import numpy as np
import pytest
import tensorflow as tf

from qpipe.quantizers.fake_quantization import (
    fake_quantize,
    fake_quantize_activation,
    fake_quantize_from_zero,
    round_to_grid,
)


def value_and_gradients(x, scale, lowest, highest):
    x, scale = tf.constant(x, "float32"), tf.constant(scale, "float32")
    with tf.GradientTape() as tape:
        tape.watch([x, scale])
        y = fake_quantize(x, scale, float(lowest), float(highest))
        loss = tf.reduce_sum(y * tf.range(1.0, len(y) + 1.0, dtype=tf.float32))
    return y.numpy(), tape.gradient(loss, [x, scale])


def test_values_lie_on_the_grid(rng):
    x = rng.uniform(-2, 2, size=3000).astype("float32")
    y, _ = value_and_gradients(x, 0.037, -31, 31)
    expected = np.clip(np.rint(x / np.float32(0.037)), -31, 31) * np.float32(0.037)
    np.testing.assert_array_equal(y, expected)
    assert len(np.unique(y)) == 63


def test_ties_go_to_even():
    y, _ = value_and_gradients([-1.5, -0.5, 0.5, 1.5, 2.5], 1.0, -8, 7)
    assert y.tolist() == [-2, 0, 0, 2, 2]


def test_gradient_is_judged_by_the_rounded_integer():
    x = [-8.6, -8.4, -8.0, 0.3, 7.0, 7.4, 7.6, 100.0]
    _, (gradient, _) = value_and_gradients(x, 1.0, -8, 7)
    inside = np.array([0, 1, 1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(gradient, inside * np.arange(1, 9))


def test_no_gradient_reaches_the_scale(rng):
    _, (_, gradient) = value_and_gradients(rng.normal(size=9), 0.1, -8, 7)
    assert gradient is None or float(gradient) == 0


@pytest.mark.parametrize("in_graph", [False, True])
def test_scale_per_channel(in_graph, rng):
    x = rng.normal(size=(5, 3)).astype("float32")
    scale = np.array([0.1, 0.01, 1.0], "float32")
    function = tf.function(fake_quantize) if in_graph else fake_quantize
    y = function(tf.constant(x), tf.constant(scale), -7.0, 7.0).numpy()
    np.testing.assert_array_equal(y, np.clip(np.rint(x / scale), -7, 7) * scale)


@pytest.mark.parametrize(("lowest", "highest"), [(-128, 127), (0, 255), (-40, 215), (-65535, 0)])
def test_activations_are_quantized_alike(lowest, highest, rng):
    """Ties, the ends, and what lies beyond: values and gradients are those of `fake_quantize`."""
    scale = tf.constant(2.0**-6)
    ends = np.add.outer([lowest, highest], [-1.0, -0.5, -0.4, 0.0, 0.4, 0.5, 1.0]).ravel()
    x = tf.constant(np.concatenate([ends, rng.uniform(lowest - 9, highest + 9, 500)]) * 2.0**-6, tf.float32)
    upstream = tf.range(1.0, len(x) + 1.0)
    results = []
    for function in (fake_quantize, fake_quantize_activation):
        with tf.GradientTape() as tape:
            tape.watch([x, scale])
            y = function(x, scale, float(lowest), float(highest))
        results.append((y.numpy(), *tape.gradient(y, [x, scale], output_gradients=upstream)))
    for expected, found in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bitwidth", [2, 5, 8])
def test_activations_from_zero_are_quantized_alike(bitwidth, rng):
    """Ties, the ends, and what lies beyond: values and gradients are those of `fake_quantize`."""
    highest = 2**bitwidth - 1
    scale, high = tf.constant(2.0**-6), tf.constant(highest * 2.0**-6)
    ends = np.add.outer([0, highest], [-1.0, -0.5, -0.4, 0.0, 0.4, 0.5, 1.0]).ravel()
    x = tf.constant(np.concatenate([ends, rng.uniform(-9, highest + 9, 500)]) * 2.0**-6, tf.float32)
    upstream = tf.range(1.0, len(x) + 1.0)
    results = []
    for function in (
        lambda: fake_quantize(x, scale, 0.0, float(highest)),
        lambda: fake_quantize_from_zero(x, scale, high, bitwidth),
    ):
        with tf.GradientTape() as tape:
            tape.watch([x, scale])
            y = function()
        results.append((y.numpy(), *tape.gradient(y, [x, scale], output_gradients=upstream)))
    for expected, found in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_rounding_to_the_grid_passes_every_gradient(rng):
    x = tf.constant(rng.normal(size=(20, 3)) * 50, tf.float32)
    scale = tf.constant([0.1, 0.01, 1.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = round_to_grid(x, scale)
    np.testing.assert_array_equal(y, np.rint(x.numpy() / scale.numpy()) * scale.numpy())
    np.testing.assert_array_equal(tape.gradient(y, x), np.ones((20, 3)))
