"""Operators that move integers, or choose among them, and keep their format."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qpipe.integer.operator import Notes
from qpipe.integer.operators.windows import taps
from qpipe.numerics import QuantizedTensor, round_half_even


@dataclass(frozen=True, eq=False)
class Identity:
    """Passes a tensor on (dropout at inference)."""

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns `x`."""
        return x


@dataclass(frozen=True, eq=False)
class Reshape:
    """Changes the shape behind the batch axis; one size may be -1.

    Attributes:
        shape: sizes behind the batch axis.
    """

    shape: tuple[int, ...]

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns (batch, *shape)."""
        return x.with_integers(x.integers.reshape(len(x.integers), *self.shape))


@dataclass(frozen=True, eq=False)
class Transpose:
    """Permutes the axes.

    Attributes:
        axes: as in NumPy, the batch axis included.
    """

    axes: tuple[int, ...]

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns the transposed tensor."""
        return x.with_integers(x.integers.transpose(self.axes))


@dataclass(frozen=True, eq=False)
class Pad:
    """Pads spatial axes with 0, that is with the zero point.

    Attributes:
        padding: (before, after) for each spatial axis.
    """

    padding: tuple[tuple[int, int], ...]

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns the padded tensor."""
        widths = [(0, 0), *self.padding, (0, 0)]
        return x.with_integers(np.pad(x.integers, widths, constant_values=x.format.zero_point))


@dataclass(frozen=True, eq=False)
class Crop:
    """Cuts positions off the ends of spatial axes.

    Attributes:
        cropping: (before, after) for each spatial axis.
    """

    cropping: tuple[tuple[int, int], ...]

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns the cropped tensor."""
        sizes = x.integers.shape[1:]
        spatial = (slice(before, size - after) for (before, after), size in zip(self.cropping, sizes, strict=False))
        return x.with_integers(x.integers[(slice(None), *spatial)])


@dataclass(frozen=True, eq=False)
class Repeat:
    """Repeats every position along spatial axes (nearest upsampling).

    Attributes:
        factors: how often, for each spatial axis.
    """

    factors: tuple[int, ...]

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns the repeated tensor."""
        integers = x.integers
        for axis, factor in enumerate(self.factors, start=1):
            integers = integers.repeat(factor, axis=axis)
        return x.with_integers(integers)


@dataclass(frozen=True, eq=False)
class MaxPooling:
    """Largest integer of each window; padded positions hold the lowest integer.

    Attributes:
        window: size for each spatial axis.
        strides: for each spatial axis.
        padding: `valid` or `same`.
    """

    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns the pooled tensor."""
        apart = (1,) * len(self.window)
        lowest = x.format.integers.lowest
        seen = taps(x.integers, self.window, self.strides, apart, self.padding, lowest)
        return x.with_integers(np.maximum.reduce([values for _, values in seen]))


@dataclass(frozen=True, eq=False)
class GlobalMaxPooling:
    """Largest integer over all spatial axes.

    Attributes:
        keepdims: whether the spatial axes stay, with size 1.
    """

    keepdims: bool

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns the pooled tensor."""
        axes = tuple(range(1, x.integers.ndim - 1))
        return x.with_integers(x.integers.max(axis=axes, keepdims=self.keepdims))


@dataclass(frozen=True, eq=False)
class Clamp:
    """Clamps to real bounds that are brought to the tensor's integers: a ReLU on its own.

    Attributes:
        bounds: real values, infinite where there is no bound.
    """

    bounds: tuple[float, float]

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns the clamped tensor."""
        low, high = (
            bound if math.isinf(bound) else round_half_even(np.float32(bound) / x.format.scale) + x.format.zero_point
            for bound in self.bounds
        )
        return x.with_integers(np.clip(x.integers, low, high).astype(np.int64))
