"""Separable convolutions as what they are: a depthwise convolution, then a pointwise one."""

from __future__ import annotations

from typing import NamedTuple

import keras

CARRIED_OVER = ("initializer", "regularizer", "constraint")


class Halves(NamedTuple):
    """The two plain layers of a separable convolution, with its weights."""

    depthwise: keras.layers.Layer
    pointwise: keras.layers.Layer


HALVES: dict[type, tuple[type[keras.layers.Layer], type[keras.layers.Layer]]] = {
    keras.layers.SeparableConv1D: (keras.layers.DepthwiseConv1D, keras.layers.Conv1D),
    keras.layers.SeparableConv2D: (keras.layers.DepthwiseConv2D, keras.layers.Conv2D),
}


def halves(layer: keras.layers.SeparableConv1D | keras.layers.SeparableConv2D, input_shape: tuple) -> Halves:
    """Returns the depthwise and the pointwise convolution that one after the other compute what `layer` computes.

    Strides, dilation and depth multiplier go to the depthwise half, which is called `<name>_depthwise`; bias and
    activation go to the pointwise half, which keeps the layer's name.

    Args:
        layer: built separable convolution.
        input_shape: of the tensor that it receives, with the batch axis.
    """
    config = layer.get_config()
    shared = {key: config[key] for key in ("dtype", "data_format", "padding")}
    depthwise_class, pointwise_class = HALVES[type(layer)]
    depthwise = depthwise_class.from_config(
        shared
        | {key: config[key] for key in ("kernel_size", "strides", "dilation_rate", "depth_multiplier")}
        | {f"depthwise_{key}": config[f"depthwise_{key}"] for key in CARRIED_OVER}
        | {"use_bias": False, "name": f"{layer.name}_depthwise"}
    )
    pointwise = pointwise_class.from_config(
        shared
        | {key: config[key] for key in ("filters", "activation", "use_bias", "activity_regularizer")}
        | {f"bias_{key}": config[f"bias_{key}"] for key in CARRIED_OVER}
        | {f"kernel_{key}": config[f"pointwise_{key}"] for key in CARRIED_OVER}
        | {"kernel_size": 1, "name": layer.name}
    )
    depthwise.build(input_shape)
    pointwise.build(depthwise.compute_output_shape(input_shape))
    _move(layer.depthwise_kernel, depthwise.kernel)
    _move(layer.pointwise_kernel, pointwise.kernel)
    if layer.use_bias:
        _move(layer.bias, pointwise.bias)
    for half in (depthwise, pointwise):
        half.trainable = layer.trainable
    return Halves(depthwise, pointwise)


def _move(source, target) -> None:
    """Copies a variable's value, and whether it is trained."""
    target.assign(source)
    target.trainable = source.trainable
