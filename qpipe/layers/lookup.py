"""Activations that are no clamp: a table over all integers of the input."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from qpipe.layers.activations import activation_name, fused_bounds
from qpipe.layers.elementwise import FUNCTIONS, elementwise_function
from qpipe.layers.linear import runs_on_integers
from qpipe.numerics import round_half_even
from qpipe.quantizers.observation import current_observation
from qpipe.quantizers.serialization import restore, serialize

TIE_GRID = 2.0**20
"""Values are rounded to multiples of 2^-20 before they are rounded to integers: see `QActivation`."""


@keras.saving.register_keras_serializable("qpipe")
class QActivation(keras.layers.Layer):
    """A function of single values on a quantized tensor.

    In training: output_quantizer(function(x)) on real values. On integers: a table with one entry for each input
    integer, clip(rint(function(s_x * (q - z_x)) / s_y) + z_y), the function in float64, one rounding to nearest even.
    It is computed from the quantizers' present parameters with every call. Values nearer to a tie than 2^-21 count as
    ties, so that the last bits of a mathematical library decide nothing.

    Args:
        activation: the function: an activation of Keras by name or function, an activation layer, or an
            `ElementwiseFunction`.
        input_quantizer: the `OutputQuantizer` of the incoming tensor (the same object).
        output_quantizer: `OutputQuantizer` of the result.
        clamp: a fused `relu`, `relu6` or `CappedReLU` behind the function; None clamps nothing.
        **kwargs: of the Keras layer.

    Raises:
        ValueError: if the activation is not an elementwise function that qpipe knows, or `clamp` is not a clamp.
    """

    def __init__(self, activation, input_quantizer, output_quantizer, clamp=None, **kwargs):
        super().__init__(**kwargs)
        function = elementwise_function(activation)
        if function is None:
            raise ValueError(
                f"{self.name}: activation {activation_name(activation)!r} is not an elementwise function that has a "
                "table; allowed: " + ", ".join(repr(name) for name in FUNCTIONS)
            )
        self.function = function
        self.clamp = keras.activations.get(clamp)
        bounds = fused_bounds(self.clamp)
        if bounds is None:
            raise ValueError(
                f"{self.name}: clamp={activation_name(self.clamp)!r} is not allowed; give 'relu', 'relu6' or "
                "a CappedReLU"
            )
        self.bounds = bounds
        self.input_quantizer = restore(input_quantizer)
        self.output_quantizer = restore(output_quantizer)
        self.built = True

    def call(self, x, training=None):
        if runs_on_integers(training):
            return self._look_up(x)
        return self.output_quantizer.real(self.function(x), self.bounds, training)

    def rounded_table(self):
        """Returns the rounded function at every input integer, the lowest first, before any clamp.

        Returns:
            Float32 tensor of shape (2^b,): whole numbers in units of the output's scale, relative to its zero point.
        """
        input_scale, input_zero_point = (ops.cast(value, "float64") for value in self.input_quantizer.parameters())
        output_scale, _ = self.output_quantizer.parameters()
        lowest, highest = self.input_quantizer.integers
        integers = ops.convert_to_tensor(np.arange(lowest, highest + 1, dtype="float64"))
        steps = self.function((integers - input_zero_point) * input_scale) / ops.cast(output_scale, "float64")
        return ops.cast(round_half_even(round_half_even(steps * TIE_GRID) / TIE_GRID), "float32")

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "activation": keras.saving.serialize_keras_object(self.function),
            "input_quantizer": serialize(self.input_quantizer),
            "output_quantizer": serialize(self.output_quantizer),
            "clamp": keras.activations.serialize(self.clamp),
        }

    def _look_up(self, x):
        _, zero_point = self.input_quantizer.parameters()
        index = ops.cast(x + (zero_point - float(self.input_quantizer.integers.lowest)), "int32")
        rounded = self.rounded_table()
        if current_observation() is not None:
            return self.output_quantizer.requantize(ops.take(rounded, index), 1.0, self.bounds)
        return ops.take(self.output_quantizer.requantize(rounded, 1.0, self.bounds), index)
