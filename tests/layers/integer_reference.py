"""Quantized layers in NumPy's 64-bit integers, written from the fixed-point contract alone."""

from __future__ import annotations

import numpy as np

FLOAT = np.float32


def same_padding(size, kernel, stride, dilation):
    """Zeros before and after, as TensorFlow pads."""
    span = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def patches(x, kernel_shape, strides, dilation, padding):
    """Yields (row, column, x there) for every position of a kernel, x of shape (n, h, w, c) as int64."""
    (height, width), (down, right), (apart_y, apart_x) = kernel_shape, strides, dilation
    if padding == "same":
        rows = same_padding(x.shape[1], height, down, apart_y)
        columns = same_padding(x.shape[2], width, right, apart_x)
        x = np.pad(x, ((0, 0), rows, columns, (0, 0)))
    out_h = (x.shape[1] - (height - 1) * apart_y - 1) // down + 1
    out_w = (x.shape[2] - (width - 1) * apart_x - 1) // right + 1
    for i in range(height):
        for j in range(width):
            top, left = i * apart_y, j * apart_x
            yield i, j, x[:, top : top + (out_h - 1) * down + 1 : down, left : left + (out_w - 1) * right + 1 : right]


def convolve(x, kernel, strides=(1, 1), dilation=(1, 1), padding="valid"):
    return sum(
        np.einsum("nhwc,co->nhwo", patch, kernel[i, j])
        for i, j, patch in patches(x, kernel.shape[:2], strides, dilation, padding)
    )


def convolve_depthwise(x, kernel, strides=(1, 1), dilation=(1, 1), padding="valid"):
    total = sum(
        np.einsum("nhwc,cm->nhwcm", patch, kernel[i, j])
        for i, j, patch in patches(x, kernel.shape[:2], strides, dilation, padding)
    )
    return total.reshape(*total.shape[:3], -1)


def weight_scale(kernel, channel_axes, bits, smallest):
    """Scale of each channel: the largest magnitude, or more where its bias would not fit the buffer."""
    axes = tuple(set(range(kernel.ndim)) - {axis % kernel.ndim for axis in channel_axes})
    maximum = np.abs(kernel).max(axis=axes, keepdims=True)
    highest = FLOAT(2 ** (bits - 1) - 1)
    return np.maximum(maximum, smallest.reshape(maximum.shape) * highest) / highest


def integers_of(quantizer):
    """Scale, and lowest and highest integer relative to the zero point, of an output quantizer."""
    lowest, highest = quantizer.integers
    zero_point = int(quantizer.zero_point)
    return FLOAT(quantizer.scale), lowest - zero_point, highest - zero_point


def linear(x, kernel, bias, operation, layer, *, activation=None):
    """Returns what a linear layer computes on the integers `x`, relative to the output's zero point."""
    input_scale, _, _ = integers_of(layer.input_quantizer)
    output_scale, lowest, highest = integers_of(layer.output_quantizer)
    bits = layer.kernel_quantizer.bitwidth
    buffer = 2 ** (layer.buffer_bitwidth - 1)
    channels = np.zeros(layer.compute_output_shape(x.shape)[-1], FLOAT) if bias is None else np.abs(bias)
    scale = weight_scale(kernel, layer.channel_axes, bits, channels / (input_scale * FLOAT(buffer - 1)))
    limit = 2 ** (bits - 1) - 1
    weights = np.clip(np.rint(kernel / scale), -limit, limit).astype("int64")
    accumulator_scale = scale.reshape(-1) * input_scale
    accumulator = operation(x.astype("int64"), weights)
    if bias is not None:
        accumulator = accumulator + np.clip(np.rint(bias / accumulator_scale), 1 - buffer, buffer - 1).astype("int64")
    accumulator = np.clip(accumulator, -buffer, buffer - 1)
    result = np.rint(accumulator.astype(FLOAT) * (accumulator_scale / output_scale))
    if activation is not None:
        lowest = max(lowest, 0)
    if activation == "relu6":
        highest = min(highest, np.rint(FLOAT(6) / output_scale))
    return np.clip(result, lowest, highest)
