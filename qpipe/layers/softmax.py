"""Softmax on integers."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from qpipe.integer.operators.softmax import UNIT
from qpipe.layers.linear import runs_on_integers
from qpipe.numerics import round_half_even
from qpipe.quantizers.output import UNBOUNDED
from qpipe.quantizers.serialization import restore, serialize


@keras.saving.register_keras_serializable("qpipe")
class QSoftmax(keras.layers.Layer):
    """Softmax over the last axis.

    In training: output_quantizer(softmax(x)) on real values. On integers, with d = max(q) - q and the table
    T[d] = rint(2^23 * exp(-s_x * d)) of integers: q_y = clip(rint(T[d] / sum(T[d]) / s_y) + z_y), in float64.

    Args:
        input_quantizer: the `OutputQuantizer` of the incoming tensor (the same object).
        output_quantizer: `OutputQuantizer` of the result; scale 2^-bitwidth and zero point 0 cover 0 to 1.
        **kwargs: of the Keras layer.
    """

    def __init__(self, input_quantizer, output_quantizer, **kwargs):
        super().__init__(**kwargs)
        self.input_quantizer = restore(input_quantizer)
        self.output_quantizer = restore(output_quantizer)
        self.built = True

    def call(self, x, training=None):
        if not runs_on_integers(training):
            return self.output_quantizer.real(ops.softmax(x, axis=-1), UNBOUNDED, training)
        distance = ops.cast(ops.max(x, axis=-1, keepdims=True) - x, "int32")
        exponentials = ops.take(self.exponentials(), distance)
        share = exponentials / ops.sum(exponentials, axis=-1, keepdims=True)
        steps = share / ops.cast(self.output_quantizer.scale, "float64")
        return self.output_quantizer.requantize(ops.cast(round_half_even(steps), "float32"), 1.0)

    def exponentials(self):
        """Returns the table T, one entry for each distance from the largest integer: whole float64, shape (2^b,)."""
        input_scale, _ = self.input_quantizer.parameters()
        distances = ops.convert_to_tensor(np.arange(2**self.input_quantizer.bitwidth, dtype="float64"))
        return round_half_even(UNIT * ops.exp(-distances * ops.cast(input_scale, "float64")))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "input_quantizer": serialize(self.input_quantizer),
            "output_quantizer": serialize(self.output_quantizer),
        }
