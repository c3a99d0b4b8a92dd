"""What lowered layers share: the requantization to their output quantizer."""

from __future__ import annotations

import numpy as np

from qpipe.integer.operators import Requantization
from qpipe.quantizers.output import UNBOUNDED, OutputQuantizer

ONE = np.float32(1.0)


def requantization(
    output: OutputQuantizer, scale: np.ndarray, bounds=UNBOUNDED, buffer_bitwidth: int = 64
) -> Requantization:
    """Returns the step from an accumulator to `output`.

    Args:
        output: the layer's output quantizer.
        scale: float32, the accumulator's scale: s_x * s_w, of shape () or (channels,).
        bounds: of the fused activation.
        buffer_bitwidth: width of the accumulator.
    """
    target = output.format()
    return Requantization((scale / target.scale).astype(np.float32), target, bounds, buffer_bitwidth)


def rounding(output: OutputQuantizer, bounds=UNBOUNDED) -> Requantization:
    """Returns the step from values in units of the output's scale to `output`."""
    return Requantization(ONE, output.format(), bounds)
