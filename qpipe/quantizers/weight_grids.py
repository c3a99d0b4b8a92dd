"""The grids of weights: which integers there are, which scale a kernel takes, and which integer a weight becomes."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from keras import ops

from qpipe.numerics import IntegerRange, integer_range, round_half_even, scale_for_maximum
from qpipe.quantizers.fake_quantization import fake_quantize, round_to_grid
from qpipe.quantizers.straight_through import straight_through

MSE_CANDIDATES = 40
SMALLEST_MSE_SHARE = 0.3
TERNARY_THRESHOLD = 0.7
"""Share of the mean magnitude below which a weight becomes 0 (arXiv 1605.04711, equation 6)."""


SMALLEST_LIVE_SCALE = 2.0**-100
"""Kernels with a finer grid count as all zero: float32 could not hold their accumulator's scale."""


class KernelAxes(NamedTuple):
    """Axes of a kernel over which one scale is shared, and those that lie within one output channel."""

    of_scale: tuple[int, ...]
    of_channel: tuple[int, ...]


class WeightGrid(Protocol):
    """What `WeightQuantizer` needs of a grid.

    Attributes:
        integers: lowest and highest integer.
        scale_can_be_raised: whether a larger scale makes weights coarser only, instead of larger.
    """

    integers: IntegerRange
    scale_can_be_raised: bool

    def scale_of(self, kernel, axes: KernelAxes, of_zeros) -> Any:
        """Returns the scale of `kernel`, with size 1 on the axes that share one.

        Args:
            kernel: float tensor.
            axes: of its scale and its channels.
            of_zeros: what takes the place of the largest magnitude where all weights are zero (or so small that
                float32 could not hold the accumulator's scale), of the scale's shape; None leaves them as they are.
        """

    def integer(self, kernel, scale, axes: KernelAxes) -> Any:
        """Returns the integers of `kernel` on the grid of `scale`, as float32."""

    def fake(self, kernel, scale, axes: KernelAxes, *, derived: bool) -> Any:
        """Returns `kernel` on the grid of `scale`, with the straight-through gradient.

        Args:
            kernel: float tensor.
            scale: as `scale_of` gives it, or another one.
            axes: of its scale and its channels.
            derived: whether `scale` is at least what `scale_of` gives for this very kernel.
        """


class UniformGrid:
    """All integers from -(2^(b-1) - 1) to 2^(b-1) - 1; the gradient is 0 where a weight is cut off."""

    scale_can_be_raised = True

    def __init__(self, bitwidth: int, *, least_squares: bool, power_of_two: bool):
        self.integers = integer_range(bitwidth, narrow=True)
        self.least_squares = least_squares
        self.power_of_two = power_of_two

    def scale_of(self, kernel, axes, of_zeros):
        """From the largest magnitude, or the share of it with the least squared error."""
        largest = _largest_magnitude(kernel, axes.of_scale)
        maximum = self._least_squares_maximum(kernel, largest, axes) if self.least_squares else largest
        if of_zeros is not None:
            maximum = ops.where(_counts_as_zero(largest, self.integers), of_zeros, maximum)
        return self._scale_for(maximum)

    def integer(self, kernel, scale, axes):
        """Rounds to nearest, ties to even, and cuts off."""
        return ops.clip(round_half_even(kernel / scale), *self.integers)

    def fake(self, kernel, scale, axes, *, derived):
        """Fake quantization with the gradient of the library's contract; the largest magnitude cuts nothing off."""
        if derived and not self.least_squares:
            return round_to_grid(kernel, scale)
        return fake_quantize(kernel, scale, *(float(end) for end in self.integers))

    def _scale_for(self, maximum):
        return scale_for_maximum(maximum, self.integers.highest, power_of_two=self.power_of_two)

    def _least_squares_maximum(self, kernel, maximum, axes):
        """Searches the clipping maximum with the least squared error over shares of the largest magnitude."""

        def try_share(step, best):
            best_maximum, best_error = best
            share = 1.0 - (1.0 - SMALLEST_MSE_SHARE) * ops.cast(step, "float32") / (MSE_CANDIDATES - 1)
            candidate = maximum * share
            scale = self._scale_for(candidate)
            error = ops.square(self.integer(kernel, scale, axes) * scale - kernel)
            error = ops.sum(error, axis=axes.of_scale, keepdims=True)
            better = error < best_error
            return ops.where(better, candidate, best_maximum), ops.where(better, error, best_error)

        unknown = ops.full_like(maximum, float("inf"))
        return ops.fori_loop(0, MSE_CANDIDATES, try_share, (maximum, unknown))[0]


