"""Poolings over windows and over all positions."""

from __future__ import annotations

from qpipe.export.litert.call import Call, Shape
from qpipe.export.litert.options import PADDINGS
from qpipe.export.litert.storage import require_factors
from qpipe.integer.operators import AveragePooling, GlobalMaxPooling, GlobalMean, MaxPooling


def write_average_pooling(operator: AveragePooling, call: Call) -> None:
    """AVERAGE_POOL_2D."""
    _write_pool("AVERAGE_POOL_2D", operator, call)


def write_max_pooling(operator: MaxPooling, call: Call) -> None:
    """MAX_POOL_2D."""
    _write_pool("MAX_POOL_2D", operator, call)


def write_global_mean(operator: GlobalMean, call: Call) -> None:
    """MEAN over the spatial axes."""
    require_factors(operator.requantization.multiplier, call.dtype)
    _write_reduction("MEAN", call, requantization=operator.requantization)


def write_global_max_pooling(operator: GlobalMaxPooling, call: Call) -> None:
    """REDUCE_MAX over the spatial axes."""
    _write_reduction("REDUCE_MAX", call)


def _write_pool(name: str, operator: AveragePooling | MaxPooling, call: Call) -> None:
    line = len(operator.window) == 1
    window, strides = ((1, *sizes) if line else sizes for sizes in (operator.window, operator.strides))
    options = {
        "filterHeight": window[0],
        "filterWidth": window[1],
        "strideH": strides[0],
        "strideW": strides[1],
        "padding": PADDINGS[operator.padding],
    }
    call.emit(name, [call.input(shape=_image(call.input_shape()))], options, shape=_image(call.shape))


def _write_reduction(name: str, call: Call, **arguments) -> None:
    image = _image(call.input_shape())
    call.emit(
        name,
        [call.input(shape=image), call.integers([1, 2], "axes")],
        {"keepDims": False},
        shape=(image[-1],),
        **arguments,
    )


def _image(shape: Shape) -> Shape:
    """Two spatial axes for a sample that has one or two."""
    return (1, *shape) if len(shape) == 2 else shape
