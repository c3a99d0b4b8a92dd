"""Quantized layers with several inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from qpipe.layers.activations import fused_bounds
from qpipe.layers.linear import runs_on_integers
from qpipe.numerics import rounded_sum, sum_factors
from qpipe.quantizers.serialization import restore, serialize

_Layer: Any = keras.layers.Layer if TYPE_CHECKING else object


class QuantizedMerge(_Layer):
    """Mix-in for merging layers: a fused ReLU or ReLU6, one rounding.

    Args:
        input_quantizers: the `OutputQuantizer` of each incoming tensor (the same objects).
        output_quantizer: `OutputQuantizer` of the result.
        activation: `linear`, `relu` or `relu6`.
        **kwargs: of the Keras layer.
    """

    def __init__(self, input_quantizers, output_quantizer, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.input_quantizers = [restore(quantizer) for quantizer in input_quantizers]
        self.output_quantizer = restore(output_quantizer)
        self.activation = keras.activations.get(activation)
        self.bounds = fused_bounds(activation)

    def call(self, inputs, training=None):
        if runs_on_integers(training):
            return self.merge_integers(inputs)
        return self.output_quantizer.real(super().call(inputs), self.bounds, training)

    def merge_integers(self, inputs):
        """Returns the integers of the result, relative to its zero point."""
        raise NotImplementedError

    def get_config(self):
        return super().get_config() | {
            "input_quantizers": [serialize(quantizer) for quantizer in self.input_quantizers],
            "output_quantizer": serialize(self.output_quantizer),
            "activation": keras.activations.serialize(self.activation),
        }


class _Sum(QuantizedMerge):
    """Adds (q_i - z_i) * m_i, with a sign for each input, and rounds once; m_i is s_i / s_y in fixed point."""

    @property
    def signs(self) -> tuple[int, ...]:
        """1 for an input that is added, -1 for one that is subtracted."""
        return (1,) * len(self.input_quantizers)

    def merge_integers(self, inputs):
        step = self.output_quantizer.scale
        factors = sum_factors([q.scale / step for q in self.input_quantizers])
        signed = [sign * factor for sign, factor in zip(self.signs, factors, strict=True)]
        return self.output_quantizer.requantize(rounded_sum(inputs, signed), 1.0, self.bounds)


@keras.saving.register_keras_serializable("qpipe")
class QAdd(_Sum, keras.layers.Add):
    """Quantized `keras.layers.Add`; see `QuantizedMerge` for the arguments that it adds."""


@keras.saving.register_keras_serializable("qpipe")
class QSubtract(_Sum, keras.layers.Subtract):
    """Quantized `keras.layers.Subtract`; see `QuantizedMerge` for the arguments that it adds."""

    @property
    def signs(self) -> tuple[int, ...]:
        return (1, -1)


@keras.saving.register_keras_serializable("qpipe")
class QMultiply(QuantizedMerge, keras.layers.Multiply):
    """Quantized `keras.layers.Multiply` of two tensors: rint((q_1 - z_1) * (q_2 - z_2) * (s_1 * s_2 / s_y))."""

    def merge_integers(self, inputs):
        first, second = self.input_quantizers
        multiplier = first.scale * second.scale / self.output_quantizer.scale
        return self.output_quantizer.requantize(inputs[0] * inputs[1], multiplier, self.bounds)
