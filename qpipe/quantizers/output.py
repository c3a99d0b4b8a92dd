"""Quantizer of activations."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from qpipe.errors import QuantizationError
from qpipe.numerics import (
    QuantizedFormat,
    affine_parameters,
    integer_range,
    round_half_even,
    scale_for_maximum,
    storage_offset,
)
from qpipe.quantizers.arguments import one_of, whole_number
from qpipe.quantizers.backend import clip, read_now
from qpipe.quantizers.fake_quantization import fake_quantize_activation, fake_quantize_from_zero
from qpipe.quantizers.freezing import until_frozen
from qpipe.quantizers.learned_step import learned_fake_quantize, learned_scale
from qpipe.quantizers.observation import Arithmetic, current_observation
from qpipe.quantizers.stochastic_rounding import stochastic_fake_quantize
from qpipe.quantizers.tracked_range import TrackedRange

UNBOUNDED = (-math.inf, math.inf)


@keras.saving.register_keras_serializable("qpipe")
class OutputQuantizer(keras.layers.Layer):
    """Quantizes an activation: one scale and one zero point for the tensor.

    The range comes from calibration (`set_range`), or is tracked while training: the first batch sets it,
    later ones move it with `momentum`, until `ema_freeze_delay` training steps are over or `fix` is called. A step
    quantizes with the range that the steps before it gave; `settle` takes in the last one.
    Where several layers produce the tensor (members of a Concatenate), the range of a step is the union of theirs.

    Args:
        bitwidth: 2 to 16.
        symmetric: zero point 0; otherwise the zero point is an integer of the range, so that 0 is exact.
        range: how calibration chooses the range: `minmax`, `ema`, `percentile`, `mse`.
        scale: `float`, or `power_of_two` for fixed point.
        signed: whether values can be negative; a symmetric quantizer of values that can't is unsigned.
        momentum: of the moving range while training.
        ema_freeze_delay: training steps after which the range stays as it is; None tracks to the end.
        fixed: whether the range stays as it is.
        members: how many layers quantize their output with this quantizer, each once in a training step.
        rounding: `nearest`, or `stochastic` while training.
        learned_step: whether training learns the scale (LSQ, arXiv 1902.08153) instead of tracking the range; the
            zero point stays as calibrated.
        seed: of stochastic rounding; None draws one from Keras' global seed.

    Call arguments:
        x: float tensor.
        training: whether the range is tracked, rounding may be stochastic, and a learned step learns.

    Returns:
        Tensor of the shape of `x`, on the quantizer's grid.

    Raises:
        ValueError: for an argument that is unknown, out of range, or can't be combined with the others.
    """

    def __init__(
        self,
        bitwidth: int = 8,
        symmetric: bool = False,
        range: str = "minmax",
        scale: str = "float",
        signed: bool = True,
        momentum: float = 0.99,
        ema_freeze_delay: int | None = None,
        fixed: bool = False,
        members: int = 1,
        rounding: str = "nearest",
        learned_step: bool = False,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.bitwidth = whole_number("bitwidth", bitwidth, 2, 16)
        self.symmetric = symmetric
        self.range = one_of("range", range, ("minmax", "ema", "percentile", "mse"))
        self.scale_kind = one_of("scale", scale, ("float", "power_of_two"))
        self.signed = signed
        self.momentum = momentum
        self.ema_freeze_delay = ema_freeze_delay
        self.fixed = fixed
        self.members = whole_number("members", members, 1)
        self.rounding = one_of("rounding", rounding, ("nearest", "stochastic"))
        self.learned_step = learned_step
        self.seed = seed
        self._refuse_what_does_not_combine()
        self.known_frozen: bool | None = None
        self.integers = integer_range(bitwidth, signed=symmetric and signed)
        self.tracked = TrackedRange(self._state)
        self.stored_scale = self._state("scale", (), 1.0)
        self.zero_point = self._state("zero_point", (), 0.0)
        self.log_step = self._state("log_step", (), 0.0, trainable=True) if learned_step else None
        self._random = keras.random.SeedGenerator(seed) if rounding == "stochastic" else None
        self.built = True

    @property
    def calibrated(self):
        """Whether the range was ever set: a bool variable."""
        return self.tracked.calibrated

    @property
    def steps(self):
        """How many training steps the range holds: an int64 variable."""
        return self.tracked.steps

    @property
    def low(self):
        """Lowest real value of the range, a float32 scalar."""
        return self.tracked.ends[0]

    @property
    def high(self):
        """Highest real value of the range, a float32 scalar."""
        return self.tracked.ends[1]

    @property
    def scale(self):
        """The present scale, a float32 scalar: the stored one, or the learned one."""
        if self.log_step is None:
            return self.stored_scale
        return learned_scale(self.stored_scale, self.log_step)

    def call(self, x, training=False):
        return self.real(x, UNBOUNDED, training)

    def real(self, x, bounds, training):
        """Moves real values onto the grid, clamped to `bounds` (a fused activation) in the same pass.

        Args:
            x: float tensor, before the fused activation.
            bounds: `(low, high)` of the fused activation, infinite where it has none.
            training: whether the range is tracked.
        """
        x = ops.cast(x, "float32")
        observation = current_observation()
        if observation is not None:
            x = _clamp(x, bounds)
            observation.seen.append((self, x, None))
            return x
        if training and self.learned_step and not self.fixed:
            return self._learn(_clamp(x, bounds))
        if training and not self.fixed and self._starts_at_zero(bounds):
            high = self._see(x, bounds)[1]
            return fake_quantize_from_zero(x, self._derive_from_zero(high), high, self.bitwidth)
        scale, zero_point = self._tracked_parameters(x, bounds) if training and not self.fixed else self.parameters()
        lowest, highest = self._limits(scale, zero_point, bounds)
        if training and self._random is not None:
            return stochastic_fake_quantize(x, scale, lowest, highest, self._random)
        return fake_quantize_activation(x, scale, lowest, highest)

    def requantize(self, accumulator, multiplier, bounds=UNBOUNDED):
        """Brings an accumulator to this quantizer's integers, with one rounding.

        Args:
            accumulator: float32 tensor of integers.
            multiplier: accumulator scale / scale of this quantizer, float32.
            bounds: of the fused activation.

        Returns:
            Float32 tensor of integers relative to the zero point.
        """
        scale, zero_point = self.parameters()
        rounded = round_half_even(accumulator * multiplier)
        integers = clip(rounded, *self._limits(scale, zero_point, bounds))
        observation = current_observation()
        if observation is not None and observation.arithmetic is Arithmetic.integer:
            observation.seen.append((self, integers, self._saturated(rounded, scale, zero_point, bounds)))
        return integers

    def to_integers(self, x):
        """Returns the integers of real values, relative to the zero point, as a float32 tensor."""
        return self.requantize(x, 1.0 / self.scale)

    def to_real(self, integers):
        """Returns the real values of integers that are relative to the zero point."""
        return integers * self.scale

    def parameters(self):
        """Returns `(scale, zero_point)`; an error if the range was never set."""
        self._require_calibration()
        return self._stored()

    def format(self) -> QuantizedFormat:
        """Returns the integers' width, signedness, scale and zero point, in NumPy; an error if never calibrated."""
        self._require_calibration()
        signed = self.integers.lowest < 0
        return QuantizedFormat(self.bitwidth, signed, np.array(self.scale, np.float32), int(self.zero_point))

    @property
    def storage_offset(self) -> int:
        """What targets subtract to store an integer in a signed type: see `QuantizedFormat.storage_offset`."""
        return storage_offset(self.bitwidth, signed=self.integers.lowest < 0)

    @property
    def largest_magnitude(self) -> int:
        """The largest |integer - zero point| that can occur, whatever the zero point."""
        return max(-self.integers.lowest, self.integers.highest)

    def set_range(self, low: float, high: float) -> None:
        """Sets the range of real values that the integers cover, from calibration."""
        if not (math.isfinite(low) and math.isfinite(high)):
            raise QuantizationError(f"{self.name}: the range [{low}, {high}] is not finite")
        ends = ops.convert_to_tensor([low, high], "float32")
        self.tracked.set(ends)
        self._derive(ends)

    def set_parameters(self, scale: float, zero_point: int) -> None:
        """Sets scale and zero point where the output's definition gives them (sigmoid: 2^-b and 0), and fixes them.

        Args:
            scale: positive; a power of two where the quantizer's scale is one.
            zero_point: one of the quantizer's integers; 0 for a symmetric quantizer.

        Raises:
            QuantizationError: if they are not allowed.
        """
        if not (math.isfinite(scale) and scale > 0.0) or int(zero_point) != zero_point:
            raise QuantizationError(f"{self.name}: scale {scale} and zero point {zero_point} are no scale and integer")
        if self.scale_kind == "power_of_two" and math.frexp(scale)[0] != 0.5:
            raise QuantizationError(f"{self.name}: the scale {scale} is no power of two, as this quantizer's has to be")
        lowest, highest = (0, 0) if self.symmetric else self.integers
        if not lowest <= zero_point <= highest:
            raise QuantizationError(
                f"{self.name}: the zero point {zero_point} is not allowed; give {lowest} to {highest}"
            )
        self._keep(np.array(scale, np.float32), np.array(zero_point, np.float32))
        self.fix()

    def join(self, signed: bool) -> None:
        """Takes in a further layer that quantizes its output with this quantizer; before any calibration.

        Args:
            signed: whether the values of that layer can be negative.

        Raises:
            QuantizationError: if the range is set already.
        """
        if bool(read_now(self.calibrated)):
            raise QuantizationError(f"{self.name}: no further layer can join a quantizer whose range is set")
        self.members += 1
        self.signed = self.signed or signed
        self.integers = integer_range(self.bitwidth, signed=self.symmetric and self.signed)

    def fix(self) -> None:
        """Keeps the range as it is from now on; a learned scale is kept bit for bit."""
        self.settle()
        if self.log_step is not None:
            self._keep(np.array(self.scale), np.array(self.zero_point))
        self.fixed = True

    def settle(self) -> None:
        """Moves the range by the last training step, which would wait for the next one otherwise."""
        if int(read_now(self.tracked.turn)):
            self._derive(self.tracked.settle(self.momentum))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "bitwidth": self.bitwidth,
            "symmetric": self.symmetric,
            "range": self.range,
            "scale": self.scale_kind,
            "signed": self.signed,
            "momentum": self.momentum,
            "ema_freeze_delay": self.ema_freeze_delay,
            "fixed": self.fixed,
            "members": self.members,
            "rounding": self.rounding,
            "learned_step": self.learned_step,
            "seed": self.seed,
        }

    def _refuse_what_does_not_combine(self) -> None:
        if self.learned_step:
            one_of("scale with learned_step=True", self.scale_kind, ("float",))
            one_of("rounding with learned_step=True", self.rounding, ("nearest",))

    def _state(self, name, shape, value, dtype="float32", trainable=False):
        initializer = keras.initializers.Constant(value) if dtype != "bool" else "zeros"
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            dtype=dtype,
            trainable=trainable,
            autocast=False,
            aggregation="mean" if trainable or name == "pending" else "only_first_replica",
        )

    def _limits(self, scale, zero_point, bounds):
        """Lowest and highest integer relative to the zero point, inside the fused activation's bounds."""
        lowest = self.integers.lowest - zero_point
        highest = self.integers.highest - zero_point
        if bounds[0] == 0.0:
            lowest = ops.maximum(lowest, 0.0)
        elif math.isfinite(bounds[0]):
            lowest = ops.maximum(lowest, round_half_even(bounds[0] / scale))
        if math.isfinite(bounds[1]):
            highest = ops.minimum(highest, round_half_even(bounds[1] / scale))
        return lowest, highest

    def _saturated(self, rounded, scale, zero_point, bounds):
        """Counts the values that the integers cut off, beyond what the fused activation cuts off anyway."""
        if bounds != UNBOUNDED:
            rounded = ops.clip(rounded, bounds[0] / scale, bounds[1] / scale)
        below = rounded < self.integers.lowest - zero_point
        above = rounded > self.integers.highest - zero_point + (0.5 if math.isfinite(bounds[1]) else 0.0)
        return ops.sum(ops.cast(below | above, "int32"))

    def _tracked_parameters(self, x, bounds):
        tracks = self.ema_freeze_delay != 0 and not self.known_frozen
        return until_frozen(self, lambda: self._move(x, bounds), self._stored if tracks else self.parameters)

    def _starts_at_zero(self, bounds) -> bool:
        """Whether a training step's integers are all of those from 0 up to the end of the range, and known to move.

        What is true of the ends at the first step stays true: they move towards values inside the bounds.
        """
        if bounds[0] != 0.0 or self.integers.lowest != 0 or self.members > 1:
            return False
        if self.scale_kind != "float" or self._random is not None:
            return False
        ends = read_now(self.tracked.ends)
        if ends is None or ends[0] != 0.0 or ends[1] > bounds[1]:
            return False
        return self.ema_freeze_delay is None or self.known_frozen is False

    def _move(self, x, bounds):
        """Returns scale and zero point for this training step, and takes note of the range of `x`."""
        return self._derive(self._see(x, bounds))

    def _see(self, x, bounds):
        """Returns the range for this training step, and takes note of that of `x`."""
        x = ops.stop_gradient(x)
        low = ops.zeros(()) if bounds[0] == 0.0 else ops.minimum(ops.cast(ops.min(x), "float32"), 0.0)
        high = ops.maximum(ops.cast(ops.max(x), "float32"), 0.0)
        high = ops.minimum(high, bounds[1]) if math.isfinite(bounds[1]) else high
        return self.tracked.see(
            ops.stack([low, high]), members=self.members, momentum=self.momentum, delay=self.ema_freeze_delay
        )

    def _learn(self, x):
        """Quantizes with the learned scale; N of the gradient's scale are the values of one sample."""
        scale, zero_point = self.parameters()
        values = ops.cast(ops.size(x), "float32") / ops.cast(ops.shape(x)[0], "float32")
        gradient_scale = ops.rsqrt(values * float(self.integers.highest))
        return learned_fake_quantize(
            x, scale, self.integers.lowest - zero_point, self.integers.highest - zero_point, gradient_scale
        )

    def _derive(self, ends):
        """Stores the scale and the zero point of a range, and returns them."""
        low, high = ops.unstack(ends, 2)
        power_of_two = self.scale_kind == "power_of_two"
        if self.symmetric:
            maximum = ops.maximum(ops.abs(low), ops.abs(high))
            scale = scale_for_maximum(maximum, self.integers.highest, power_of_two=power_of_two)
            zero_point = ops.zeros(())
        else:
            scale, zero_point = affine_parameters(low, high, self.integers, power_of_two=power_of_two)
        self._store(scale, zero_point)
        return scale, zero_point

    def _derive_from_zero(self, high):
        """Stores and returns the scale of the range [0, high]: what `_derive` gives for it, in fewer steps.

        The zero point is 0 already.
        """
        scale = scale_for_maximum(high, self.integers.highest)
        self.stored_scale.assign(scale)
        return scale

    def _keep(self, scale: np.ndarray, zero_point: np.ndarray) -> None:
        """Sets the parameters as they are, and the range that they cover."""
        self.tracked.set((np.array(self.integers, np.float32) - zero_point) * scale)
        self._store(scale, zero_point)

    def _stored(self):
        return ops.convert_to_tensor(self.scale), ops.convert_to_tensor(self.zero_point)

    def _store(self, scale, zero_point) -> None:
        self.stored_scale.assign(scale)
        self.zero_point.assign(zero_point)
        if self.log_step is not None:
            self.log_step.assign(0.0)

    def _require_calibration(self):
        known = read_now(self.calibrated)
        if known is not None and not known:
            raise QuantizationError(
                f"{self.name}: the range of this output was never calibrated; run qpipe.calibrate or train first"
            )


def _clamp(x, bounds):
    if bounds == UNBOUNDED:
        return x
    return ops.clip(x, *bounds)
