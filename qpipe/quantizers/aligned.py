"""Quantizer of values that are added to an accumulator."""

from __future__ import annotations

import keras
from keras import ops

from qpipe.numerics import integer_range
from qpipe.quantizers.fake_quantization import fake_quantize

LARGEST_FLOAT32_BELOW_2_31 = 2**31 - 128


@keras.saving.register_keras_serializable("qpipe")
class AlignedWeightQuantizer(keras.layers.Layer):
    """Quantizes a bias on the scale of the accumulator that it is added to.

    The bias becomes a mantissa of `bitwidth` bits, shifted left by the smallest k >= 0 (one for the tensor)
    with which it sits on the accumulator's scale without saturating, as far as the buffer allows.

    Args:
        bitwidth: width of the mantissa, at most `buffer_bitwidth`; None takes `buffer_bitwidth` (k is 0).
        buffer_bitwidth: width of the accumulator.

    Call arguments:
        bias: float tensor, one value per channel.
        accumulator_scale: positive float tensor that broadcasts against `bias`: input scale * weight scale.

    Returns:
        Tensor of the shape of `bias`, on the accumulator's grid.
    """

    def __init__(self, bitwidth: int | None = None, buffer_bitwidth: int = 32, **kwargs):
        super().__init__(**kwargs)
        self.bitwidth = bitwidth
        self.buffer_bitwidth = buffer_bitwidth

    @property
    def mantissa_bitwidth(self) -> int:
        """Width of the mantissa in bits."""
        return min(self.bitwidth or self.buffer_bitwidth, self.buffer_bitwidth)

    @property
    def highest(self) -> int:
        """Largest mantissa; of 32 bits and more the largest one that float32 holds."""
        return min(integer_range(self.mantissa_bitwidth).highest, LARGEST_FLOAT32_BELOW_2_31)

    def smallest_weight_scale(self, bias, input_scale):
        """Returns the weight scale below which `bias` would not fit into the buffer, of the shape of `bias`."""
        largest = min(integer_range(self.buffer_bitwidth).highest, LARGEST_FLOAT32_BELOW_2_31)
        return ops.abs(bias) / (input_scale * float(largest))

    def call(self, bias, accumulator_scale):
        step = self._step(bias, accumulator_scale)
        return fake_quantize(bias, accumulator_scale * step, -float(self.highest), float(self.highest))

    def integer(self, bias, accumulator_scale):
        """Returns `bias` in units of the accumulator's scale, as a float32 tensor of integers."""
        step = self._step(bias, accumulator_scale)
        mantissa = ops.round(bias / (accumulator_scale * step))
        return ops.clip(mantissa, -float(self.highest), float(self.highest)) * step

    def get_config(self):
        return super().get_config() | {"bitwidth": self.bitwidth, "buffer_bitwidth": self.buffer_bitwidth}

    def _step(self, bias, accumulator_scale):
        """2^k: the weight of the mantissa's last bit, in units of the accumulator's scale."""
        if self.mantissa_bitwidth == self.buffer_bitwidth:
            return 1.0
        needed = ops.max(ops.abs(ops.stop_gradient(bias)) / accumulator_scale) / float(self.highest)
        return ops.power(2.0, ops.maximum(0.0, ops.ceil(ops.log2(ops.maximum(needed, 1e-30)))))
