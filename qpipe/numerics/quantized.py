"""Quantized tensors in NumPy: integers, and the format that says what they stand for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qpipe.errors import QuantizationError
from qpipe.numerics.integers import IntegerRange, integer_range, storage_offset

INT64 = IntegerRange(np.iinfo(np.int64).min, np.iinfo(np.int64).max)


@dataclass(frozen=True, eq=False)
class QuantizedFormat:
    """What integers stand for: value = scale * (integer - zero point).

    Attributes:
        bitwidth: number of bits, at most 64 signed and 63 unsigned.
        signed: two's complement, else 0 ... 2^b - 1.
        scale: positive float32, of shape () or (channels,); a power of two 2^-f makes it a fixed-point number.
        zero_point: integer of the range that stands for 0.
        narrow: whether the lowest signed integer is left out (weights).

    Raises:
        QuantizationError: if the scale is not positive and finite, the zero point lies outside of the range, or
            int64 can't hold the integers, absolute and relative to the zero point.
    """

    bitwidth: int
    signed: bool
    scale: np.ndarray
    zero_point: int = 0
    narrow: bool = False

    def __post_init__(self):
        object.__setattr__(self, "scale", np.asarray(self.scale, np.float32))
        if self.scale.ndim > 1:
            raise QuantizationError(f"a scale can't have the shape {self.scale.shape}; allowed: () or (channels,)")
        if not (np.isfinite(self.scale) & (self.scale > 0)).all():
            raise QuantizationError(f"the scale {name_of_scale(self.scale)} is not allowed: positive and finite")
        if self.narrow and not self.signed:
            raise QuantizationError("an unsigned range can't be narrow; allowed: signed=True, or narrow=False")
        lowest, highest = self.integers
        if not lowest <= self.zero_point <= highest:
            raise QuantizationError(
                f"the zero point {self.zero_point} lies outside of the integers; allowed: {lowest} to {highest}"
            )
        relative_lowest, relative_highest = self.centred_integers
        if min(lowest, relative_lowest) < INT64.lowest or max(highest, relative_highest) > INT64.highest:
            raise QuantizationError(
                f"integers from {lowest} to {highest} with the zero point {self.zero_point} don't fit int64; "
                "allowed: up to 64 bits signed, 63 bits unsigned"
            )

    @property
    def integers(self) -> IntegerRange:
        """Lowest and highest integer."""
        return integer_range(self.bitwidth, signed=self.signed, narrow=self.narrow)

    @property
    def centred_integers(self) -> IntegerRange:
        """Lowest and highest integer relative to the zero point."""
        lowest, highest = self.integers
        return IntegerRange(lowest - self.zero_point, highest - self.zero_point)

    @property
    def storage_offset(self) -> int:
        """What targets subtract to store an integer in a signed type."""
        return storage_offset(self.bitwidth, signed=self.signed)

    @property
    def fractional_bits(self) -> int | np.ndarray | None:
        """The f with scale = 2^-f exactly; it may be negative, and it may exceed the bitwidth.

        An int64 array (channels,) for a scale per channel; None if a scale is no power of two.
        """
        mantissa, exponent = np.frexp(self.scale)
        if (mantissa != 0.5).any():
            return None
        return 1 - exponent.astype(np.int64) if self.scale.ndim else 1 - int(exponent)


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """Integers (int64, any shape) in a format; a scale per channel belongs to the last axis.

    Raises:
        QuantizationError: if the integers are of a floating-point type, lie outside of the format's range, or have
            another number of channels than its scale.
    """

    integers: np.ndarray
    format: QuantizedFormat

    def __post_init__(self):
        integers = np.asarray(self.integers)
        if not np.can_cast(integers.dtype, np.int64):
            raise QuantizationError(f"a quantized tensor can't hold numbers of type {integers.dtype}; allowed: int64")
        object.__setattr__(self, "integers", integers.astype(np.int64, copy=False))
        self._require_channels()
        self._require_range()

    @property
    def centred(self) -> np.ndarray:
        """The integers relative to the zero point, int64."""
        return self.integers - self.format.zero_point

    @property
    def real(self) -> np.ndarray:
        """The float32 values that the integers stand for."""
        return self.centred.astype(np.float32) * self.format.scale

    def with_integers(self, integers: np.ndarray) -> QuantizedTensor:
        """Returns other integers in the same format."""
        return replace(self, integers=integers)

    def _require_channels(self) -> None:
        scale, shape = self.format.scale, self.integers.shape
        if scale.ndim and (not shape or shape[-1] != scale.size):
            raise QuantizationError(f"{scale.size} scales don't fit integers of the shape {shape}: one per channel")

    def _require_range(self) -> None:
        if not self.integers.size:
            return
        lowest, highest = self.format.integers
        smallest, largest = int(self.integers.min()), int(self.integers.max())
        if smallest < lowest or largest > highest:
            raise QuantizationError(
                f"integers from {smallest} to {largest} lie outside of their format; allowed: {lowest} to {highest}"
            )


def name_of_scale(scale: np.ndarray) -> str:
    """Returns a scale as text for messages: the number, or the smallest and largest of the channels."""
    if scale.ndim == 0:
        return f"{scale:.9g}"
    return f"{scale.min():.9g} ... {scale.max():.9g} of {scale.size} channels"
