"""Quantizer of activations."""

from __future__ import annotations

import math

import keras
from keras import ops

from qpipe.errors import QuantizationError
from qpipe.numerics import affine_parameters, integer_range, round_half_even, scale_for_maximum
from qpipe.quantizers.arguments import one_of
from qpipe.quantizers.backend import read_now
from qpipe.quantizers.fake_quantization import fake_quantize
from qpipe.quantizers.observation import Arithmetic, current_observation

UNBOUNDED = (-math.inf, math.inf)


@keras.saving.register_keras_serializable("qpipe")
class OutputQuantizer(keras.layers.Layer):
    """Quantizes an activation: one scale and one zero point for the tensor.

    The range comes from calibration (`set_range`), or is tracked while training: the first batch sets it,
    later ones move it with `momentum`, until `ema_freeze_delay` training steps are over or `fix` is called.

    Args:
        bitwidth: 2 to 16.
        symmetric: zero point 0; otherwise the zero point is an integer of the range, so that 0 is exact.
        range: how calibration chooses the range: `minmax`, `ema`, `percentile`, `mse`.
        scale: `float`, or `power_of_two` for fixed point.
        signed: whether values can be negative; a symmetric quantizer of values that can't is unsigned.
        momentum: of the moving range while training.
        ema_freeze_delay: training steps after which the range stays as it is; None tracks to the end.
        fixed: whether the range stays as it is.

    Call arguments:
        x: float tensor.
        training: whether the range is tracked.

    Returns:
        Tensor of the shape of `x`, on the quantizer's grid.
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
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.bitwidth = bitwidth
        self.symmetric = symmetric
        self.range = one_of("range", range, ("minmax", "ema", "percentile", "mse"))
        self.scale_kind = one_of("scale", scale, ("float", "power_of_two"))
        self.signed = signed
        self.momentum = momentum
        self.ema_freeze_delay = ema_freeze_delay
        self.fixed = fixed
        self.known_frozen: bool | None = None
        self.integers = integer_range(bitwidth, signed=symmetric and signed)
        self.low = self._state("low", 0.0)
        self.high = self._state("high", 0.0)
        self.scale = self._state("scale", 1.0)
        self.zero_point = self._state("zero_point", 0.0)
        self.calibrated = self._state("calibrated", False, "bool")
        self.steps = self._state("steps", 0, "int64")
        self.built = True

    def call(self, x, training=False):
        return self.real(x, UNBOUNDED, training)

    def real(self, x, bounds, training):
        """Moves real values onto the grid, clamped to `bounds` (a fused activation) in the same pass.

        Args:
            x: float tensor, before the fused activation.
            bounds: `(low, high)` of the fused activation, infinite where it has none.
            training: whether the range is tracked.
        """
        observation = current_observation()
        if observation is not None:
            x = _clamp(x, bounds)
            observation.seen.append((self, x, None))
            return x
        scale, zero_point = self._tracked_parameters(x, bounds) if training and not self.fixed else self.parameters()
        return fake_quantize(x, scale, *self._limits(scale, zero_point, bounds))

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
        integers = ops.clip(rounded, *self._limits(scale, zero_point, bounds))
        observation = current_observation()
        if observation is not None and observation.arithmetic is Arithmetic.integer:
            observation.seen.append((self, integers, self._saturated(rounded, scale, zero_point, bounds)))
        return integers

    def to_integers(self, x):
        """Returns the integers of real values, relative to the zero point, as a float32 tensor."""
        return self.requantize(x / self.scale, 1.0)

    def to_real(self, integers):
        """Returns the real values of integers that are relative to the zero point."""
        return integers * self.scale

    def parameters(self):
        """Returns `(scale, zero_point)`; an error if the range was never set."""
        self._require_calibration()
        return ops.convert_to_tensor(self.scale), ops.convert_to_tensor(self.zero_point)

    @property
    def largest_magnitude(self) -> int:
        """The largest |integer - zero point| that can occur, whatever the zero point."""
        return max(-self.integers.lowest, self.integers.highest)

    def set_range(self, low: float, high: float) -> None:
        """Sets the range of real values that the integers cover, from calibration."""
        if not (math.isfinite(low) and math.isfinite(high)):
            raise QuantizationError(f"{self.name}: the range [{low}, {high}] is not finite")
        self._assign(*(ops.convert_to_tensor(end, "float32") for end in (low, high)))

    def fix(self) -> None:
        """Keeps the range as it is from now on."""
        self.fixed = True

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
        }

    def _state(self, name, value, dtype="float32"):
        initializer = keras.initializers.Constant(value) if dtype != "bool" else "zeros"
        return self.add_weight(
            name=name, shape=(), initializer=initializer, dtype=dtype, trainable=False, autocast=False
        )

    def _limits(self, scale, zero_point, bounds):
        """Lowest and highest integer relative to the zero point, inside the fused activation's bounds."""
        lowest = self.integers.lowest - zero_point
        highest = self.integers.highest - zero_point
        if bounds[0] == 0.0:
            lowest = ops.maximum(lowest, 0.0)
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
        if self.ema_freeze_delay is None or self.known_frozen is False:
            return self._move(x, bounds)
        if self.ema_freeze_delay <= 0 or self.known_frozen:
            return self.parameters()
        return ops.cond(
            self.steps < self.ema_freeze_delay,
            lambda: self._move(x, bounds),
            lambda: (ops.convert_to_tensor(self.scale), ops.convert_to_tensor(self.zero_point)),
        )

    def _move(self, x, bounds):
        x = ops.stop_gradient(x)
        low = ops.zeros(()) if bounds[0] == 0.0 else ops.minimum(ops.cast(ops.min(x), "float32"), 0.0)
        high = ops.clip(ops.cast(ops.max(x), "float32"), 0.0, bounds[1])
        keep = ops.where(self.calibrated, self.momentum, 0.0)
        self.steps.assign(self.steps + 1)
        return self._assign(self.low * keep + low * (1.0 - keep), self.high * keep + high * (1.0 - keep))

    def _assign(self, low, high):
        power_of_two = self.scale_kind == "power_of_two"
        if self.symmetric:
            maximum = ops.maximum(ops.abs(low), ops.abs(high))
            scale = scale_for_maximum(maximum, self.integers.highest, power_of_two=power_of_two)
            zero_point = ops.zeros(())
        else:
            scale, zero_point = affine_parameters(low, high, self.integers, power_of_two=power_of_two)
        self.low.assign(low)
        self.high.assign(high)
        self.scale.assign(scale)
        self.zero_point.assign(zero_point)
        self.calibrated.assign(True)
        return scale, zero_point

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
