"""Depthwise convolutions of small maps, against Keras' operation and its gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from qpipe.layers import QDepthwiseConv2D
from qpipe.layers.small_maps import MOST_PAIRS, connecting_weights, depthwise_convolution

CASES = [
    ((2, 2), (3, 3), 1, "same"),
    ((2, 2), (3, 3), 2, "same"),
    ((1, 1), (3, 3), 1, "same"),
    ((1, 3), (3, 5), 1, "same"),
    ((3, 3), (3, 3), 3, "same"),
    ((3, 4), (3, 4), 1, "valid"),
    ((4, 4), (3, 3), 4, "same"),
    ((2, 2), (2, 2), 1, "valid"),
]


def results(function, x, kernel, upstream):
    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        y = function(x, kernel)
    return y, *tape.gradient(y, [x, kernel], output_gradients=upstream(y))


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize(("size", "kernel_size", "stride", "padding"), CASES)
def test_values_and_gradients_are_those_of_keras(size, kernel_size, stride, padding, in_graph, rng):
    weights = connecting_weights(size, kernel_size, stride, padding)
    assert weights.shape[0] * weights.shape[1] <= MOST_PAIRS
    x = tf.constant(rng.normal(size=(5, *size, 6)), tf.float32)
    kernel = tf.constant(rng.normal(size=(*kernel_size, 6, 1)), tf.float32)
    given = rng.normal(size=(5, 4, 4, 6)).astype("float32")

    def upstream(y):
        return tf.constant(given[:, : y.shape[1], : y.shape[2]])

    def ours(x, kernel):
        return depthwise_convolution(x, kernel, strides=(stride, stride), padding=padding)

    def theirs(x, kernel):
        return keras.ops.depthwise_conv(x, kernel, strides=(stride, stride), padding=padding)

    found = results(tf.function(ours) if in_graph else ours, x, kernel, upstream)
    for one, other in zip(found, results(theirs, x, kernel, upstream), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arguments", [{"strides": 1}, {"depth_multiplier": 2}, {"dilation_rate": 2}])
def test_other_depthwise_layers_are_trained_alike(arguments, rng):
    """The size is too large, or the layer is one that the short cut leaves alone."""
    shape = (6, 6, 3) if "strides" in arguments else (2, 2, 3)
    layer = QDepthwiseConv2D(3, padding="same", **arguments)
    plain = keras.layers.DepthwiseConv2D(3, padding="same", **arguments)
    for one in (layer, plain):
        one.build((None, *shape))
    layer.kernel.assign(plain.kernel)
    x = tf.constant(rng.normal(size=(4, *shape)), tf.float32)
    gradients = []
    for one in (layer, plain):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(one(x)))
        gradients.append(tape.gradient(loss, one.kernel.value))
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-5)
