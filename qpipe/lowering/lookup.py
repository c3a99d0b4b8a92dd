"""Lowering of activations that are tables, and of clamps that stand alone."""

from __future__ import annotations

import numpy as np

from qpipe.integer.operators import Clamp, Lookup
from qpipe.layers.clamp import QClamp
from qpipe.layers.lookup import QActivation
from qpipe.lowering.requantization import rounding


def lower_lookup(layer: QActivation) -> Lookup:
    """Returns the table of an activation, computed by the layer itself."""
    rounded = np.asarray(layer.rounded_table())
    return Lookup(rounded, rounding(layer.output_quantizer, layer.bounds), layer.function.name)


def lower_clamp(layer: QClamp) -> Clamp:
    """Returns the operator of a clamp that keeps its input's format."""
    return Clamp(layer.bounds)
