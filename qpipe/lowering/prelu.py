"""Lowering of ReLUs with trained slopes."""

from __future__ import annotations

import numpy as np

from qpipe.integer.operators import PReLU
from qpipe.layers.prelu import QPReLU
from qpipe.lowering.requantization import rounding


def lower_prelu(layer: QPReLU) -> PReLU:
    """Returns the operator of a PReLU with its slopes' integers."""
    slopes, scale = (np.asarray(value) for value in layer.integer_slopes())
    return PReLU(slopes.astype(np.int64), scale, rounding(layer.output_quantizer, layer.bounds))
