"""Quantized pooling that computes means; maxima need nothing but the Keras layer."""

from __future__ import annotations

import keras
from keras import ops

from qpipe.layers.linear import runs_on_integers
from qpipe.numerics import divide_half_away, round_half_even
from qpipe.quantizers.output import UNBOUNDED
from qpipe.quantizers.serialization import restore, serialize

NARROW = 8
"""Bits of integers of which float32 sums up 65,536 exactly."""


class _AveragePooling(keras.layers.Layer):
    """Average pooling that keeps the scale and zero point of its input and rounds half away from zero.

    Padded positions do not count. The mean is rounded as targets store it: unsigned integers of 8 and 16 bits
    are stored in a signed type, less half their range.

    Args:
        pool_size: integer, or one for each spatial axis.
        strides: integer, or one for each spatial axis; None takes `pool_size`.
        padding: `valid` or `same`.
        input_quantizer: the `OutputQuantizer` of the incoming tensor (the same object).
        **kwargs: of `keras.layers.Layer`.
    """

    rank: int

    def __init__(self, pool_size=2, strides=None, padding="valid", *, input_quantizer, **kwargs):
        super().__init__(**kwargs)
        self.pool_size = self._for_each_axis(pool_size)
        self.strides = self._for_each_axis(strides or pool_size)
        self.padding = padding
        self.input_quantizer = restore(input_quantizer)
        self.built = True

    def call(self, x, training=None):
        if not runs_on_integers(training):
            return self._mean(x)
        real, whole = ("float32", "int32") if self.input_quantizer.bitwidth <= NARROW else ("float64", "int64")
        positions = self._positions(x)
        total = round_half_even(self._mean(ops.cast(x, real)) * ops.cast(positions, real))
        total, positions = ops.cast(total, whole), ops.cast(positions, whole)
        offset = ops.cast(self.input_quantizer.zero_point, whole) - self.input_quantizer.storage_offset
        return ops.cast(divide_half_away(total + positions * offset, positions) - offset, x.dtype)

    def _mean(self, x):
        return ops.average_pool(x, self.pool_size, self.strides, self.padding, "channels_last")

    def compute_output_shape(self, input_shape):
        pooling = keras.layers.AveragePooling1D if self.rank == 1 else keras.layers.AveragePooling2D
        return pooling(self.pool_size, self.strides, self.padding).compute_output_shape(input_shape)

    def get_config(self):
        return super().get_config() | {
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "input_quantizer": serialize(self.input_quantizer),
        }

    def _for_each_axis(self, size):
        return (size,) * self.rank if isinstance(size, int) else tuple(size)

    def _positions(self, x):
        """How many positions of the input each output is the mean of, shape (1, *output, 1)."""
        window = ops.ones((*self.pool_size, 1, 1))
        return ops.conv(ops.ones_like(x[:1, ..., :1]), window, list(self.strides), self.padding, "channels_last")


@keras.saving.register_keras_serializable("qpipe")
class QAveragePooling1D(_AveragePooling):
    """Quantized `keras.layers.AveragePooling1D` that keeps its input's quantizer and rounds half away from zero."""

    rank = 1


@keras.saving.register_keras_serializable("qpipe")
class QAveragePooling2D(_AveragePooling):
    """Quantized `keras.layers.AveragePooling2D` that keeps its input's quantizer and rounds half away from zero."""

    rank = 2


class _GlobalAveragePooling(keras.layers.Layer):
    """Mean over all positions, requantized to a range of its own.

    Computed as XNNPACK does, in float32 and with one rounding: sum of q_x * M + b, M = (s_x / s_y) * (1 / n) and
    b = z_y - (z_x * n) * M for n positions, with integers and zero points as targets store them.

    Args:
        keepdims: whether the spatial axes stay, with size 1.
        input_quantizer: the `OutputQuantizer` of the incoming tensor (the same object).
        output_quantizer: `OutputQuantizer` of the mean.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, keepdims=False, *, input_quantizer, output_quantizer, **kwargs):
        super().__init__(**kwargs)
        self.keepdims = keepdims
        self.input_quantizer = restore(input_quantizer)
        self.output_quantizer = restore(output_quantizer)
        self.built = True

    def call(self, x, training=None):
        axes = tuple(range(1, len(x.shape) - 1))
        if not runs_on_integers(training):
            return self.output_quantizer.real(ops.mean(x, axes, keepdims=self.keepdims), UNBOUNDED, training)
        positions = ops.cast(ops.prod(ops.shape(x)[1:-1]), "float32")
        input_zero, output_zero = (
            quantizer.zero_point - float(quantizer.storage_offset)
            for quantizer in (self.input_quantizer, self.output_quantizer)
        )
        multiplier = self.input_quantizer.scale / self.output_quantizer.scale * (1.0 / positions)
        total = self._sum(x, axes, input_zero)
        stored = round_half_even(total * multiplier + (output_zero - input_zero * positions * multiplier))
        return self.output_quantizer.requantize(stored - output_zero, 1.0)

    def _sum(self, x, axes, input_zero):
        """Sums of the stored integers, rounded once to float32."""
        x = x + input_zero
        if self.input_quantizer.bitwidth > NARROW:
            x = ops.cast(x, "float64")
        return ops.cast(ops.sum(x, axes, keepdims=self.keepdims), "float32")

    def compute_output_shape(self, input_shape):
        spatial = (1,) * (len(input_shape) - 2) if self.keepdims else ()
        return (input_shape[0], *spatial, input_shape[-1])

    def get_config(self):
        return super().get_config() | {
            "keepdims": self.keepdims,
            "input_quantizer": serialize(self.input_quantizer),
            "output_quantizer": serialize(self.output_quantizer),
        }


@keras.saving.register_keras_serializable("qpipe")
class QGlobalAveragePooling1D(_GlobalAveragePooling):
    """Quantized `keras.layers.GlobalAveragePooling1D`, requantized to a range of its own."""


@keras.saving.register_keras_serializable("qpipe")
class QGlobalAveragePooling2D(_GlobalAveragePooling):
    """Quantized `keras.layers.GlobalAveragePooling2D`, requantized to a range of its own."""
