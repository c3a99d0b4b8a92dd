"""One small network for each kind of layer that has an integer form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers as k

from qpipe import layers as q

LINE = (12, 3)
IMAGE = (7, 6, 4)
SAMPLES = 24


@dataclass(frozen=True)
class LayerCase:
    """A network around one layer.

    Attributes:
        name: of the case.
        shape: of one input sample.
        build: makes the network's output of its input.
        trains: whether the network has weights to train.
    """

    name: str
    shape: tuple[int, ...]
    build: Callable[[Any], Any]
    trains: bool = False


def _branches(merge) -> Callable[[Any], Any]:
    """Two convolutions of one input, merged."""
    return lambda x: merge([k.Conv2D(4, 1)(x), k.Conv2D(4, 1, activation="relu")(x)])


def _gate(x):
    """A squeeze-and-excite gate: a product that broadcasts."""
    y = k.Conv2D(4, 1)(x)
    return k.Multiply()([y, k.GlobalAveragePooling2D(keepdims=True)(y)])


def _twice(x):
    return k.Concatenate()([x, x])


def _hard_swish(x):
    return x * k.ReLU(6.0)(x + 3.0) * (1 / 6)


def _standing_batchnorm(activation) -> Callable[[Any], Any]:
    def build(x):
        y = k.BatchNormalization()(k.MaxPooling2D()(x))
        return y if activation is None else activation(y)

    return build


LINEAR = [
    LayerCase("conv1d", LINE, k.Conv1D(5, 3, strides=2, padding="same"), True),
    LayerCase("conv1d_causal", LINE, k.Conv1D(5, 3, padding="causal", dilation_rate=2, activation="relu"), True),
    LayerCase("conv2d", IMAGE, k.Conv2D(5, 3, padding="same", strides=2), True),
    LayerCase("conv2d_dilated", IMAGE, k.Conv2D(5, (2, 3), dilation_rate=2, activation="relu6"), True),
    LayerCase("conv2d_groups", IMAGE, k.Conv2D(6, 3, padding="same", groups=2), True),
    LayerCase("conv2d_no_bias", IMAGE, k.Conv2D(5, 1, use_bias=False), True),
    LayerCase("depthwise1d", LINE, k.DepthwiseConv1D(3, strides=2, depth_multiplier=2, padding="same"), True),
    LayerCase("depthwise2d", IMAGE, k.DepthwiseConv2D(3, padding="same", strides=2), True),
    LayerCase("depthwise2d_multiplier", IMAGE, k.DepthwiseConv2D((2, 3), depth_multiplier=2, activation="relu"), True),
    LayerCase("conv1d_transpose", LINE, k.Conv1DTranspose(5, 3, strides=2, padding="same"), True),
    LayerCase("conv2d_transpose", IMAGE, k.Conv2DTranspose(5, 3, strides=2, padding="valid"), True),
    LayerCase("conv2d_transpose_same", IMAGE, k.Conv2DTranspose(5, (2, 3), strides=3, padding="same"), True),
    LayerCase("dense", (24,), k.Dense(7, activation="relu"), True),
    LayerCase("dense_on_positions", LINE, k.Dense(7), True),
    LayerCase("dense_long_sums", (700,), k.Dense(3), True),
]
FOLDED = [
    LayerCase("folded_conv1d", LINE, q.QConv1DBatchnorm(5, 3, padding="causal", use_bias=False), True),
    LayerCase("folded_conv2d", IMAGE, q.QConv2DBatchnorm(5, 3, strides=2, use_bias=False, activation="relu"), True),
    LayerCase("folded_depthwise1d", LINE, q.QDepthwiseConv1DBatchnorm(3, depth_multiplier=2, use_bias=False), True),
    LayerCase("folded_depthwise2d", IMAGE, q.QDepthwiseConv2DBatchnorm(3, padding="same", use_bias=False), True),
    LayerCase("folded_conv1d_transpose", LINE, q.QConv1DTransposeBatchnorm(5, 3, strides=2, use_bias=False), True),
    LayerCase(
        "folded_conv2d_transpose",
        IMAGE,
        q.QConv2DTransposeBatchnorm(5, 3, strides=2, padding="same", use_bias=False),
        True,
    ),
    LayerCase("folded_dense", LINE, q.QDenseBatchnorm(7, use_bias=False, activation="relu6"), True),
]
MERGES = [
    LayerCase("add", IMAGE, _branches(k.Add()), True),
    LayerCase("add_relu", IMAGE, lambda x: k.ReLU()(_branches(k.Add())(x)), True),
    LayerCase("subtract", IMAGE, _branches(k.Subtract()), True),
    LayerCase("multiply", IMAGE, _branches(k.Multiply()), True),
    LayerCase("multiply_broadcast", IMAGE, _gate, True),
]
POOLING = [
    LayerCase("average_pooling1d", LINE, k.AveragePooling1D(3, padding="same")),
    LayerCase("average_pooling2d", IMAGE, k.AveragePooling2D((3, 2), strides=1, padding="same")),
    LayerCase("average_pooling2d_valid", IMAGE, k.AveragePooling2D(2)),
    LayerCase("global_average_pooling1d", LINE, k.GlobalAveragePooling1D()),
    LayerCase("global_average_pooling2d", IMAGE, k.GlobalAveragePooling2D(keepdims=True)),
    LayerCase("max_pooling1d", LINE, lambda x: k.Conv1D(4, 1)(k.MaxPooling1D(3, 2, padding="same")(x)), True),
    LayerCase("max_pooling2d", IMAGE, lambda x: k.Conv2D(4, 1)(k.MaxPooling2D(3, 2, padding="same")(x)), True),
    LayerCase("global_max_pooling1d", LINE, lambda x: k.Dense(4)(k.GlobalMaxPooling1D()(x)), True),
    LayerCase("global_max_pooling2d", IMAGE, lambda x: k.Dense(4)(k.GlobalMaxPooling2D()(x)), True),
]
SHAPES = [
    LayerCase("padding1d", LINE, lambda x: k.Conv1D(4, 3)(k.ZeroPadding1D((2, 1))(x)), True),
    LayerCase("padding2d", IMAGE, lambda x: k.Conv2D(4, 3)(k.ZeroPadding2D(((0, 1), (2, 0)))(x)), True),
    LayerCase("cropping1d", LINE, lambda x: k.Conv1D(4, 3)(k.Cropping1D((2, 1))(x)), True),
    LayerCase("cropping2d", IMAGE, lambda x: k.Conv2D(4, 3)(k.Cropping2D(((0, 1), (2, 0)))(x)), True),
    LayerCase("upsampling1d", LINE, lambda x: k.Conv1D(4, 3)(k.UpSampling1D(3)(x)), True),
    LayerCase("upsampling2d", IMAGE, lambda x: k.Conv2D(4, 3)(k.UpSampling2D((1, 2))(x)), True),
    LayerCase("flatten", IMAGE, lambda x: k.Dense(4)(k.Flatten()(x)), True),
    LayerCase("reshape", IMAGE, lambda x: k.Dense(4)(k.Reshape((6, -1))(x)), True),
    LayerCase("permute", IMAGE, lambda x: k.Conv2D(4, 3)(k.Permute((2, 1, 3))(x)), True),
    LayerCase("dropout", IMAGE, lambda x: k.Conv2D(4, 3)(k.SpatialDropout2D(0.2)(k.Dropout(0.2)(x))), True),
]
JOINS = [
    LayerCase("concatenate", IMAGE, _branches(k.Concatenate()), True),
    LayerCase("concatenate_rows", IMAGE, _branches(k.Concatenate(axis=1)), True),
    LayerCase("concatenate_with_input", IMAGE, lambda x: k.Concatenate()([x, k.Conv2D(3, 1)(x)]), True),
    LayerCase("concatenate_twice", IMAGE, lambda x: _twice(k.Conv2D(3, 1)(x)), True),
    LayerCase(
        "concatenate_behind_sigmoid",
        IMAGE,
        lambda x: _branches(k.Concatenate())(k.Activation("sigmoid")(k.Conv2D(3, 1)(x))),
        True,
    ),
    LayerCase("operators", IMAGE, lambda x: (k.Conv2D(4, 1)(x) + k.Conv2D(4, 1)(x)) * k.Conv2D(4, 1)(x), True),
]
SEPARABLE = [
    LayerCase("separable1d", LINE, k.SeparableConv1D(5, 3, strides=2, depth_multiplier=2, padding="same"), True),
    LayerCase("separable2d", IMAGE, k.SeparableConv2D(5, 3, dilation_rate=2, activation="relu"), True),
]
INPUTS = [
    LayerCase("rescaled_input", IMAGE, lambda x: k.Conv2D(4, 1)(k.Rescaling(1 / 255)(x)), True),
    LayerCase("shifted_input", IMAGE, lambda x: k.Conv2D(4, 1)(k.Rescaling(1 / 127.5, -1)(x)), True),
    LayerCase(
        "normalized_input",
        IMAGE,
        lambda x: k.Conv2D(4, 1)(k.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 4.0])(x)),
        True,
    ),
]
ACTIVATIONS = [
    *(
        LayerCase(f"conv2d_{name}", IMAGE, k.Conv2D(4, 1, activation=name), True)
        for name in ("swish", "gelu", "sigmoid", "tanh", "hard_sigmoid", "hard_silu", "elu", "softplus", "leaky_relu")
    ),
    LayerCase("capped_relu", IMAGE, lambda x: k.ReLU(2.5)(k.Conv2D(4, 1)(x)), True),
    LayerCase("standing_capped_relu", IMAGE, lambda x: k.Conv2D(4, 1)(k.ReLU(1.5)(k.MaxPooling2D()(x))), True),
    LayerCase(
        "sloped_relu",
        IMAGE,
        lambda x: k.ReLU(negative_slope=0.1, threshold=0.2, max_value=3)(k.Conv2D(4, 1)(x)),
        True,
    ),
    LayerCase("leaky_relu_layer", IMAGE, lambda x: k.LeakyReLU(0.2)(k.Conv2D(4, 1)(x)), True),
    LayerCase("prelu", IMAGE, lambda x: k.PReLU(shared_axes=[1, 2])(k.Conv2D(4, 1)(x)), True),
    LayerCase("prelu_of_each_value", IMAGE, lambda x: k.ReLU(6.0)(k.PReLU()(k.Conv2D(4, 1)(x))), True),
    LayerCase("prelu_of_a_vector", (24,), lambda x: k.Dense(3)(k.PReLU()(k.Dense(7)(x))), True),
    LayerCase("hard_swish_of_operators", IMAGE, lambda x: _hard_swish(k.Conv2D(4, 1)(x)), True),
    LayerCase("rescaling_inside", IMAGE, lambda x: k.Rescaling(0.5, 0.1)(k.Conv2D(4, 1)(x)), True),
    LayerCase("softmax_inside", IMAGE, lambda x: k.Conv2D(3, 1)(k.Softmax()(k.Conv2D(4, 1)(x))), True),
]
NORMALIZATIONS = [
    LayerCase("batch_normalization", IMAGE, _standing_batchnorm(None), True),
    LayerCase("batch_normalization_relu", IMAGE, _standing_batchnorm(k.ReLU()), True),
]
CASES = [
    *LINEAR,
    *FOLDED,
    *MERGES,
    *POOLING,
    *SHAPES,
    *JOINS,
    *SEPARABLE,
    *INPUTS,
    *ACTIVATIONS,
    *NORMALIZATIONS,
]


def float_model(*cases: LayerCase) -> keras.Model:
    """A model with an output for each case, all on the same input, and random weights."""
    keras.utils.set_random_seed(5)
    x = keras.Input(cases[0].shape)
    model = keras.Model(x, [network(case, x) for case in cases])
    rng = np.random.default_rng(3)
    for weight in model.weights:
        spread = (
            rng.uniform(0.5, 1.5, size=weight.shape) if "variance" in weight.name else rng.normal(size=weight.shape)
        )
        if weight.dtype == "float32":
            weight.assign(spread.astype("float32") * 0.5)
    return model


def network(case: LayerCase, x):
    """The case's network on layers of its own, so that tests share none."""
    build = case.build
    if isinstance(build, keras.layers.Layer):
        config = build.get_config()
        config.pop("name")
        build = type(build).from_config(config)
    return build(x)


def samples(case: LayerCase, seed: int = 0, spread: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=spread, size=(SAMPLES, *case.shape)).astype("float32")
