"""Lowering of poolings."""

from __future__ import annotations

from qpipe.integer.operators import AveragePooling, GlobalMaxPooling, GlobalMean, MaxPooling
from qpipe.lowering.requantization import requantization


def lower_average_pooling(layer) -> AveragePooling:
    """Returns the operator of an average pooling."""
    return AveragePooling(tuple(layer.pool_size), tuple(layer.strides), layer.padding)


def lower_max_pooling(layer) -> MaxPooling:
    """Returns the operator of a max pooling."""
    return MaxPooling(tuple(layer.pool_size), tuple(layer.strides), layer.padding)


def lower_global_average_pooling(layer) -> GlobalMean:
    """Returns the operator of a mean over all positions."""
    scale = layer.input_quantizer.format().scale
    return GlobalMean(layer.keepdims, requantization(layer.output_quantizer, scale))


def lower_global_max_pooling(layer) -> GlobalMaxPooling:
    """Returns the operator of a maximum over all positions."""
    return GlobalMaxPooling(layer.keepdims)
