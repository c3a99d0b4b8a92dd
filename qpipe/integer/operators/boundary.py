"""Where real values become integers, integers become real values, and integers change their format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from qpipe.errors import QuantizationError
from qpipe.integer.operator import Notes
from qpipe.integer.operators.requantization import Requantization
from qpipe.numerics import QuantizedFormat, QuantizedTensor

ONE = np.float32(1.0)
ZERO_POINT_TOLERANCE = 1e-4
"""In integers: what float32 scales may leave of a zero point that is meant to be whole."""

Preparation = tuple[tuple[str, np.ndarray], ...]
"""Float32 operations before a quantization: `add`, `subtract`, `multiply` or `divide`, with a scalar or vector each."""

APPLY: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
}


@dataclass(frozen=True, eq=False)
class Quantize:
    """rint(p(x) * (1 / s)) + z in float32, clipped to the format's integers; p is the preparation, if there is any.

    Attributes:
        requantization: to the output's format; its multiplier is not used.
        preparation: of the real values, each operation rounded to float32: a Rescaling or Normalization.
    """

    requantization: Requantization
    preparation: Preparation = ()

    def __call__(self, x: np.ndarray, *, notes: Notes) -> QuantizedTensor:
        """Quantizes real values."""
        x = x.astype(np.float32)
        if not np.isfinite(x).all():
            raise QuantizationError(f"{np.count_nonzero(~np.isfinite(x))} values to quantize are not finite")
        for name, values in self.preparation:
            x = APPLY[name](x, values)
        return self.requantization.round(x * (ONE / self.requantization.output.scale), notes)

    def input_format(self) -> QuantizedFormat | None:
        """Returns the format of integers that stand for the values before the preparation, where there is one.

        With the preparation p(x) = a * x + b these are the output's integers at scale s / a, zero point z + b / s. A
        format exists where a is one positive number, the zero point is an integer of the range, and every integer of
        the format comes out of the quantization as it is.
        """
        output = self.requantization.output
        factor, offset = self._as_line()
        if factor.size != 1 or offset.size != 1 or not factor.item() > 0.0:
            return None
        zero_point = output.zero_point + offset.item() / float(output.scale)
        lowest, highest = output.integers
        if abs(zero_point - round(zero_point)) > ZERO_POINT_TOLERANCE or not lowest <= round(zero_point) <= highest:
            return None
        raw = replace(output, scale=np.asarray(output.scale / factor, np.float32), zero_point=round(zero_point))
        integers = np.arange(lowest, highest + 1)
        quantized = self(QuantizedTensor(integers, raw).real, notes=Notes())
        return raw if np.array_equal(quantized.integers, integers) else None

    def _as_line(self) -> tuple[np.ndarray, np.ndarray]:
        """The preparation as factor and offset, in float64."""
        factor, offset = np.ones(()), np.zeros(())
        for name, values in self.preparation:
            value = values.astype(np.float64)
            offset = APPLY[name](offset, value)
            factor = APPLY[name](factor, value) if name in ("multiply", "divide") else factor
        return factor, offset


@dataclass(frozen=True, eq=False)
class Dequantize:
    """s * (q - z) in float32."""

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> np.ndarray:
        """Returns real values."""
        return x.real


@dataclass(frozen=True, eq=False)
class Requantize:
    """Brings a tensor to another format: rint((q - z) * (s_x / s_y)) + z_y.

    Attributes:
        requantization: to the output's format.
    """

    requantization: Requantization

    def __call__(self, x: QuantizedTensor, *, notes: Notes) -> QuantizedTensor:
        """Returns the tensor in the output's format."""
        return self.requantization(x.centred, notes)
