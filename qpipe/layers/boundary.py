"""Where real values become integers, and integers become real values."""

from __future__ import annotations

import keras

from qpipe.layers.linear import runs_on_integers
from qpipe.quantizers.output import UNBOUNDED
from qpipe.quantizers.serialization import restore, serialize


class _Boundary(keras.layers.Layer):
    def __init__(self, quantizer, **kwargs):
        super().__init__(**kwargs)
        self.quantizer = restore(quantizer)
        self.built = True

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"quantizer": serialize(self.quantizer)}


@keras.saving.register_keras_serializable("qpipe")
class Quantize(_Boundary):
    """Quantizes real values: the model's input, or the output of a layer that stays in float.

    Args:
        quantizer: the `OutputQuantizer` that is applied.
    """

    def call(self, x, training=None):
        if runs_on_integers(training):
            return self.quantizer.to_integers(x)
        return self.quantizer.real(x, UNBOUNDED, training)


@keras.saving.register_keras_serializable("qpipe")
class Dequantize(_Boundary):
    """Returns real values: at the model's output, or before a layer that stays in float.

    Args:
        quantizer: the `OutputQuantizer` of the incoming tensor (the same object).
    """

    def call(self, x, training=None):
        return self.quantizer.to_real(x) if runs_on_integers(training) else x
