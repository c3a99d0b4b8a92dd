"""Folded layers without quantizers against the plain Keras pair: outputs, statistics and gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from qpipe.layers import QConv2DBatchnorm, QDenseBatchnorm, QDepthwiseConv2DBatchnorm

MODES = ("ema_stats_folding", "batch_stats_folding")
KINDS = {
    "conv": (keras.layers.Conv2D, QConv2DBatchnorm, (5, 3), {"padding": "same", "strides": 2}),
    "depthwise": (keras.layers.DepthwiseConv2D, QDepthwiseConv2DBatchnorm, (3,), {"depth_multiplier": 2}),
    "dense": (keras.layers.Dense, QDenseBatchnorm, (6,), {}),
}


class Pair:
    """The plain pair and the folded layer, with the same random weights."""

    def __init__(self, kind, mode, seed=0, normalization=None, **arguments):
        plain, folded, size, own = KINDS[kind]
        normalization = normalization or {}
        self.random = np.random.default_rng(seed)
        self.shape = (16, 10) if kind == "dense" else (8, 6, 6, 3)
        self.linear = plain(*size, **own, **arguments)
        self.norm = keras.layers.BatchNormalization(**normalization)
        self.folded = folded(*size, **own, **arguments, **normalization, folding_mode=mode)
        self.norm.build(self.linear.compute_output_shape(self.shape))
        self.linear.build(self.shape)
        self.folded.build(self.shape)
        values = {variable.name: self._value(variable) for variable in self.linear.weights + self.norm.weights}
        for layer in (self.linear, self.norm, self.folded):
            for variable in layer.weights:
                if variable.name in values:
                    variable.assign(values[variable.name])

    def _value(self, variable):
        if "variance" in variable.name:
            return self.random.uniform(0.3, 2.0, variable.shape)
        return self.random.normal(0.5 if variable.name == "gamma" else 0.0, 0.6, variable.shape)

    def batch(self):
        return tf.constant(self.random.normal(0.3, 1.5, self.shape), tf.float32)

    def plain(self, x, training):
        return self.norm(self.linear(x), training=training)

    def gradients(self, function, layers, x):
        upstream = tf.constant(np.random.default_rng(1).normal(size=function(x).shape), tf.float32)
        variables = {variable.name: variable.value for layer in layers for variable in layer.trainable_variables}
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(function(x) * upstream)
        return dict(zip(["x", *variables], tape.gradient(loss, [x, *variables.values()]), strict=True))


def assert_close(ours, plain):
    """Equal to 1e-5, relative to the largest magnitude of the tensor."""
    np.testing.assert_allclose(ours, plain, rtol=0, atol=1e-5 * np.abs(plain).max())


def assert_same_statistics(pair):
    for name in ("moving_mean", "moving_variance"):
        assert_close(getattr(pair.folded, name), getattr(pair.norm, name))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_moving_statistics(kind, mode, use_bias, seed):
    pair = Pair(kind, mode, seed, use_bias=use_bias, normalization={"momentum": 0.7, "epsilon": 0.01})
    for _ in range(3):
        x = pair.batch()
        assert_close(pair.folded(x, training=True), pair.plain(x, True))
        assert_same_statistics(pair)
    x = pair.batch()
    assert_close(pair.folded(x, training=False), pair.plain(x, False))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind, mode, training):
    pair = Pair(kind, mode)
    x = pair.batch()
    ours = pair.gradients(lambda x: pair.folded(x, training=training), [pair.folded], x)
    plain = pair.gradients(lambda x: pair.plain(x, training), [pair.linear, pair.norm], x)
    assert ours.keys() == plain.keys()
    for name, gradient in plain.items():
        if training and name == "bias":
            np.testing.assert_allclose(ours[name], 0, atol=1e-5 * np.abs(plain["beta"]).max())
        else:
            assert_close(ours[name], gradient)


@pytest.mark.parametrize("arguments", [{"center": False}, {"scale": False}])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_without_center_or_scale(kind, mode, arguments):
    pair = Pair(kind, mode, normalization=arguments)
    assert (pair.folded.beta is None, pair.folded.gamma is None) == ("center" in arguments, "scale" in arguments)
    x = pair.batch()
    for training in (True, False):
        assert_close(pair.folded(x, training=training), pair.plain(x, training))
    assert_same_statistics(pair)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_is_not_trainable_uses_moving_statistics(kind, mode):
    pair = Pair(kind, mode)
    pair.folded.trainable = pair.linear.trainable = pair.norm.trainable = False
    before = [np.array(weight) for weight in pair.folded.weights]
    x = pair.batch()
    assert_close(pair.folded(x, training=True), pair.plain(x, True))
    assert_close(pair.folded(x, training=True), pair.plain(x, False))
    for old, new in zip(before, pair.folded.weights, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_per_channel(kind):
    pair = Pair(kind, "ema_stats_folding")
    assert pair.folded.moving_mean.shape == pair.norm.moving_mean.shape
    pair.folded(pair.batch(), training=True)
    assert len(np.unique(pair.folded.moving_mean)) == pair.folded.moving_mean.shape[0]


@pytest.mark.parametrize("kind", KINDS)
def test_folded_weights_are_those_of_the_moving_statistics(kind):
    pair = Pair(kind, "ema_stats_folding")
    x = pair.batch()
    kernel, bias = pair.folded.folded_weights()
    assert_close(pair.folded.linear_op(x, kernel) + bias, pair.plain(x, False))


@pytest.mark.parametrize("mode", MODES)
def test_activation_comes_after_the_normalization(mode):
    pair = Pair("conv", mode)
    relu = QConv2DBatchnorm.from_config(pair.folded.get_config() | {"activation": "relu6", "name": "relu"})
    relu.build(pair.shape)
    relu.set_weights(pair.folded.get_weights())
    x = pair.batch()
    for training in (True, False):
        assert_close(relu(x, training=training), keras.ops.relu6(pair.plain(x, training)))