class PowerOfTwoGrid:
    """0 and plus or minus 2^e: of b bits one is the sign, the others say 0 or one of 2^(b-1) - 1 exponents.

    The largest exponent is that of the largest magnitude, rounded to nearest in the log domain; the scale is
    2 to the smallest one, so that the integers are 0, 1, 2, 4, ..., 2^(2^(b-1) - 2). Weights are rounded to
    nearest in the log domain: |w| becomes 2^rint(log2|w|), and 0 where that lies below the smallest exponent
    (Miyashita et al., arXiv 1603.01025, section 3, with 0 as a level of its own).
    """

    scale_can_be_raised = True

    def __init__(self, bitwidth: int):
        largest = 2 ** (2 ** (bitwidth - 1) - 2)
        self.integers = IntegerRange(-largest, largest)

    def scale_of(self, kernel, axes, of_zeros):
        """2 to the smallest exponent."""
        largest = _largest_magnitude(kernel, axes.of_scale)
        scale = _nearest_power_of_two(largest) / float(self.integers.highest)
        return _unless_zero(scale, largest, of_zeros, self.integers, power_of_two=True)

    def integer(self, kernel, scale, axes):
        """Rounds to nearest in the log domain."""
        return ops.clip(self._rounded(kernel, scale), *self.integers)

    def fake(self, kernel, scale, axes, *, derived):
        """Straight-through where the largest exponent is not exceeded."""
        rounded = self._rounded(kernel, scale)
        integers = ops.clip(rounded, *self.integers)
        return straight_through(kernel, integers * scale, ops.cast(ops.equal(rounded, integers), "float32"))

    def _rounded(self, kernel, scale):
        ratio = ops.abs(kernel) / scale
        power = _nearest_power_of_two(ratio)
        power = ops.where(ops.logical_and(ratio > 0.0, power >= 1.0), power, ops.zeros_like(power))
        return ops.sign(kernel) * power


class TernaryGrid:
    """-1, 0 and 1: 0 below 0.7 times the mean magnitude; the scale is the mean magnitude of the others.

    Ternary weight networks, Li et al., arXiv 1605.04711, equations 5 and 6. The gradient passes everywhere.
    """

    integers = IntegerRange(-1, 1)
    scale_can_be_raised = False

    def __init__(self, *, power_of_two: bool):
        self.power_of_two = power_of_two

    def scale_of(self, kernel, axes, of_zeros):
        """Mean magnitude above the threshold, or the power of two that is nearest to it in the log domain."""
        kept = self._kept(kernel, axes)
        total = ops.sum(ops.abs(kernel) * kept, axis=axes.of_scale, keepdims=True)
        mean = total / ops.maximum(ops.sum(kept, axis=axes.of_scale, keepdims=True), 1.0)
        largest = _largest_magnitude(kernel, axes.of_scale)
        scale = _positive(mean, self.power_of_two)
        return _unless_zero(scale, largest, of_zeros, self.integers, power_of_two=self.power_of_two)

    def integer(self, kernel, scale, axes):
        """Sign of what lies above the threshold."""
        return ops.sign(kernel) * self._kept(kernel, axes)

    def fake(self, kernel, scale, axes, *, derived):
        """Straight-through everywhere."""
        return straight_through(kernel, self.integer(kernel, scale, axes) * scale, ops.ones_like(kernel))

    def _kept(self, kernel, axes):
        magnitude = ops.abs(kernel)
        mean = ops.mean(magnitude, axis=axes.of_scale, keepdims=True)
        return ops.cast(magnitude > TERNARY_THRESHOLD * mean, "float32")


class BinaryGrid:
    """-1 and 1: the sign, 0 counting as positive; the scale is the mean magnitude.

    XNOR-Net, Rastegari et al., arXiv 1603.05279, section 3.1. The gradient passes everywhere. An output channel
    of zeros stays zero: its integers are 0.
    """

    integers = IntegerRange(-1, 1)
    scale_can_be_raised = False

    def __init__(self, *, power_of_two: bool):
        self.power_of_two = power_of_two

    def scale_of(self, kernel, axes, of_zeros):
        """Mean magnitude, or the power of two that is nearest to it in the log domain."""
        largest = _largest_magnitude(kernel, axes.of_scale)
        scale = _positive(ops.mean(ops.abs(kernel), axis=axes.of_scale, keepdims=True), self.power_of_two)
        return _unless_zero(scale, largest, of_zeros, self.integers, power_of_two=self.power_of_two)

    def integer(self, kernel, scale, axes):
        """Sign, and 0 for channels of zeros."""
        alive = ops.cast(_largest_magnitude(kernel, axes.of_channel) > 0.0, "float32")
        return (2.0 * ops.cast(kernel >= 0.0, "float32") - 1.0) * alive

    def fake(self, kernel, scale, axes, *, derived):
        """Straight-through everywhere."""
        return straight_through(kernel, self.integer(kernel, scale, axes) * scale, ops.ones_like(kernel))


def _largest_magnitude(kernel, axes):
    return ops.max(ops.abs(kernel), axis=axes, keepdims=True)


def _counts_as_zero(largest, integers: IntegerRange):
    return largest < SMALLEST_LIVE_SCALE * integers.highest


def _unless_zero(scale, largest, of_zeros, integers: IntegerRange, *, power_of_two: bool):
    """Returns `scale`, and where all weights count as zero the one with which `of_zeros` is the largest integer."""
    if of_zeros is None:
        return scale
    other = scale_for_maximum(of_zeros, integers.highest, power_of_two=power_of_two)
    return ops.where(_counts_as_zero(largest, integers), other, scale)


def _positive(mean, power_of_two: bool):
    return _nearest_power_of_two(mean) if power_of_two else scale_for_maximum(mean, 1)


def _nearest_power_of_two(x):
    """Returns 2^rint(log2(x)), and 1 where x is 0: the smallest power of two that is at least x / sqrt(2)."""
    return scale_for_maximum(x * 2.0**-0.5, 1, power_of_two=True)
