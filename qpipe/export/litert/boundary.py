"""The ends of a file: inputs and outputs, as integers or as real values."""

from __future__ import annotations

import numpy as np

from qpipe.config.export_schema import ExportIo
from qpipe.export.inputs import FileInputs
from qpipe.export.litert.call import Call, GraphWriter
from qpipe.export.litert.file import FileTensor
from qpipe.export.litert.storage import stored
from qpipe.integer.operators import Quantize
from qpipe.numerics import QuantizedFormat

FLOAT_OPERATORS = {"add": "ADD", "subtract": "SUB", "multiply": "MUL", "divide": "DIV"}


class Inputs(FileInputs):
    """The file's inputs, made when the network's quantizations of them are written.

    Attributes:
        positions: of the file's inputs, by the names of the network's.
        raw_formats: for inputs that are integers what these stand for, where they stand for the real input.
    """

    def __init__(self, writer: GraphWriter, io: ExportIo):
        super().__init__(writer, io)
        self.positions: dict[str, int] = {}
        self.raw_formats: dict[str, QuantizedFormat] = {}

    @property
    def _written(self):
        return self.positions

    def _from_real_values(self, operator: Quantize, call: Call, name: str) -> None:
        writer, shape = self._writer, call.shape
        if name not in self.positions:
            self.positions[name] = writer.file.add_tensor(FileTensor((1, *shape), "float32", batched=True), name)
        index = self.positions[name]
        for position, (operation, values) in enumerate(operator.preparation):
            operand = writer.constant(values.astype(np.float32), f"{call.name}/{operation}_{position}")
            result = FileTensor((1, *shape), "float32", batched=True)
            prepared = writer.file.add_tensor(result, f"{call.name}/prepared_{position}")
            writer.file.add_operator(FLOAT_OPERATORS[operation], [index, operand], [prepared], version=1)
            index = prepared
        call.emit("QUANTIZE", [index], requantization=operator.requantization)

    def _from_integers(self, operator: Quantize, call: Call, name: str) -> None:
        writer, output = self._writer, call.output
        raw = operator.input_format()
        given = output if raw is None else stored(raw, call.dtype)
        self.raw_formats[name] = operator.requantization.output if raw is None else raw
        if raw is None:
            self.preparations[name] = operator.preparation
        index = self.positions[name] = writer.new_tensor(name, given, call.shape)
        if (given.scale, given.zero_point) != (output.scale, output.zero_point):
            relabelled = writer.new_tensor(f"{call.name}/integers", output, call.shape)
            writer.add_reshape(index, relabelled, call.shape)
            index = relabelled
        lowest, highest = (end - output.offset for end in operator.requantization.output.integers)
        call.clamp(index, type(output.integers)(lowest, highest), output.integers, call.shape)


def write_outputs(writer: GraphWriter, io: ExportIo) -> dict[str, int]:
    """Returns the positions of the file's outputs by the model's names for them."""
    positions = {}
    for output, name in zip(writer.network.output_names, writer.network.program.outputs, strict=True):
        index = writer.read(name)
        if io is ExportIo.float:
            tensor = FileTensor((1, *writer.shape(name)), "float32", batched=True)
            real = writer.file.add_tensor(tensor, f"{name}/real")
            writer.file.add_operator("DEQUANTIZE", [index], [real])
            index = real
        positions[output] = index
    return positions
