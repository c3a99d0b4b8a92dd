"""One operator of the network that is being written: its inputs in the forms that ONNX wants, and its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qpipe.export.onnx.graph import TYPES, GraphWriter
from qpipe.export.onnx.storage import dtype_of, type_range
from qpipe.integer import Step
from qpipe.integer.operators import Requantization
from qpipe.numerics import IntegerRange, QuantizedFormat

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Call:
    """An operator, the graph that it is added to, and the names of its tensors.

    Names `first` say whether channels come right behind the batch axis, as convolutions want it, or last.

    Attributes:
        writer: of the graph.
        step: the operator.
    """

    writer: GraphWriter
    step: Step

    @property
    def name(self) -> str:
        """Name of the result."""
        return self.step.outputs[0]

    @property
    def shape(self) -> Shape:
        """The shape of one sample of the result, channels last."""
        return self.writer.tensor(self.name).shape

    @property
    def format(self) -> QuantizedFormat:
        """The format of the result."""
        return self.writer.format(self.name)

    @property
    def first(self) -> bool:
        """Whether all inputs are there with their channels first: the order for operators that take either."""
        return all(self.writer.has(name, first=True) for name in self.step.inputs)

    def input(self, index: int = 0, *, first: bool = False) -> str:
        """Returns the name of an input, as it is stored."""
        return self.writer.read(self.step.inputs[index], first=first)

    def input_format(self, index: int = 0) -> QuantizedFormat:
        """Returns the format of an input."""
        return self.writer.format(self.step.inputs[index])

    def input_shape(self, index: int = 0) -> Shape:
        """Returns the shape of one sample of an input, channels last."""
        return self.writer.tensor(self.step.inputs[index]).shape

    def real(self, index: int = 0, *, first: bool = False) -> str:
        """Returns the name of an input's real values."""
        return self.writer.dequantized(self.step.inputs[index], first=first)

    def centred(self, index: int = 0, *, first: bool = False) -> str:
        """Returns the name of an input's integers relative to the zero point, in float64."""
        source = self.input_format(index)
        value = self.cast(self.input(index, first=first), "float64")
        return self.offset(value, source.storage_offset - source.zero_point, "float64")

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Adds a node and returns the name of its output."""
        return self.writer.node(operator, inputs, **attributes)

    def cast(self, value: str, dtype: str) -> str:
        """Adds a change of type."""
        return self.node("Cast", [value], to=TYPES[dtype])

    def offset(self, value: str, by: float, dtype: str) -> str:
        """Adds a number, where it is not 0."""
        return self.node("Add", [value, self.writer.constant(by, dtype)]) if by else value

    def integers(self, values: Sequence[int]) -> str:
        """Adds an int64 constant: shapes, axes, paddings."""
        return self.writer.constant(values, "int64", "integers")

    def result(self, operator: str, inputs: Sequence[str], *, first: bool = False, **attributes: Any) -> None:
        """Adds the node whose output is the result."""
        value = self.writer.node(operator, inputs, self.writer.value_name(self.name, first=first), **attributes)
        self.writer.keep(self.name, value, first=first)

    def quantize(self, real: str, requantization: Requantization, *, first: bool = False) -> None:
        """Makes real values the result: QuantizeLinear, and a Clip where the type holds more integers than the result.

        There is no Clip of 16-bit integers in the runtime: the real values are clipped to what the ends stand for.
        """
        parameters = self.writer.parameters(self.format)
        if dtype_of(self.format) == "int8":
            self.produce("QuantizeLinear", [real, *parameters], requantization, first=first)
            return
        clamp = self.stored_clamp(requantization)
        if clamp != type_range("int16"):
            zero_point = self.format.zero_point - self.format.storage_offset
            ends = [np.float32(end - zero_point) * self.format.scale for end in clamp]
            real = self.node("Clip", [real, *(self.writer.constant(end, "float32", "bound") for end in ends)])
        self.result("QuantizeLinear", [real, *parameters], first=first)

    def produce(
        self,
        operator: str,
        inputs: Sequence[str],
        requantization: Requantization,
        *,
        first: bool = False,
        **attributes: Any,
    ) -> None:
        """Adds the node that makes 8-bit integers, and a Clip where the type holds more of them than the result."""
        clamp = self.stored_clamp(requantization)
        if clamp == type_range("int8"):
            self.result(operator, inputs, first=first, **attributes)
        else:
            made = self.node(operator, inputs, **attributes)
            self.result("Clip", [made, *self._bounds(clamp, "int8")], first=first)

    def finish(self, rounded: str, requantization: Requantization, *, first: bool = False) -> None:
        """Makes whole float32 numbers, relative to the zero point, the result."""
        self.store(
            self.offset(rounded, self.format.zero_point - self.format.storage_offset, "float32"),
            requantization,
            first=first,
        )

    def store(self, stored: str, requantization: Requantization, *, first: bool = False) -> None:
        """Clips whole float32 numbers, as they are stored, and makes them the result."""
        bounds = self._bounds(self.stored_clamp(requantization), "float32")
        self.narrow(self.node("Clip", [stored, *bounds]), first=first)

    def narrow(self, stored: str, *, first: bool = False) -> None:
        """Makes whole numbers, as they are stored and inside of the result's range, the result."""
        self.result("Cast", [stored], first=first, to=TYPES[dtype_of(self.format)])

    def choose(self, operator: str, *further: str | int, first: bool = False, **attributes: Any) -> None:
        """Makes the result with an operator that chooses among the integers of its only input.

        The runtime has these operators for 8-bit integers; those of 16 bits pass through float32, which holds them.

        Args:
            operator: of ONNX.
            *further: names of its other inputs, or integers that are written in the type of the first.
            first: order of the axes.
            **attributes: of the operator.
        """
        dtype = dtype_of(self.format)
        through = dtype if dtype == "int8" else "float32"
        value = self.input(first=first)
        value = value if through == dtype else self.cast(value, through)
        inputs = [value, *(x if isinstance(x, str) else self.writer.constant(x, through) for x in further)]
        if through == dtype:
            self.result(operator, inputs, first=first, **attributes)
        else:
            self.narrow(self.node(operator, inputs, **attributes), first=first)

    def stored_clamp(self, requantization: Requantization) -> IntegerRange:
        """The smallest and the largest integer of the result, as they are stored."""
        lowest, highest = requantization.clamp
        offset = self.format.storage_offset
        return IntegerRange(lowest - offset, highest - offset)

    def _bounds(self, clamp: IntegerRange, dtype: str) -> tuple[str, str]:
        return self.writer.constant(clamp.lowest, dtype, "bound"), self.writer.constant(clamp.highest, dtype, "bound")
