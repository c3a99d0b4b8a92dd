"""ReLUs with trained slopes."""

from __future__ import annotations

import numpy as np

from qpipe.export.litert.call import Call
from qpipe.export.litert.storage import Stored, stored
from qpipe.export.refusals import Refusal
from qpipe.integer.operators import PReLU


def write_prelu(operator: PReLU, call: Call) -> None:
    """MUL of what is above zero by 1 and of what is below by the slopes, and their ADD: one of the two is always 0.

    The format's own PRELU rounds twice.
    """
    if call.dtype != "int8":
        raise Refusal("it is a PReLU on 16-bit integers; the format computes its product exactly with 8 bits only")
    if operator.slope_scale.size != 1:
        raise Refusal("its slopes have one scale for each channel; the format's MUL takes one: per_channel=false")
    if np.abs(operator.slopes).max(initial=0) > np.iinfo(np.int8).max:
        raise Refusal("its slopes have more than 8 bits; the format multiplies tensors of one type")
    one = Stored("int8", np.asarray(1.0, np.float32), 0, 0)
    scale = Stored("int8", operator.slope_scale.reshape(()), 0, 0)
    above = _part(call, "MAXIMUM", call.constant(np.array([1], np.int8), "one", one))
    below = _part(call, "MINIMUM", call.constant(operator.slopes.astype(np.int8)[np.newaxis], "slopes", scale))
    call.emit("ADD", [above, below], requantization=operator.requantization, fuses=True)


def _part(call: Call, operator: str, factor: int) -> int:
    """Adds one side of zero, times a factor, on the result's scale; returns its position."""
    file, source = call.writer.file, stored(call.input_format(), call.dtype)
    zero = call.constant(np.array([source.zero_point], np.int8), f"{operator.lower()}/zero", source)
    side = call.writer.new_tensor(f"{call.name}/{operator.lower()}", source, call.input_shape())
    file.add_operator(operator, [call.input(), zero], [side])
    product = call.writer.new_tensor(f"{call.name}/{operator.lower()}/product", call.output, call.shape)
    file.add_operator("MUL", [side, factor], [product])
    return product
