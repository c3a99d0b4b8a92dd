"""Linear layers as matrix products: kernels, inputs and outputs as one matrix per group of channels."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf

from qpipe.layers import QConv1D, QConv2D, QDense, QDepthwiseConv1D, QDepthwiseConv2D
from qpipe.layers.linear import QuantizedLinear

COVERED: tuple[type, ...] = (QConv1D, QConv2D, QDense, QDepthwiseConv1D, QDepthwiseConv2D)


@dataclass(frozen=True)
class MatrixForm:
    """A linear layer as `groups` products of (positions, rows) by (rows, columns).

    A dense layer and a convolution are one product, a convolution with groups one per group, a depthwise
    convolution one per input channel. Rows are the inputs of one output: kh * kw * channels of the group.

    Attributes:
        layer: the layer.
        groups: number of products.
        rows: inputs of one output.
        columns: output channels of one group.
    """

    layer: QuantizedLinear
    groups: int
    rows: int
    columns: int

    @property
    def matrix_bytes(self) -> int:
        """Size of the matrices E[a aᵀ] of all groups in float64."""
        return 8 * self.groups * self.rows**2

    def patch_bytes(self, positions: int) -> int:
        """Size of all rows of one sample with `positions` output positions in float32."""
        return 4 * positions * self.groups * self.rows

    def to_matrix(self, kernel) -> np.ndarray:
        """Returns a kernel as (groups, rows, columns)."""
        return np.asarray(kernel).reshape(self.rows, self.groups, self.columns).transpose(1, 0, 2)

    def to_kernel(self, matrix: np.ndarray) -> np.ndarray:
        """Returns (groups, rows, columns) in the kernel's shape."""
        return np.asarray(matrix).transpose(1, 0, 2).reshape(tuple(self.layer.kernel.shape))

    def per_channel(self, vector: Any) -> np.ndarray:
        """Returns one value per output channel as (groups, columns)."""
        return np.asarray(vector).reshape(self.groups, self.columns)

    def scale_matrix(self, scale: Any) -> np.ndarray:
        """Returns a kernel's scale, of one value or one per channel, as (groups, columns)."""
        shape = tuple(self.layer.kernel.shape)
        return self.to_matrix(np.broadcast_to(np.asarray(scale), shape))[:, 0, :]

    def rows_of(self, x):
        """Returns the inputs of every output as (groups, positions, rows), float32.

        Args:
            x: (samples, ...) input of the layer.
        """
        patches = self._patches(x)
        channels = x.shape[-1]
        window = patches.shape[-1] // channels
        split = tf.reshape(patches, (-1, window, self.groups, channels // self.groups))
        return tf.reshape(tf.transpose(split, (2, 0, 1, 3)), (self.groups, -1, self.rows))

    def columns_of(self, y):
        """Returns an output of the layer as (groups, positions, columns)."""
        return tf.transpose(tf.reshape(y, (-1, self.groups, self.columns)), (1, 0, 2))

    def _patches(self, x):
        """Returns (..., window * channels): for each output position what the kernel covers."""
        layer: Any = self.layer
        if isinstance(layer, QDense):
            return x
        size, strides, rates = list(layer.kernel_size), list(layer.strides), list(layer.dilation_rate)
        padding = layer.padding
        if padding == "causal":
            x, padding = tf.pad(x, layer._compute_causal_padding()), "valid"
        if len(size) == 1:
            x = x[:, tf.newaxis]
            size, strides, rates = [1, *size], [1, *strides], [1, *rates]
        return tf.image.extract_patches(x, [1, *size, 1], [1, *strides, 1], [1, *rates, 1], padding=padding.upper())


def matrix_form(layer: QuantizedLinear) -> MatrixForm | None:
    """Returns the matrix form of a layer, or None of one that has none here (a transposed convolution, say)."""
    if not isinstance(layer, COVERED):
        return None
    shape = tuple(layer.kernel.shape)
    if isinstance(layer, QDepthwiseConv1D | QDepthwiseConv2D):
        return MatrixForm(layer, groups=shape[-2], rows=prod(shape[:-2]), columns=shape[-1])
    groups = getattr(layer, "groups", 1)
    return MatrixForm(layer, groups=groups, rows=prod(shape[:-1]), columns=shape[-1] // groups)
