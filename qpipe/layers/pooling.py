"""Quantized pooling that computes means; maxima need nothing but the Keras layer."""

from __future__ import annotations

import keras
from keras import ops

from qpipe.layers.linear import runs_on_integers
from qpipe.numerics import round_half_away
from qpipe.quantizers.output import UNBOUNDED
from qpipe.quantizers.serialization import restore, serialize


@keras.saving.register_keras_serializable("qpipe")
class QAveragePooling2D(keras.layers.Layer):
    """Average pooling that keeps the scale and zero point of its input and rounds half away from zero.

    Args:
        pool_size: as in `keras.layers.AveragePooling2D`.
        strides: as in `keras.layers.AveragePooling2D`.
        padding: as in `keras.layers.AveragePooling2D`; padded positions do not count.
        input_quantizer: the `OutputQuantizer` of the incoming tensor (the same object).
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, pool_size=2, strides=None, padding="valid", *, input_quantizer, **kwargs):
        super().__init__(**kwargs)
        self.pool_size = pool_size
        self.strides = strides
        self.padding = padding
        self.input_quantizer = restore(input_quantizer)
        self.built = True

    def call(self, x, training=None):
        mean = ops.average_pool(x, self.pool_size, self.strides or self.pool_size, self.padding, "channels_last")
        if not runs_on_integers(training):
            return mean
        offset = self.input_quantizer.zero_point
        return round_half_away(mean + offset) - offset

    def compute_output_shape(self, input_shape):
        """Returns (batch, height, width, channels) of the pooled tensor."""
        pooling = keras.layers.AveragePooling2D(self.pool_size, self.strides, self.padding)
        return pooling.compute_output_shape(input_shape)

    def get_config(self):
        return super().get_config() | {
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "input_quantizer": serialize(self.input_quantizer),
        }


@keras.saving.register_keras_serializable("qpipe")
class QGlobalAveragePooling2D(keras.layers.Layer):
    """Mean over height and width, requantized to a range of its own.

    Args:
        keepdims: whether height and width stay, with size 1.
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
        mean = ops.mean(x, axis=(1, 2), keepdims=self.keepdims)
        if not runs_on_integers(training):
            return self.output_quantizer.real(mean, UNBOUNDED, training)
        return self.output_quantizer.requantize(mean, self.input_quantizer.scale / self.output_quantizer.scale)

    def compute_output_shape(self, input_shape):
        """Returns (batch, channels), or (batch, 1, 1, channels) with `keepdims`."""
        batch, _, _, channels = input_shape
        return (batch, 1, 1, channels) if self.keepdims else (batch, channels)

    def get_config(self):
        return super().get_config() | {
            "keepdims": self.keepdims,
            "input_quantizer": serialize(self.input_quantizer),
            "output_quantizer": serialize(self.output_quantizer),
        }
