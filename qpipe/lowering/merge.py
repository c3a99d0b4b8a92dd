"""Lowering of layers with several inputs."""

from __future__ import annotations

import numpy as np

from qpipe.integer.operators import Concatenation, Product, Sum
from qpipe.layers.merge import QAdd, QMultiply, QSubtract
from qpipe.lowering.requantization import requantization, rounding


def lower_sum(layer: QAdd | QSubtract) -> Sum:
    """Returns the operator of an addition or subtraction."""
    step = layer.output_quantizer.format().scale
    ratios = tuple(np.float32(quantizer.format().scale / step) for quantizer in layer.input_quantizers)
    return Sum(ratios, layer.signs, rounding(layer.output_quantizer, layer.bounds))


def lower_product(layer: QMultiply) -> Product:
    """Returns the operator of a multiplication."""
    first, second = (quantizer.format().scale for quantizer in layer.input_quantizers)
    return Product(requantization(layer.output_quantizer, first * second, layer.bounds))


def lower_concatenation(layer) -> Concatenation:
    """Returns the operator of a concatenation."""
    return Concatenation(layer.axis)
