"""Lowering of ReLUs with trained slopes."""

from __future__ import annotations

import numpy as np

from qpipe.integer.operators import PReLU
from qpipe.layers.prelu import QPReLU
from qpipe.lowering.requantization import rounding


def lower_prelu(layer: QPReLU) -> PReLU:
    """Returns the operator of a PReLU with its slopes' integers."""
    slopes, negative = (np.asarray(value) for value in layer.integer_slopes())
    source, target = layer.input_quantizer.format(), layer.output_quantizer.format()
    positive = np.float32(source.scale / target.scale)
    return PReLU(slopes.astype(np.int64), positive, negative, rounding(layer.output_quantizer, layer.bounds))
