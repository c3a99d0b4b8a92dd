"""Quantizer of kernels."""

from __future__ import annotations

import keras
from keras import ops

from qpipe.numerics import integer_range, round_half_even, scale_for_maximum
from qpipe.quantizers.arguments import one_of
from qpipe.quantizers.fake_quantization import fake_quantize

MSE_CANDIDATES = 40
SMALLEST_MSE_SHARE = 0.3


@keras.saving.register_keras_serializable("qpipe")
class WeightQuantizer(keras.layers.Layer):
    """Quantizes a kernel to signed, narrow integers on one scale, or on one per output channel.

    The scale follows the weights while `fixed` is false. `fix` stores it with the model; from then on it is
    never derived again, neither in training nor on loading.

    Args:
        bitwidth: 2 to 16; integers are -(2^(b-1) - 1) ... 2^(b-1) - 1.
        per_channel: one scale per output channel, else one for the tensor.
        range: `max` takes the largest magnitude; `mse` the clipping that minimizes the squared error.
        scale: `float`, or `power_of_two` for fixed point.
        channel_axes: axes of the kernel that make up an output channel: (-1,), depthwise (-2, -1).
        fixed: whether the stored scale is used as it is.

    Call arguments:
        kernel: float tensor of the shape that `build` was given.

    Returns:
        Tensor of that shape, on the quantizer's grid.
    """

    def __init__(
        self,
        bitwidth: int = 8,
        per_channel: bool = True,
        range: str = "max",
        scale: str = "float",
        channel_axes=(-1,),
        fixed: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.bitwidth = bitwidth
        self.per_channel = per_channel
        self.range = one_of("range", range, ("max", "mse"))
        self.scale_kind = one_of("scale", scale, ("float", "power_of_two"))
        self.channel_axes = tuple(channel_axes)
        self.fixed = fixed
        self.integers = integer_range(bitwidth, narrow=True)

    def build(self, kernel_shape):
        """Creates the stored scale; `kernel_shape` is the shape of the kernel, e.g. (height, width, in, out)."""
        kept = {axis % len(kernel_shape) for axis in self.channel_axes} if self.per_channel else set()
        self._reduced_axes = tuple(axis for axis in range(len(kernel_shape)) if axis not in kept)
        self.scale = self.add_weight(
            name="scale",
            shape=tuple(size if axis in kept else 1 for axis, size in enumerate(kernel_shape)),
            initializer="ones",
            trainable=False,
            autocast=False,
        )
        self.built = True

    def scale_of(self, kernel, smallest=None):
        """Returns the scale for `kernel`, shape as the kernel with 1 on every axis that shares a scale.

        Args:
            kernel: float tensor.
            smallest: lower bound of the scale for each output channel, shape (channels,), below which a bias on
                the accumulator's scale would not fit.
        """
        if self.fixed:
            return ops.convert_to_tensor(self.scale)
        kernel = ops.stop_gradient(kernel)
        maximum = ops.max(ops.abs(kernel), axis=self._reduced_axes, keepdims=True)
        if self.range == "mse":
            maximum = self._least_squares_maximum(kernel, maximum)
        if smallest is not None:
            maximum = ops.maximum(maximum, self._per_kernel(ops.stop_gradient(smallest)) * self.integers.highest)
        return self._scale_for(maximum)

    def call(self, kernel):
        return self.fake(kernel, self.scale_of(kernel))

    def fake(self, kernel, scale):
        """Returns `kernel` on the grid of `scale`, with the straight-through gradient."""
        lowest, highest = self.integers
        return fake_quantize(kernel, scale, float(lowest), float(highest))

    def integer(self, kernel, scale):
        """Returns the integers of `kernel` on the grid of `scale`, as a float32 tensor."""
        return ops.clip(round_half_even(kernel / scale), *self.integers)

    def fix(self, kernel, smallest=None):
        """Stores the scale of `kernel`; it stays as it is until `release`."""
        self.fixed = False
        self.scale.assign(self.scale_of(kernel, smallest))
        self.fixed = True

    def release(self):
        """Lets the scale follow the kernel again."""
        self.fixed = False

    def get_config(self):
        return super().get_config() | {
            "bitwidth": self.bitwidth,
            "per_channel": self.per_channel,
            "range": self.range,
            "scale": self.scale_kind,
            "channel_axes": list(self.channel_axes),
            "fixed": self.fixed,
        }

    def _scale_for(self, maximum):
        return scale_for_maximum(maximum, self.integers.highest, power_of_two=self.scale_kind == "power_of_two")

    def _per_kernel(self, per_channel):
        """Brings one value per output channel to the shape of the scale."""
        if self.per_channel:
            return ops.reshape(per_channel, self.scale.shape)
        return ops.max(per_channel)

    def _least_squares_maximum(self, kernel, maximum):
        """Searches the clipping maximum with the least squared error over shares of the largest magnitude."""

        def try_share(step, best):
            best_maximum, best_error = best
            share = 1.0 - (1.0 - SMALLEST_MSE_SHARE) * ops.cast(step, "float32") / (MSE_CANDIDATES - 1)
            candidate = maximum * share
            scale = self._scale_for(candidate)
            error = ops.square(self.integer(kernel, scale) * scale - kernel)
            error = ops.sum(error, axis=self._reduced_axes, keepdims=True)
            better = error < best_error
            return ops.where(better, candidate, best_maximum), ops.where(better, error, best_error)

        unknown = ops.full_like(maximum, float("inf"))
        return ops.fori_loop(0, MSE_CANDIDATES, try_share, (maximum, unknown))[0]
