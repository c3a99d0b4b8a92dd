"""Operators with several inputs."""

from __future__ import annotations

import numpy as np

from qpipe.export.litert.call import Call
from qpipe.export.litert.storage import require_factors
from qpipe.export.refusals import Refusal
from qpipe.integer.operators import Concatenation, Product, Sum


def write_sum(operator: Sum, call: Call) -> None:
    """ADD or SUB of two tensors."""
    if len(operator.signs) != 2:
        raise Refusal(
            f"it adds {len(operator.signs)} tensors with one rounding, the format's ADD takes 2: add two at a time"
        )
    require_factors(np.array(operator.ratios), call.dtype)
    options = {"potScaleInt16": False} if call.dtype == "int16" else None
    call.emit(
        "SUB" if operator.signs[1] < 0 else "ADD",
        [call.input(0), call.input(1)],
        options,
        requantization=operator.requantization,
        fuses=True,
    )


def write_product(operator: Product, call: Call) -> None:
    """MUL."""
    require_factors(operator.requantization.multiplier, call.dtype)
    call.emit("MUL", [call.input(0), call.input(1)], requantization=operator.requantization, fuses=True)


def write_concatenation(operator: Concatenation, call: Call) -> None:
    """CONCATENATION of tensors of one format."""
    inputs = [call.input(index) for index in range(len(call.step.inputs))]
    axis = operator.axis if operator.axis >= 0 else len(call.shape) + 1 + operator.axis
    call.emit("CONCATENATION", inputs, {"axis": axis})
