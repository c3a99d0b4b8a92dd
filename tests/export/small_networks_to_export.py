"""Small quantized networks for the tests of exporters."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers as k

import qpipe
from qpipe.config.schema import OutputQuantizerConfig, QuantizerConfig, WeightQuantizerConfig

IMAGE = (9, 8, 4)


def samples(shape=IMAGE, count: int = 96, seed: int = 0) -> np.ndarray:
    """Normally distributed inputs."""
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype("float32")


def config(*, weight: int = 8, activation: int = 8, symmetric: bool = False, **others: Any) -> QuantizerConfig:
    """Quantizers of these widths; softmax computes with integers."""
    output = {"bitwidth": activation, "symmetric": symmetric}
    return QuantizerConfig(
        weight=WeightQuantizerConfig(bitwidth=weight),
        input=OutputQuantizerConfig(**output),
        output=OutputQuantizerConfig(**output),
        **{"float_softmax": False, **others},
    )


def quantized(build, quantizers: QuantizerConfig | None = None, shape=IMAGE) -> keras.Model:
    """Builds a network on one input, quantizes and calibrates it."""
    keras.utils.set_random_seed(7)
    inputs = keras.Input(shape, name="image")
    model = keras.Model(inputs, build(inputs), name="small")
    return qpipe.calibrate(qpipe.quantize(model, quantizers or config()), samples(shape))


def residual(x):
    """Convolutions, a depthwise one, a sum, a batch normalization that stays, a mean and a dense layer with softmax."""
    y = k.Conv2D(8, 3, padding="same", activation="relu", name="stem")(x)
    z = k.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
    y = k.Add(name="add")([y, k.Conv2D(8, 1, name="pointwise")(z)])
    y = k.ReLU(name="relu")(k.BatchNormalization(name="kept")(y))
    return k.Dense(5, activation="softmax", name="classes")(k.GlobalAveragePooling2D(name="pool")(y))
