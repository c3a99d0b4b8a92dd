"""Whether the sums of a layer stay inside of what the runtime holds: its accumulators wrap, the engine's saturate."""

from __future__ import annotations

import numpy as np

from qpipe.export.litert.call import Call
from qpipe.export.refusals import Refusal
from qpipe.integer.operators.linear import Linear
from qpipe.numerics import integer_range

RUNTIME_BITS = {"int8": 32, "int16": 64}
"""Accumulator width for activations of each type."""


def require_room(operator: Linear, call: Call, buffer_bitwidth: int) -> None:
    """Refuses a layer whose sums may leave its buffer or the runtime's accumulator.

    A layer as wide as the runtime's accumulator passes with a warning if the engine has seen only sums that fit.

    Args:
        operator: the layer's.
        call: of the operator.
        buffer_bitwidth: to which the engine saturates its sums.

    Raises:
        Refusal: if the worst case does not fit, and nothing has shown that real sums do.
    """
    needed, runtime = worst_bits(operator, call), RUNTIME_BITS[call.dtype]
    if needed <= min(buffer_bitwidth, runtime) or not call.writer.check_sums:
        return
    if buffer_bitwidth < runtime:
        raise Refusal(
            f"its sums may need {needed} bits and saturate at buffer_bitwidth={buffer_bitwidth}, which the runtime's "
            f"{runtime} bits don't; allowed: buffer_bitwidth={runtime}, or narrower weights"
        )
    notes = call.writer.observed.get(call.step.layer)
    if notes is None or notes.accumulator_bits > runtime:
        seen = "" if notes is None else f" ({notes.accumulator_bits} on the data)"
        raise Refusal(
            f"its sums may need {needed} bits{seen}, and the runtime's {runtime} bits wrap: narrow its weights"
        )
    call.writer.warnings.append(
        f"{call.step.layer}: its sums may need {needed} bits in the worst case, and the runtime's {runtime} bits wrap; "
        f"on the data {notes.accumulator_bits} bits were enough"
    )


def worst_bits(operator: Linear, call: Call) -> int:
    """Returns the bits of a signed integer that no input can overflow."""
    lowest, highest = call.input_format().centred_integers
    bias = 0 if operator.bias is None else int(np.abs(operator.bias).max(initial=0))
    worst = max(-lowest, highest) * operator.largest_kernel_sum + bias
    return next(bits for bits in range(2, 129) if worst <= integer_range(bits).highest)
