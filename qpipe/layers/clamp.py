"""A ReLU with a cap that no layer before it takes in."""

from __future__ import annotations

import math

import keras
from keras import ops

from qpipe.layers.activations import activation_name, fused_bounds
from qpipe.layers.linear import runs_on_integers
from qpipe.numerics import round_half_even
from qpipe.quantizers.observation import current_observation
from qpipe.quantizers.output import UNBOUNDED
from qpipe.quantizers.serialization import restore, serialize


@keras.saving.register_keras_serializable("qpipe")
class QClamp(keras.layers.Layer):
    """A ReLU, ReLU6 or `CappedReLU` that keeps its input's quantizer: integers from 0 to rint(cap / s), relative to z.

    Args:
        activation: `relu`, `relu6` or a `CappedReLU`.
        input_quantizer: the `OutputQuantizer` of the incoming tensor (the same object).
        **kwargs: of the Keras layer.

    Raises:
        ValueError: if the activation is no clamp.
    """

    def __init__(self, activation, input_quantizer, **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        bounds = fused_bounds(self.activation)
        if bounds is None or bounds == UNBOUNDED:
            raise ValueError(
                f"{self.name}: activation {activation_name(self.activation)!r} is not allowed; give 'relu', 'relu6' or "
                "a CappedReLU"
            )
        self.bounds = bounds
        self.input_quantizer = restore(input_quantizer)
        self.built = True

    def call(self, x, training=None):
        cap = self.bounds[1]
        if math.isinf(cap):
            return ops.relu(x)
        if runs_on_integers(training):
            scale, _ = self.input_quantizer.parameters()
            return ops.clip(x, 0.0, round_half_even(cap / scale))
        if current_observation() is not None:
            return self.activation(x)
        scale = ops.convert_to_tensor(self.input_quantizer.scale)
        return ops.clip(x, 0.0, round_half_even(cap / scale) * scale)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "activation": keras.activations.serialize(self.activation),
            "input_quantizer": serialize(self.input_quantizer),
        }
