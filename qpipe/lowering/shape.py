"""Lowering of layers that move integers, and of a ReLU that stands alone."""

from __future__ import annotations

from qpipe.integer.operators import Clamp, Crop, Identity, Pad, Repeat, Reshape, Transpose
from qpipe.layers.activations import activation_of_layer, fused_bounds
from qpipe.quantizers.output import UNBOUNDED


def lower_identity(layer) -> Identity:
    """Returns the operator of a layer that does nothing at inference."""
    return Identity()


def lower_flatten(layer) -> Reshape:
    """Returns the operator of a flatten layer."""
    return Reshape((-1,))


def lower_reshape(layer) -> Reshape:
    """Returns the operator of a reshape layer."""
    return Reshape(tuple(layer.target_shape))


def lower_permute(layer) -> Transpose:
    """Returns the operator of a permute layer."""
    return Transpose((0, *layer.dims))


def lower_padding(layer) -> Pad:
    """Returns the operator of a zero padding over one or two axes."""
    return Pad(_pairs(layer.padding))


def lower_cropping(layer) -> Crop:
    """Returns the operator of a cropping over one or two axes."""
    return Crop(_pairs(layer.cropping))


def lower_upsampling(layer) -> Repeat:
    """Returns the operator of a nearest upsampling over one or two axes."""
    return Repeat((layer.size,) if isinstance(layer.size, int) else tuple(layer.size))


def lower_clamp(layer) -> Clamp | Identity:
    """Returns the operator of a ReLU or a linear activation on its own."""
    bounds = fused_bounds(activation_of_layer(layer)) or UNBOUNDED
    return Identity() if bounds == UNBOUNDED else Clamp(bounds)


def _pairs(ends) -> tuple[tuple[int, int], ...]:
    """(before, after) for each axis, of Keras' pair for one axis or pairs for two."""
    return (tuple(ends),) if isinstance(ends[0], int) else tuple(tuple(pair) for pair in ends)
