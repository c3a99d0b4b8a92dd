"""The folded layers beside the Keras layers that they fold, and the plain pair with the same random weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from qpipe import layers

MODES = ("ema_stats_folding", "batch_stats_folding")


@dataclass(frozen=True)
class Kind:
    """A folded class, its Keras layer, arguments and the shape of a batch."""

    plain: type
    folded: type
    size: tuple
    shape: tuple
    arguments: dict[str, Any] = field(default_factory=dict)


KINDS = {
    "conv1d": Kind(keras.layers.Conv1D, layers.QConv1DBatchnorm, (5, 3), (8, 9, 4), {"padding": "causal"}),
    "conv": Kind(keras.layers.Conv2D, layers.QConv2DBatchnorm, (5, 3), (8, 6, 6, 3), {"padding": "same", "strides": 2}),
    "depthwise1d": Kind(
        keras.layers.DepthwiseConv1D, layers.QDepthwiseConv1DBatchnorm, (3,), (8, 9, 3), {"depth_multiplier": 2}
    ),
    "depthwise": Kind(
        keras.layers.DepthwiseConv2D, layers.QDepthwiseConv2DBatchnorm, (3,), (8, 6, 6, 3), {"depth_multiplier": 2}
    ),
    "conv1d_transpose": Kind(
        keras.layers.Conv1DTranspose, layers.QConv1DTransposeBatchnorm, (4, 3), (8, 6, 3), {"strides": 2}
    ),
    "conv_transpose": Kind(
        keras.layers.Conv2DTranspose,
        layers.QConv2DTransposeBatchnorm,
        (4, 3),
        (8, 5, 4, 3),
        {"strides": 2, "padding": "same"},
    ),
    "dense": Kind(keras.layers.Dense, layers.QDenseBatchnorm, (6,), (16, 10)),
}


class Pair:
    """The plain pair and the folded layer, with the same random weights."""

    def __init__(self, kind, mode, seed=0, normalization=None, shape=None, **arguments):
        known = KINDS[kind]
        normalization = normalization or {}
        arguments = known.arguments | arguments
        self.random = np.random.default_rng(seed)
        self.shape = shape or known.shape
        self.linear = known.plain(*known.size, **arguments)
        self.norm = keras.layers.BatchNormalization(**normalization)
        self.folded = known.folded(*known.size, **arguments, **normalization, folding_mode=mode)
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

    def plain(self, x, training, mask=None):
        return self.norm(self.linear(x), training=training, mask=mask)

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


def assert_same_gradients(ours, plain, training):
    """Equal to 1e-5; batch statistics take the linear layer's bias out, so that its gradient is rounding noise."""
    assert ours.keys() == plain.keys()
    for name, gradient in plain.items():
        if training and name == "bias":
            np.testing.assert_allclose(ours[name], 0, atol=1e-5 * np.abs(plain["beta"]).max())
        else:
            assert_close(ours[name], gradient)
