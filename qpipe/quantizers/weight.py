"""Quantizer of kernels."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from qpipe.errors import QuantizationError
from qpipe.numerics import round_half_even, scale_for_maximum
from qpipe.quantizers.arguments import one_of, whole_number
from qpipe.quantizers.learned_step import learned_fake_quantize, learned_scale
from qpipe.quantizers.stochastic_rounding import stochastic_fake_quantize
from qpipe.quantizers.weight_grids import (
    BinaryGrid,
    KernelAxes,
    PowerOfTwoGrid,
    TernaryGrid,
    UniformGrid,
    WeightGrid,
)


class BiasSteps(NamedTuple):
    """A bias, as far as the kernel's scale depends on it.

    Attributes:
        steps: magnitude of each channel's bias divided by the input's scale, shape (channels,).
        largest: largest integer that a bias may be on the accumulator's scale.
    """

    steps: Any
    largest: float


NEGLIGIBLE_BIAS = BiasSteps(2.0**-80, math.inf)
"""A bias that asks nothing of the scale; a kernel of zeros takes a scale so fine that any bias lies on its grid."""


class KindOfWeights(NamedTuple):
    """Widths that a kind of weights can have, the one that it has by default, and its default scale."""

    narrowest: int
    widest: int
    bitwidth: int
    scale: str


KINDS = {
    "uniform": KindOfWeights(2, 16, 8, "float"),
    "po2": KindOfWeights(2, 5, 4, "power_of_two"),
    "ternary": KindOfWeights(2, 2, 2, "float"),
    "binary": KindOfWeights(1, 1, 1, "float"),
}


@keras.saving.register_keras_serializable("qpipe")
class WeightQuantizer(keras.layers.Layer):
    """Quantizes a kernel to signed integers on one scale, or on one per output channel.

    The scale follows the weights while `fixed` is false. `fix` stores it with the model; from then on it is
    never derived again, neither in training nor on loading. With `learned_step` the stored scale is trained
    after `release`.

    Args:
        bitwidth: of the packed weights; None takes the kind's: `uniform` 8 (2 to 16), `po2` 4 (2 to 5),
            `ternary` 2, `binary` 1.
        per_channel: one scale per output channel, else one for the tensor.
        range: for `uniform`: `max` takes the largest magnitude, `mse` the clipping that minimizes the squared
            error; `output_mse` does so until `qpipe.calibrate` or `qpipe.adaround` sets the scale with the least
            error of the layer's output. Other kinds choose their own scale and take `max` only.
        scale: `float`, or `power_of_two` for fixed point; None takes the kind's: `power_of_two` for `po2`, which
            has no other, else `float`.
        channel_axes: axes of the kernel that make up an output channel: (-1,), depthwise (-2, -1).
        fixed: whether the stored scale is used as it is.
        kind: `uniform` (-(2^(b-1) - 1) ... 2^(b-1) - 1), `po2` (0 and powers of two), `ternary` (-1, 0, 1) or
            `binary` (-1, 1); see `qpipe.quantizers.weight_grids`.
        rounding: `nearest`, or `stochastic` while training; `uniform` only.
        learned_step: whether the scale is trained (LSQ, arXiv 1902.08153); `uniform` with float scales only.
        learning: whether a learned step has left the scale that it started from.
        seed: of stochastic rounding; None draws one from Keras' global seed.

    Call arguments:
        kernel: float tensor of the shape that `build` was given.
        training: whether stochastic rounding applies and a learned step learns.

    Returns:
        Tensor of that shape, on the quantizer's grid.

    Raises:
        ValueError: for an argument that is unknown, or that the kind has no use for.
    """

    def __init__(
        self,
        bitwidth: int | None = None,
        per_channel: bool = True,
        range: str = "max",
        scale: str | None = None,
        channel_axes=(-1,),
        fixed: bool = False,
        kind: str = "uniform",
        rounding: str = "nearest",
        learned_step: bool = False,
        learning: bool = False,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.kind = one_of("kind", kind, tuple(KINDS))
        known = KINDS[kind]
        self.bitwidth = whole_number(
            f"bitwidth of kind={kind!r}",
            known.bitwidth if bitwidth is None else bitwidth,
            known.narrowest,
            known.widest,
        )
        self.per_channel = per_channel
        self.range = one_of("range", range, ("max", "mse", "output_mse"))
        self.scale_kind = one_of("scale", known.scale if scale is None else scale, ("float", "power_of_two"))
        self.channel_axes = tuple(channel_axes)
        self.fixed = fixed
        self.rounding = one_of("rounding", rounding, ("nearest", "stochastic"))
        self.learned_step = learned_step
        self.learning = learning
        self.seed = seed
        self._refuse_what_does_not_combine()
        self.grid = self._make_grid()
        self.integers = self.grid.integers
        self._random = keras.random.SeedGenerator(seed) if rounding == "stochastic" else None

    def build(self, kernel_shape):
        """Creates the stored scale; `kernel_shape` is the shape of the kernel, e.g. (height, width, in, out)."""
        rank = len(kernel_shape)
        channel = {axis % rank for axis in self.channel_axes}
        within = tuple(axis for axis in range(rank) if axis not in channel)
        self._axes = KernelAxes(within if self.per_channel else tuple(range(rank)), within)
        self._kernel_shape = tuple(kernel_shape)
        shape = tuple(1 if axis in self._axes.of_scale else size for axis, size in enumerate(kernel_shape))
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones", trainable=False, autocast=False)
        if self.learned_step:
            self.log_step = self.add_weight(
                name="log_step", shape=shape, initializer="zeros", trainable=True, autocast=False
            )
        self.built = True

    def scale_of(self, kernel, bias: BiasSteps | None = None):
        """Returns the scale for `kernel`, shape as the kernel with 1 on every axis that shares a scale.

        Args:
            kernel: float tensor.
            bias: what is added to the accumulator. The scale is raised where it would not fit there, unless it
                can't be (it is fixed; or the kind is ternary or binary, whose scale is the weights' magnitude). An
                all-zero channel takes the scale on which its bias is the largest integer, 1 if that is 0 too.
        """
        if self.fixed:
            return ops.convert_to_tensor(self.scale)
        of_bias = None if bias is None else self._per_kernel(bias.steps)
        scale = learned_scale(self.scale, self.log_step) if self.learning else self._derived_scale(kernel, of_bias)
        if bias is None or bias is NEGLIGIBLE_BIAS or not self.grid.scale_can_be_raised:
            return scale
        return ops.maximum(scale, self._lowest(of_bias, bias.largest))

    def raised_channels(self, kernel, bias: BiasSteps) -> np.ndarray:
        """Returns for each output channel whether its scale was raised so that its bias fits: bool (channels,).

        Args:
            kernel: float values, as `scale_of` takes them.
            bias: as in `scale_of`.
        """
        usual = self._derived_scale(kernel, self._per_kernel(bias.steps))
        usual, actual, steps = (
            np.ravel(ops.convert_to_numpy(value)) for value in (usual, self.scale_of(kernel, bias), bias.steps)
        )
        return (steps / bias.largest > usual) & (actual > usual)

    def call(self, kernel, training=False):
        return self.fake(kernel, self.scale_of(kernel), training)

    def fake(self, kernel, scale, training=False):
        """Returns `kernel` on the grid of `scale`, with the straight-through gradient.

        Args:
            kernel: float tensor.
            scale: as `scale_of` gives it.
            training: whether stochastic rounding applies and a learned step learns.

        Raises:
            QuantizationError: if a step is to be learned before a calibration gave it a start.
        """
        lowest, highest = (float(end) for end in self.integers)
        if training and self.learned_step and not self.fixed:
            if not self.learning:
                raise QuantizationError(
                    f"{self.name}: a learned step starts from a calibration; run it before training"
                )
            values = math.prod(self._kernel_shape) / math.prod(self.scale.shape)
            return learned_fake_quantize(kernel, scale, lowest, highest, 1.0 / math.sqrt(values * highest))
        if training and self._random is not None:
            return stochastic_fake_quantize(kernel, scale, lowest, highest, self._random)
        return self.grid.fake(kernel, scale, self._axes, derived=not (self.fixed or self.learning))

    def integer(self, kernel, scale):
        """Returns the integers of `kernel` on the grid of `scale`, as a float32 tensor."""
        return self.grid.integer(ops.convert_to_tensor(kernel), scale, self._axes)

    def cut_off(self, kernel, scale) -> int:
        """Returns how many weights lie beyond the ends of a uniform grid; other kinds cut nothing off."""
        if self.kind != "uniform":
            return 0
        steps = round_half_even(np.abs(ops.convert_to_numpy(kernel)) / ops.convert_to_numpy(scale))
        return int(np.count_nonzero(steps > self.integers.highest))

    @property
    def integer_bitwidth(self) -> int:
        """Bits that the integers themselves take, as opposed to their packed form: 16 for `po2` of 5 bits."""
        return self.integers.highest.bit_length() + 1

    def fix(self, kernel, bias: BiasSteps | None = None):
        """Stores the scale of `kernel`; it stays as it is until `release`.

        A learned step is stored as it is, bit for bit; the arguments are those of `scale_of`.
        """
        self.fixed = False
        self.scale.assign(self.scale_of(kernel, bias))
        if self.learned_step:
            self.log_step.assign(ops.zeros_like(self.log_step))
        self.fixed, self.learning = True, False

    def release(self):
        """Lets the scale follow the kernel again, or learn from where it is."""
        self.learning = self.learning or (self.learned_step and self.fixed)
        self.fixed = False

    def get_config(self):
        return super().get_config() | {
            "bitwidth": self.bitwidth,
            "per_channel": self.per_channel,
            "range": self.range,
            "scale": self.scale_kind,
            "channel_axes": list(self.channel_axes),
            "fixed": self.fixed,
            "kind": self.kind,
            "rounding": self.rounding,
            "learned_step": self.learned_step,
            "learning": self.learning,
            "seed": self.seed,
        }

    def _make_grid(self) -> WeightGrid:
        power_of_two = self.scale_kind == "power_of_two"
        if self.kind == "po2":
            return PowerOfTwoGrid(self.bitwidth)
        if self.kind == "ternary":
            return TernaryGrid(power_of_two=power_of_two)
        if self.kind == "binary":
            return BinaryGrid(power_of_two=power_of_two)
        return UniformGrid(self.bitwidth, least_squares=self.range != "max", power_of_two=power_of_two)

    def _refuse_what_does_not_combine(self) -> None:
        if self.kind == "po2":
            one_of("scale of kind='po2'", self.scale_kind, ("power_of_two",))
        if self.kind != "uniform":
            one_of(f"range of kind={self.kind!r}", self.range, ("max",))
            one_of(f"rounding of kind={self.kind!r}", self.rounding, ("nearest",))
        if not self.learned_step:
            return
        if self.kind != "uniform" or self.scale_kind != "float":
            raise ValueError(
                f"learned_step=True can't be combined with kind={self.kind!r} and scale={self.scale_kind!r}; "
                "allowed: kind='uniform' with scale='float'"
            )
        one_of("rounding with learned_step=True", self.rounding, ("nearest",))

    def _derived_scale(self, kernel, of_bias):
        return self.grid.scale_of(ops.stop_gradient(ops.convert_to_tensor(kernel)), self._axes, of_bias)

    def _lowest(self, of_bias, largest: float):
        """Returns the scale below which the bias would not fit; a power of two where the scale is one."""
        lowest = of_bias * (1.0 / largest)
        if self.scale_kind == "power_of_two":
            return ops.where(lowest > 0.0, scale_for_maximum(lowest, 1, power_of_two=True), 0.0)
        return lowest

    def _per_kernel(self, per_channel):
        """Brings one value per output channel, or one for all, to the shape of the scale."""
        if isinstance(per_channel, float):
            return per_channel
        per_channel = ops.stop_gradient(ops.convert_to_tensor(per_channel))
        if self.per_channel:
            return ops.reshape(per_channel, self.scale.shape)
        return ops.reshape(ops.max(per_channel), self.scale.shape)
