"""Lowering of softmax."""

from __future__ import annotations

import numpy as np

from qpipe.integer.operators import Softmax
from qpipe.layers.softmax import QSoftmax
from qpipe.lowering.requantization import rounding


def lower_softmax(layer: QSoftmax) -> Softmax:
    """Returns the operator of a softmax, with the table that the layer computes."""
    return Softmax(np.asarray(layer.exponentials()).astype(np.int64), rounding(layer.output_quantizer))
