"""Quantized layers with several inputs."""

from __future__ import annotations

import keras

from qpipe.layers.activations import fused_bounds
from qpipe.layers.linear import runs_on_integers
from qpipe.quantizers.serialization import restore, serialize


@keras.saving.register_keras_serializable("qpipe")
class QAdd(keras.layers.Add):
    """Adds tensors of different scales with one rounding, a fused ReLU or ReLU6 included.

    Args:
        input_quantizers: the `OutputQuantizer` of each incoming tensor (the same objects).
        output_quantizer: `OutputQuantizer` of the sum.
        activation: `linear`, `relu` or `relu6`.
        **kwargs: of `keras.layers.Add`.
    """

    def __init__(self, input_quantizers, output_quantizer, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.input_quantizers = [restore(quantizer) for quantizer in input_quantizers]
        self.output_quantizer = restore(output_quantizer)
        self.activation = keras.activations.get(activation)
        self._bounds = fused_bounds(activation)

    def call(self, inputs, training=None):
        if not runs_on_integers(training):
            return self.output_quantizer.real(super().call(inputs), self._bounds, training)
        step = self.output_quantizer.scale
        total = sum(x * (quantizer.scale / step) for x, quantizer in zip(inputs, self.input_quantizers, strict=True))
        return self.output_quantizer.requantize(total, 1.0, self._bounds)

    def get_config(self):
        return super().get_config() | {
            "input_quantizers": [serialize(quantizer) for quantizer in self.input_quantizers],
            "output_quantizer": serialize(self.output_quantizer),
            "activation": keras.activations.serialize(self.activation),
        }
