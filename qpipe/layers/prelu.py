"""A ReLU whose negative slopes are trained."""

from __future__ import annotations

import keras
from keras import ops

from qpipe.layers.activations import fused_bounds
from qpipe.layers.linear import runs_on_integers
from qpipe.quantizers import WeightQuantizer
from qpipe.quantizers.observation import Arithmetic, current_observation
from qpipe.quantizers.serialization import restore, serialize


@keras.saving.register_keras_serializable("qpipe")
class QPReLU(keras.layers.PReLU):
    """Quantized `keras.layers.PReLU`: integers above the zero point, and slope times integer below it.

    rint((q - z_x) * s_x / s_y) for q >= z_x, else rint((q - z_x) * a * (s_a * s_x / s_y)) with the slope's integer a:
    one rounding, multipliers in float32.

    Args:
        slope_quantizer: `WeightQuantizer` of the slopes (the variable `alpha`), on one scale or one for each channel.
        input_quantizer: the `OutputQuantizer` of the incoming tensor (the same object).
        output_quantizer: `OutputQuantizer` of the result.
        activation: a fused `relu`, `relu6` or `CappedReLU` behind it; None clamps nothing.
        **kwargs: of the Keras layer.
    """

    def __init__(self, slope_quantizer, input_quantizer, output_quantizer, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.slope_quantizer: WeightQuantizer = restore(slope_quantizer)
        self.input_quantizer = restore(input_quantizer)
        self.output_quantizer = restore(output_quantizer)
        self.activation = keras.activations.get(activation)
        self.bounds = fused_bounds(activation)

    def build(self, input_shape):
        """Creates the slopes and their scale."""
        super().build(input_shape)
        if not self.slope_quantizer.built:
            self.slope_quantizer.build(tuple(self.alpha.shape))

    def call(self, x, training=None):
        if runs_on_integers(training):
            slopes, scale = self.integer_slopes()
            source, step = self.input_quantizer.scale, self.output_quantizer.scale
            positive, negative = source / step, scale * source / step
            above = x >= 0.0
            multiplier = ops.where(above, positive, negative)
            return self.output_quantizer.requantize(ops.where(above, x, x * slopes), multiplier, self.bounds)
        x = ops.cast(x, self.compute_dtype)
        slopes = ops.cast(self._slopes_on_grid(training), self.compute_dtype)
        return self.output_quantizer.real(ops.where(x >= 0.0, x, x * slopes), self.bounds, training)

    def integer_slopes(self):
        """Returns the slopes' integers, shape of `alpha`, and their scale; float32 tensors."""
        alpha = ops.convert_to_tensor(self.alpha)
        scale = self.slope_quantizer.scale_of(alpha)
        return self.slope_quantizer.integer(alpha, scale), scale

    def get_config(self):
        return super().get_config() | {
            "slope_quantizer": serialize(self.slope_quantizer),
            "input_quantizer": serialize(self.input_quantizer),
            "output_quantizer": serialize(self.output_quantizer),
            "activation": keras.activations.serialize(self.activation),
        }

    def _slopes_on_grid(self, training):
        observation = current_observation()
        if observation is not None and observation.arithmetic is Arithmetic.float:
            return self.alpha
        return self.slope_quantizer(ops.convert_to_tensor(self.alpha), training=training)
