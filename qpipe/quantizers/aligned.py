"""Quantizer of values that are added to an accumulator."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from qpipe.errors import QuantizationError
from qpipe.numerics import round_half_even, scale_for_maximum
from qpipe.quantizers.fake_quantization import fake_quantize, round_to_grid
from qpipe.quantizers.weight import BiasSteps

ROOM_FOR_ROUNDING = 2.0**-20
"""Share of a wide buffer that a raised scale leaves free, so that rounding in float32 can't leave the buffer."""

PRODUCTS = 53
"""Bits of the largest sum of products."""

SEARCHED_BITS = 27
"""Bits of a mantissa that decide about its shift."""


@keras.saving.register_keras_serializable("qpipe")
class AlignedWeightQuantizer(keras.layers.Layer):
    """Quantizes a bias on the scale of the accumulator that it is added to.

    The bias becomes a mantissa of `bitwidth` bits, shifted left by the smallest k >= 0 (one for the tensor)
    with which it sits on the accumulator's scale without saturating, as far as the buffer allows.

    The mantissa is the float32 quotient of bias and scale, rounded. Beyond 2^24 such a quotient is a whole number
    already, so that the float32 tensors of the simulation hold the very integers that `int64` returns, whatever
    the width of the buffer; the largest one of 32 bits is then 2^31 - 2^7. The layer that adds the bias to sums of
    products sets `reserved` to the largest of them, where the buffer has room for both: so no sum ever saturates.

    Args:
        bitwidth: width of the mantissa, at most `buffer_bitwidth`; None takes `buffer_bitwidth` (k is 0).
        buffer_bitwidth: width of the accumulator.

    Called while training. There a bias is rounded and not cut off where the buffer is wide; see `fits_any_bias`.

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
        self.reserved = 0

    @property
    def mantissa_bitwidth(self) -> int:
        """Width of the mantissa in bits."""
        return min(self.bitwidth or self.buffer_bitwidth, self.buffer_bitwidth)

    @property
    def highest(self) -> int:
        """Largest mantissa of those that float32 holds, with room for the products beside it: 2^53 in 64 bits."""
        bits = self.mantissa_bitwidth - 1
        room = 2 ** (self.buffer_bitwidth - 1) - 1 - self.reserved
        largest = min(2**bits - (2**PRODUCTS if bits > PRODUCTS else 1), room >> self._largest_shift)
        unit = 2 ** max(0, largest.bit_length() - 24)
        return largest // unit * unit

    @property
    def largest_integer(self) -> int:
        """Largest integer on the accumulator's scale: the largest mantissa, shifted as far as the buffer allows."""
        return self.highest * 2**self._largest_shift

    def demands(self, bias, input_scale) -> BiasSteps:
        """Returns what `bias` asks of the weight scale, so that it fits into the buffer.

        Args:
            bias: float tensor, shape (channels,).
            input_scale: of the input, a scalar.
        """
        room = 1.0 - ROOM_FOR_ROUNDING if self.mantissa_bitwidth > 20 else 1.0
        return BiasSteps(ops.abs(bias) / input_scale, self.largest_integer * room)

    @property
    def fits_any_bias(self) -> bool:
        """Whether training may leave the buffer's ends out of account.

        A buffer with more bits than float32 has holds every bias beside a live kernel. A kernel so small that its
        bias would not fit is as good as zero: at inference its scale is raised, which changes nothing that counts.
        """
        return self.buffer_bitwidth > 24

    def call(self, bias, accumulator_scale):
        if self.fits_any_bias:
            return round_to_grid(bias, accumulator_scale * self._step(bias, accumulator_scale))
        step = self._step(bias, accumulator_scale)
        return fake_quantize(bias, accumulator_scale * step, -float(self.highest), float(self.highest))

    def integer(self, bias, accumulator_scale):
        """Returns `bias` in units of the accumulator's scale, as a float32 tensor of integers."""
        step = self._step(bias, accumulator_scale)
        mantissa = round_half_even(ops.convert_to_tensor(bias) / (accumulator_scale * step))
        return ops.clip(mantissa, -float(self.highest), float(self.highest)) * step

    def int64(self, bias, accumulator_scale) -> np.ndarray:
        """Returns what `integer` returns as NumPy int64."""
        return ops.convert_to_numpy(self.integer(bias, accumulator_scale)).astype(np.int64)

    def require_fit(self, bias, accumulator_scale, layer: str) -> None:
        """Checks that every entry of `bias` fits into the buffer.

        Args:
            bias: float values, one per channel.
            accumulator_scale: as in `call`.
            layer: name of the layer, for the message.

        Raises:
            QuantizationError: naming the layer, the channel, its bias and the width that it needs; the first
                entry that is not finite, else the one that needs the most.
        """
        bias = np.asarray(ops.convert_to_numpy(bias), np.float64).reshape(-1)
        if not np.isfinite(bias).all():
            channel = int(np.argmin(np.isfinite(bias)))
            raise QuantizationError(
                f"{layer}: the bias of channel {channel} is {bias[channel]}, which no accumulator holds; "
                "allowed: finite numbers"
            )
        scale = np.broadcast_to(np.asarray(ops.convert_to_numpy(accumulator_scale), np.float64).reshape(-1), bias.shape)
        steps = np.abs(bias) / scale
        allowed = max(self.largest_integer + 0.5 * 2**self._largest_shift, self.largest_integer * (1.0 + 2.0**-22))
        if (steps <= allowed).all():
            return
        channel = int(np.argmax(steps))
        needed = int(np.ceil(steps[channel])).bit_length() + 1
        raise QuantizationError(
            f"{layer}: the bias {bias[channel]:.6g} of channel {channel} is {steps[channel]:.6g} steps of the "
            f"accumulator's scale {scale[channel]:.3g}; it needs buffer_bitwidth={needed}, received {self.described}"
        )

    @property
    def described(self) -> str:
        """The widths, as the end of a message."""
        narrow = "" if self._largest_shift == 0 else f" with a bias of {self.mantissa_bitwidth} bits"
        return f"{self.buffer_bitwidth}{narrow}"

    def get_config(self):
        return super().get_config() | {"bitwidth": self.bitwidth, "buffer_bitwidth": self.buffer_bitwidth}

    @property
    def _largest_shift(self) -> int:
        return self.buffer_bitwidth - self.mantissa_bitwidth

    def _step(self, bias, accumulator_scale):
        """2^k: the weight of the mantissa's last bit, in units of the accumulator's scale."""
        if self._largest_shift == 0:
            return 1.0
        largest = ops.max(ops.abs(ops.stop_gradient(ops.convert_to_tensor(bias))) / accumulator_scale)
        beyond = max(0, self.highest.bit_length() - SEARCHED_BITS)
        step = scale_for_maximum(largest * 2.0**-beyond, self.highest >> beyond, power_of_two=True)
        return ops.clip(step, 1.0, 2.0**self._largest_shift)
