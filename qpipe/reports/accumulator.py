"""The accumulator width that a layer needs."""

from __future__ import annotations

import numpy as np

from qpipe.layers.linear import QuantizedLinear


def needed_accumulator_bits(layer: QuantizedLinear) -> int:
    """Returns the bits that no input can overflow: the sign, and the worst sum of products plus bias.

    Args:
        layer: a connected layer whose input is calibrated.
    """
    integers = layer.integer_weights()
    kernel = np.abs(np.asarray(integers.kernel, dtype=np.float64))
    reduced = tuple(axis for axis in range(kernel.ndim) if axis - kernel.ndim not in layer.channel_axes)
    worst = kernel.sum(axis=reduced).reshape(-1) * _largest_input(layer.input_quantizer)
    if integers.bias is not None:
        worst = worst + np.abs(np.asarray(integers.bias, dtype=np.float64))
    return int(np.max(worst)).bit_length() + 1


def _largest_input(quantizer) -> float:
    zero_point = float(quantizer.zero_point)
    return max(zero_point - quantizer.integers.lowest, quantizer.integers.highest - zero_point)
