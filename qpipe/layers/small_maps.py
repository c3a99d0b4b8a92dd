"""Depthwise convolutions of maps of a few pixels, as the last layers of small networks have them."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

MOST_PAIRS = 16
"""Input places times output places of a map that counts as small."""


def depthwise_convolution(x, kernel, *, strides: Sequence[int], padding: str):
    """Returns `keras.ops.depthwise_conv`, with a faster gradient of the kernel where the map is small.

    With maps of up to 2 by 2 pixels TensorFlow's kernel gradient takes three to seven times as long (oneDNN, two
    cores, 64 samples of 128 channels). Here it is a sum over samples for every pair of places that a weight connects.

    Args:
        x: (batch, height, width, channels).
        kernel: (height, width, channels, multiplier).
        strides: along height and width.
        padding: `same` or `valid`.
    """
    size, (rows, columns) = tuple(x.shape[1:3]), strides
    if keras.backend.backend() != "tensorflow" or rows != columns or kernel.shape[-1] != 1 or None in size:
        return ops.depthwise_conv(x, kernel, strides=tuple(strides), padding=padding)
    weights = connecting_weights(size, tuple(kernel.shape[:2]), rows, padding)
    if weights.shape[0] * weights.shape[1] > MOST_PAIRS:
        return ops.depthwise_conv(x, kernel, strides=tuple(strides), padding=padding)
    return _with_kernel_gradient(x, kernel, rows, padding.upper(), weights)


def connecting_weights(size: Sequence[int], kernel_size: Sequence[int], stride: int, padding: str) -> np.ndarray:
    """Returns which weight connects two places: float32 (input places, output places, weights), 1 for that weight.

    Args:
        size: height and width of the input.
        kernel_size: of the kernel.
        stride: along both.
        padding: `same` or `valid`.
    """
    down, along = (_along_one_axis(*extents, stride, padding) for extents in zip(size, kernel_size, strict=True))
    both = np.einsum("iow,jpv->ijopwv", down, along)
    return both.reshape(np.multiply(down.shape, along.shape))


def _along_one_axis(size: int, kernel_size: int, stride: int, padding: str) -> np.ndarray:
    outputs = -(-size // stride) if padding == "same" else (size - kernel_size) // stride + 1
    before = max((outputs - 1) * stride + kernel_size - size, 0) // 2 if padding == "same" else 0
    place, output, weight = np.ogrid[:size, :outputs, :kernel_size]
    return (place == output * stride - before + weight).astype("float32")


def _with_kernel_gradient(x, kernel, stride: int, padding: str, weights: np.ndarray):
    import tensorflow as tf

    strides = (1, stride, stride, 1)

    @tf.custom_gradient
    def convolve(x, kernel):
        def gradient(upstream):
            by_input = tf.nn.depthwise_conv2d_backprop_input(tf.shape(x), kernel, upstream, strides, padding)
            by_kernel = tf.reshape(_kernel_gradient(x, upstream, weights), kernel.shape)
            return by_input, by_kernel

        return tf.nn.depthwise_conv2d(x, kernel, strides, padding), gradient

    # copies: inside a conditional a custom gradient may not take a tensor from outside
    return convolve(tf.identity(x), tf.identity(kernel))


def _kernel_gradient(x, upstream, weights: np.ndarray):
    """Returns the gradient of the kernel, (weights, channels)."""
    import tensorflow as tf

    inputs, outputs, _ = weights.shape
    channels = x.shape[-1]
    few, many, pairs = (x, upstream, weights) if inputs <= outputs else (upstream, x, weights.transpose(1, 0, 2))
    few = tf.reshape(few, (-1, pairs.shape[0], channels))
    many = tf.reshape(many, (-1, pairs.shape[1] * channels))
    products = [
        tf.reduce_sum(tf.tile(few[:, place], (1, pairs.shape[1])) * many, axis=0) for place in range(pairs.shape[0])
    ]
    products = tf.reshape(tf.stack(products), (-1, channels))
    return tf.matmul(tf.constant(pairs.reshape(-1, pairs.shape[2]), x.dtype), products, transpose_a=True)
