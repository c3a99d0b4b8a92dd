"""Quantizer of values that are added to an accumulator."""

from __future__ import annotations

import keras
from keras import ops

from qpipe.numerics import round_half_even
from qpipe.quantizers.fake_quantization import fake_quantize


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
        """Largest mantissa, as far as float32 holds it."""
        return _highest_in_float32(self.mantissa_bitwidth)

    def smallest_weight_scale(self, bias, input_scale):
        """Returns the weight scale below which `bias` would not fit into the buffer, of the shape of `bias`."""
        return ops.abs(bias) / (input_scale * self._buffer_highest)

    def call(self, bias, accumulator_scale):
        step = self._step(bias, accumulator_scale)
        highest = self._highest_mantissa(step)
        return fake_quantize(bias, accumulator_scale * step, -highest, highest)

    def integer(self, bias, accumulator_scale):
        """Returns `bias` in units of the accumulator's scale, as a float32 tensor of integers."""
        step = self._step(bias, accumulator_scale)
        highest = self._highest_mantissa(step)
        return ops.clip(round_half_even(bias / (accumulator_scale * step)), -highest, highest) * step

    def get_config(self):
        return super().get_config() | {"bitwidth": self.bitwidth, "buffer_bitwidth": self.buffer_bitwidth}

    def _step(self, bias, accumulator_scale):
        """2^k: the weight of the mantissa's last bit, in units of the accumulator's scale."""
        if self.mantissa_bitwidth == self.buffer_bitwidth:
            return 1.0
        needed = ops.max(ops.abs(ops.stop_gradient(bias)) / accumulator_scale) / float(self.highest)
        largest = float(self.buffer_bitwidth - self.mantissa_bitwidth)
        return ops.power(2.0, ops.clip(ops.ceil(ops.log2(ops.maximum(needed, 1e-30))), 0.0, largest))

    def _highest_mantissa(self, step):
        """Largest mantissa that stays inside the buffer when it is shifted."""
        return ops.minimum(float(self.highest), ops.floor(self._buffer_highest / step))

    @property
    def _buffer_highest(self) -> float:
        return float(_highest_in_float32(self.buffer_bitwidth))


def _highest_in_float32(bitwidth: int) -> int:
    """Largest integer of `bitwidth` bits that float32, with its 24 significant bits, holds exactly."""
    return 2 ** (bitwidth - 1) - 2 ** max(0, bitwidth - 1 - 24)
