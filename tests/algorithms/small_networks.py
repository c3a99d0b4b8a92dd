"""Small networks and samples for the algorithms that go through a model layer by layer."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

import qpipe
from qpipe.config.schema import OutputQuantizerConfig, QuantizerConfig, WeightQuantizerConfig, WeightRange


def samples(count: int = 96, size: int = 6, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth images with correlated channels, so that rounding to nearest is far from the best."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(count, size, size, 1)).cumsum(axis=1).cumsum(axis=2) / size
    return (base + 0.3 * rng.normal(size=(count, size, size, channels))).astype("float32")


def folded_network(seed: int = 1) -> keras.Model:
    """Conv + BN + ReLU, depthwise + BN + ReLU6, a sum, a separable convolution, a dense layer; not trained."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_bn")(x))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    y = layers.ReLU(6.0, name="depthwise_relu")(layers.BatchNormalization(name="depthwise_bn")(y))
    x = layers.Add(name="add")([x, y])
    x = layers.SeparableConv2D(10, 3, activation="relu", name="separable")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, layers.Dense(4, name="classes")(x))
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.gamma.assign(rng.uniform(0.5, 2.0, layer.gamma.shape))
            layer.beta.assign(rng.normal(0.2, 0.3, layer.beta.shape))
            layer.moving_mean.assign(rng.normal(0.0, 0.3, layer.beta.shape))
            layer.moving_variance.assign(rng.uniform(0.3, 1.5, layer.beta.shape))
    return model


def quantized(model: keras.Model, bits: int = 3, range_: WeightRange = WeightRange.max, **changes) -> keras.Model:
    """Folds, quantizes and calibrates."""
    config = QuantizerConfig(
        weight=WeightQuantizerConfig(bitwidth=bits, range=range_, **changes), output=OutputQuantizerConfig(bitwidth=8)
    )
    return qpipe.calibrate(qpipe.quantize(qpipe.fold_batchnorm(model), config), samples())


def output_error(model: keras.Model, reference: keras.Model, x: np.ndarray) -> float:
    """Mean squared difference of two models' outputs."""
    difference = model.predict(x, verbose=0) - reference.predict(x, verbose=0)
    return float(np.mean(np.square(difference)))
