"""A batch normalization that could not be folded, quantized as y = a * x + b."""

from __future__ import annotations

from typing import Any

import keras

from qpipe.layers.batch_statistics import BatchStatistics
from qpipe.layers.linear import QuantizedLinear
from qpipe.quantizers import AlignedWeightQuantizer, OutputQuantizer, WeightQuantizer


class _Affine(keras.layers.Layer):
    """The part of a Keras layer that `QuantizedLinear` expects: an activation, no bias."""

    bias = None

    def __init__(self, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        self.built = True

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"activation": keras.activations.serialize(self.activation)}


@keras.saving.register_keras_serializable("qpipe")
class QuantizedBatchNormalization(BatchStatistics, QuantizedLinear, _Affine):
    """Quantized batch normalization: a = gamma / sqrt(variance + epsilon), b = beta - mean * a.

    gamma, beta and the moving statistics stay the layer's variables; a and b are quantized, b on the
    accumulator's scale. While training, batch statistics are used until `ema_freeze_delay` steps are over.

    Args:
        quant_config: dictionary with `a_quantizer` (default 8 bits, one scale), `b_quantizer` (default: the
            buffer's width), `buffer_bitwidth` (default 32) and `output_quantizer`; each a quantizer or the
            dictionary of its arguments.
        activation: `linear`, `relu` or `relu6`, fused with the output quantizer.
        input_quantizer: the `OutputQuantizer` of the incoming tensor (the same object).
        **kwargs: as in `keras.layers.BatchNormalization`, and `ema_freeze_delay`.
    """

    def __init__(self, quant_config: dict | None = None, activation=None, input_quantizer=None, **kwargs):
        given = {name: kwargs.pop(name) for name in _QUANTIZER_ARGUMENTS if name in kwargs}
        if given and quant_config:
            raise ValueError(f"quant_config can't be combined with {sorted(given)}; put them into quant_config")
        given = given or _from_quant_config(dict(quant_config or {}))
        super().__init__(activation=activation, input_quantizer=input_quantizer, **given, **kwargs)

    def build(self, input_shape):
        """Creates the variables of the normalization and the scale of `a`."""
        axis = self.axis[0] if isinstance(self.axis, list | tuple) else self.axis
        if axis not in (-1, len(input_shape) - 1):
            raise ValueError(f"{self.name}: axis={self.axis} of the shape {input_shape} is not the last axis")
        self.build_statistics(input_shape[-1])
        if self.kernel_quantizer is not None and not self.kernel_quantizer.built:
            self.kernel_quantizer.build((input_shape[-1],))
        self.built = True

    @property
    def products_per_output(self) -> int:
        """One product per output."""
        return 1

    def linear_op(self, x, kernel):
        return x * kernel

    def folded_weights(self):
        """Returns the float vectors (a, b), of the moving statistics."""
        return self.factors(*self.moving_moments())

    def call(self, x, training=None):
        y = self.choose(
            training,
            lambda: self.accumulate(x, self.factors(*self.batch_moments(x)), training),
            lambda: self.accumulate(x, self.folded_weights(), training),
        )
        return self.finish(y, training)


_A_DEFAULTS: dict[str, Any] = {"per_channel": False}
_QUANTIZER_ARGUMENTS = ("kernel_quantizer", "bias_quantizer", "output_quantizer", "buffer_bitwidth")


def _from_quant_config(config: dict) -> dict:
    buffer = config.pop("buffer_bitwidth", 32)
    a: dict[str, Any] = config.pop("a_quantizer", {})
    b = config.pop("b_quantizer", {})
    output = config.pop("output_quantizer", None)
    if config:
        raise ValueError(
            f"quant_config has the unknown keys {sorted(config)}; "
            "allowed: 'a_quantizer', 'b_quantizer', 'buffer_bitwidth', 'output_quantizer'"
        )
    return {
        "kernel_quantizer": WeightQuantizer(**_A_DEFAULTS | a) if isinstance(a, dict) else a,
        "bias_quantizer": AlignedWeightQuantizer(**{"buffer_bitwidth": buffer} | b) if isinstance(b, dict) else b,
        "output_quantizer": OutputQuantizer(**output) if isinstance(output, dict) else output,
        "buffer_bitwidth": buffer,
    }
