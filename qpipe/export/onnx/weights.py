"""Kernels and biases as an ONNX file stores them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qpipe.export.onnx.call import Call
from qpipe.export.onnx.storage import dtype_of, type_of_integers
from qpipe.export.refusals import Refusal
from qpipe.integer.operators import Requantization
from qpipe.integer.operators.linear import Linear
from qpipe.numerics import integer_range

KERNEL_TYPES = ("int4", "int8", "int16")
RUNTIME_BUFFER = 32
"""Bits of the accumulator of operators on 8-bit integers; it wraps."""


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """The weights of a linear layer in a file.

    Attributes:
        kernel: name of its integers, int8 or int16.
        bias: name of its int32 integers, if there is one.
        scales: float32, of the kernel's integers: one, or one for each output channel.
        accumulator_scales: likewise, of the bias.
        channel_axis: of the kernel: that of the output channels.
        requantization: of the accumulator.
    """

    kernel: str
    bias: str | None
    scales: np.ndarray
    accumulator_scales: np.ndarray
    channel_axis: int
    requantization: Requantization

    def dequantized(self, call: Call) -> list[str]:
        """Adds DequantizeLinear and returns the names of the real kernel and bias."""
        kernel = _dequantize(call, self.kernel, self.scales, self.channel_axis)
        return [kernel] + ([] if self.bias is None else [_dequantize(call, self.bias, self.accumulator_scales, 0)])

    def parameters(self, call: Call) -> list[str]:
        """Returns the names of an 8-bit kernel, its scales and its zero points."""
        zeros = np.zeros_like(_one_or_all(self.scales))
        return [self.kernel, _constant(call, self.scales), call.writer.constant(zeros, "int8", "zero_point")]


def stored_weights(
    operator: Linear, call: Call, kernel: np.ndarray, products: np.ndarray, channel_axis: int
) -> StoredWeights:
    """Adds the constants of a layer.

    Kernels of 4 bits and less are stored in 4 bits and cast to 8, which the runtime does when it loads the file.
    Beside activations of 16 bits kernels are cast to 16 bits: ONNX Runtime takes a dense layer with an 8-bit kernel
    that it can't fuse for one of a language model, and quantizes its activations to 8 bits on the fly.

    Args:
        operator: of the layer.
        call: likewise.
        kernel: its integers in ONNX's order of axes.
        products: the same integers, the output channels last.
        channel_axis: of `kernel`: that of the output channels.

    Raises:
        Refusal: a type does not hold the integers, or an accumulator the sums.
    """
    dtype = type_of_integers(kernel, "weights", KERNEL_TYPES)
    narrow = has_narrow_tensors(operator, call)
    _require_room(operator, call, products, narrow=narrow)
    name = call.writer.constant(kernel, dtype, f"{call.name}/kernel")
    computed = "int8" if narrow else "int16"
    name = name if dtype == computed else call.cast(name, computed)
    bias = None
    if operator.bias is not None:
        type_of_integers(operator.bias, "biases", ("int32",))
        bias = call.writer.constant(operator.bias, "int32", f"{call.name}/bias")
    scales = operator.kernel_scale
    assert isinstance(operator.requantization, Requantization)
    return StoredWeights(name, bias, scales, scales * call.input_format().scale, channel_axis, operator.requantization)


def has_narrow_tensors(operator: Linear, call: Call) -> bool:
    """Whether input, kernel and output of a layer fit 8 bits."""
    activations = dtype_of(call.input_format()), dtype_of(call.format)
    return activations == ("int8", "int8") and type_of_integers(operator.kernel, "weights", KERNEL_TYPES) != "int16"


def _dequantize(call: Call, integers: str, scales: np.ndarray, axis: int) -> str:
    per_channel = {"axis": axis} if scales.size > 1 else {}
    return call.node("DequantizeLinear", [integers, _constant(call, scales)], **per_channel)


def _constant(call: Call, scales: np.ndarray) -> str:
    return call.writer.constant(_one_or_all(scales), "float32", "scale")


def _one_or_all(scales: np.ndarray) -> np.ndarray:
    """A number for one scale, else a vector."""
    return scales if scales.size > 1 else scales.reshape(())


def _require_room(operator: Linear, call: Call, products: np.ndarray, *, narrow: bool) -> None:
    """Refuses a layer whose accumulator can leave its buffer, or the runtime's, for some input."""
    low, high = call.input_format().centred_integers
    sums = tuple(range(products.ndim - 1))
    highest = np.maximum(products * low, products * high).sum(axis=sums)
    lowest = np.minimum(products * low, products * high).sum(axis=sums)
    if operator.bias is not None:
        highest, lowest = highest + operator.bias, lowest + operator.bias
    width = operator.requantization.buffer_bitwidth
    allowed = integer_range(min(width, RUNTIME_BUFFER) if narrow else width)
    reached = int(lowest.min(initial=0)), int(highest.max(initial=0))
    if reached[0] < allowed.lowest or reached[1] > allowed.highest:
        raise Refusal(
            f"its accumulator can reach from {reached[0]} to {reached[1]} and would saturate at {width} bits, which "
            "the format can't express; give it a wider buffer_bitwidth or narrower weights"
        )
