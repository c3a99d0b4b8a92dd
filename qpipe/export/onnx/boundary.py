"""The ends of a file: inputs and outputs, as integers or as real values."""

from __future__ import annotations

import onnx
from onnx import helper

from qpipe.config.export_schema import ExportIo
from qpipe.export.inputs import FileInputs
from qpipe.export.onnx.call import Call
from qpipe.export.onnx.graph import TYPES, GraphWriter
from qpipe.export.onnx.storage import dtype_of, type_range
from qpipe.integer.operators import Quantize
from qpipe.integer.operators.boundary import ONE
from qpipe.numerics import QuantizedFormat

BATCH = "batch"
"""Name of the first axis of inputs and outputs, which may have any size."""

OPERATIONS = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div"}


class Inputs(FileInputs):
    """The file's inputs, made when the network's quantizations of them are written.

    Attributes:
        declared: the file's inputs, by the names of the network's.
        formats: for inputs that are integers what these stand for.
    """

    def __init__(self, writer: GraphWriter, io: ExportIo):
        super().__init__(writer, io)
        self.declared: dict[str, onnx.ValueInfoProto] = {}
        self.formats: dict[str, QuantizedFormat] = {}

    @property
    def _written(self):
        return self.declared

    def _from_real_values(self, operator: Quantize, call: Call, name: str) -> None:
        """Prepares, multiplies by 1 / s and rounds, as the engine does; QuantizeLinear would divide by s."""
        self._declare(name, "float32", call.shape)
        value = name
        for operation, values in operator.preparation:
            value = call.node(OPERATIONS[operation], [value, call.writer.constant(values, "float32", operation)])
        reciprocal = call.writer.constant(ONE / call.format.scale, "float32", "reciprocal")
        rounded = call.node("Round", [call.node("Mul", [value, reciprocal])])
        call.finish(rounded, operator.requantization)

    def _from_integers(self, operator: Quantize, call: Call, name: str) -> None:
        """The input's integers are those of its quantization."""
        raw = operator.input_format()
        self.formats[name] = call.format if raw is None else raw
        if raw is None and operator.preparation:
            self.preparations[name] = operator.preparation
        self._declare(name, dtype_of(call.format), call.shape)
        self._writer.keep(name, name)
        clamp = call.stored_clamp(operator.requantization)
        if clamp == type_range(dtype_of(call.format)):
            self._writer.keep(call.name, name)
        else:
            call.choose("Clip", *clamp)

    def _declare(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        self.declared[name] = helper.make_tensor_value_info(name, TYPES[dtype], [BATCH, *shape])


def write_outputs(writer: GraphWriter, io: ExportIo) -> list[onnx.ValueInfoProto]:
    """Adds the outputs under the model's names for them, and returns their descriptions."""
    declared = []
    for output, name in zip(writer.network.output_names, writer.network.program.outputs, strict=True):
        shape, target = writer.tensor(name).shape, writer.format(name)
        if io is ExportIo.float:
            writer.node("DequantizeLinear", [writer.read(name), *writer.parameters(target)], output)
        else:
            writer.node("Identity", [writer.read(name)], output)
        dtype = "float32" if io is ExportIo.float else dtype_of(target)
        declared.append(helper.make_tensor_value_info(output, TYPES[dtype], [BATCH, *shape]))
    return declared
