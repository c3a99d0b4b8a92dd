"""An ONNX graph in the making: nodes, constants, and every tensor of the network in the axis orders that are read.

Convolutions of ONNX want channels behind the batch axis, the model has them last: a tensor is transposed where an
operator wants the other order, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from qpipe.config.export_schema import OnnxOperators
from qpipe.export.network import Network, Tensor
from qpipe.export.onnx.storage import dtype_of
from qpipe.numerics import QuantizedFormat

TYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "float64": onnx.TensorProto.DOUBLE,
    "int4": onnx.TensorProto.INT4,
    "int8": onnx.TensorProto.INT8,
    "int16": onnx.TensorProto.INT16,
    "int32": onnx.TensorProto.INT32,
    "int64": onnx.TensorProto.INT64,
}
CHANNELS_LAST, CHANNELS_FIRST = "/integers", "/channels_first"
"""What follows the name of a tensor of the network in the file: the model's order of axes, and that of ONNX."""


class GraphWriter:
    """A graph to which operators are added in the order in which they run.

    Args:
        network: what is written.
        operators: those of linear layers.

    Attributes:
        nodes: those added so far.
        constants: likewise.
    """

    def __init__(self, network: Network, operators: OnnxOperators):
        self.network = network
        self.operators = operators
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._constant_names: dict[tuple, str] = {}
        self._values: dict[tuple[str, bool], str] = {}
        self._dequantized: dict[str, str] = {}

    def tensor(self, name: str) -> Tensor:
        """Returns shape and format of a tensor of the network."""
        return self.network.tensors[name]

    def format(self, name: str) -> QuantizedFormat:
        """Returns the format of a quantized tensor of the network."""
        target = self.tensor(name).format
        assert target is not None
        return target

    def node(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """Adds a node and returns the name of its only output.

        Args:
            operator: of ONNX.
            inputs: names; an empty one leaves out an optional input.
            output: name; None makes one up.
            **attributes: of the operator.
        """
        output = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=f"{output}/{operator}", **attributes))
        return output

    def constant(self, values: Any, dtype: str, name: str = "constant") -> str:
        """Adds a constant and returns its name; equal ones are stored once.

        Args:
            values: numbers; whole ones for the integer types.
            dtype: a key of `TYPES`.
            name: what it is; a number is appended.
        """
        array = np.asarray(values, np.int8 if dtype == "int4" else dtype)
        key = (dtype, array.shape, array.tobytes())
        if key not in self._constant_names:
            unique = f"{name}_{len(self.constants)}"
            self._constant_names[key] = unique
            self.constants.append(_tensor(array, dtype, unique))
        return self._constant_names[key]

    def keep(self, name: str, value: str, *, first: bool = False) -> None:
        """Takes note that a tensor of the network has the name `value` in the file, in one order of its axes."""
        self._values[name, first and self._has_two_orders(name)] = value

    def value_name(self, name: str, *, first: bool = False) -> str:
        """Returns the name that a tensor of the network gets in the file."""
        return name + (CHANNELS_FIRST if first and self._has_two_orders(name) else CHANNELS_LAST)

    def has(self, name: str, *, first: bool | None = None) -> bool:
        """Whether a tensor was written, in any order of its axes or in a certain one."""
        return any((name, order) in self._values for order in ((False, True) if first is None else (first,)))

    def read(self, name: str, *, first: bool = False) -> str:
        """Returns the name in the file of a tensor of the network, transposed if need be.

        Args:
            name: of the tensor.
            first: whether channels come right behind the batch axis, instead of last; no matter for fewer than two
                axes behind the batch.
        """
        first = first and self._has_two_orders(name)
        if (name, first) not in self._values:
            rank = len(self.tensor(name).shape) + 1
            axes = (0, rank - 1, *range(1, rank - 1)) if first else (0, *range(2, rank), 1)
            other = self._values[name, not first]
            self._values[name, first] = self.node("Transpose", [other], self.value_name(name, first=first), perm=axes)
        return self._values[name, first]

    def dequantized(self, name: str, *, first: bool = False) -> str:
        """Returns the name of the real values of a tensor of the network."""
        value = self.read(name, first=first)
        if self.tensor(name).format is None:
            return value
        if value not in self._dequantized:
            inputs = [value, *self.parameters(self.format(name))]
            self._dequantized[value] = self.node("DequantizeLinear", inputs, f"{value}/real")
        return self._dequantized[value]

    def parameters(self, target: QuantizedFormat) -> tuple[str, str]:
        """Returns the names of a format's scale and of its zero point, as it is stored."""
        zero_point = self.constant(target.zero_point - target.storage_offset, dtype_of(target), "zero_point")
        return self.constant(target.scale, "float32", "scale"), zero_point

    def _has_two_orders(self, name: str) -> bool:
        return len(self.tensor(name).shape) > 1


def _tensor(array: np.ndarray, dtype: str, name: str) -> onnx.TensorProto:
    if dtype == "int4":
        return helper.make_tensor(name, TYPES[dtype], array.shape, packed_in_halves(array), raw=True)
    return numpy_helper.from_array(np.array(array, order="C"), name)


def packed_in_halves(integers: np.ndarray) -> bytes:
    """Returns two integers of 4 bits in each byte, the first in the lower half."""
    halves = np.append(integers.ravel(), np.zeros(integers.size % 2, np.int8)).astype(np.uint8) & 0x0F
    return (halves[0::2] | halves[1::2] << 4).tobytes()
