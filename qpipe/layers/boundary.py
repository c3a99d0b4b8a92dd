"""Where real values become integers, and integers become real values."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from qpipe.integer.operators.boundary import APPLY
from qpipe.layers.linear import runs_on_integers
from qpipe.quantizers.arguments import one_of
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
        preparation: what a Rescaling or Normalization at the input does before: pairs of `add`, `subtract`,
            `multiply` or `divide` and a number, or a list with one number per channel.
        **kwargs: of the Keras layer.

    Raises:
        ValueError: for an operation that is not known.
    """

    def __init__(self, quantizer, preparation=(), **kwargs):
        super().__init__(quantizer, **kwargs)
        self.preparation = tuple(
            (one_of("preparation", name, tuple(APPLY)), np.asarray(values, np.float32)) for name, values in preparation
        )
        self._operands = [self._operand(name, values) for name, values in self.preparation]

    def call(self, x, training=None):
        x = ops.cast(x, "float32")
        for (name, _), operand in zip(self.preparation, self._operands, strict=True):
            x = getattr(ops, name)(x, operand)
        if runs_on_integers(training):
            return self.quantizer.to_integers(x)
        return self.quantizer.real(x, UNBOUNDED, training)

    def get_config(self):
        return super().get_config() | {"preparation": [(name, values.tolist()) for name, values in self.preparation]}

    def _operand(self, name, values):
        """A variable: graph compilers rearrange operations with constants, which changes their rounding."""
        return self.add_weight(
            name=name,
            shape=values.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(values, dtype),
            trainable=False,
            autocast=False,
        )


@keras.saving.register_keras_serializable("qpipe")
class Dequantize(_Boundary):
    """Returns real values: at the model's output, or before a layer that stays in float.

    Args:
        quantizer: the `OutputQuantizer` of the incoming tensor (the same object).
    """

    def call(self, x, training=None):
        return self.quantizer.to_real(x) if runs_on_integers(training) else x


@keras.saving.register_keras_serializable("qpipe")
class Requantize(keras.layers.Layer):
    """Brings a quantized tensor to another quantizer: another width, or the one that it shares in a Concatenate.

    Args:
        input_quantizer: the `OutputQuantizer` of the incoming tensor (the same object).
        output_quantizer: the `OutputQuantizer` of the result.
    """

    def __init__(self, input_quantizer, output_quantizer, **kwargs):
        super().__init__(**kwargs)
        self.input_quantizer = restore(input_quantizer)
        self.output_quantizer = restore(output_quantizer)
        self.built = True

    def call(self, x, training=None):
        if runs_on_integers(training):
            return self.output_quantizer.requantize(x, self.input_quantizer.scale / self.output_quantizer.scale)
        return self.output_quantizer.real(x, UNBOUNDED, training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "input_quantizer": serialize(self.input_quantizer),
            "output_quantizer": serialize(self.output_quantizer),
        }
