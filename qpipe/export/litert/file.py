"""LiteRT files: tensors, constants and operators of one graph, written as a flatbuffer.

The format is TensorFlow Lite's `schema.fbs`, whose generated Python classes `ai_edge_litert` carries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from qpipe.export.litert.options import OPTIONS, VERSIONS

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
ALIGNMENT = 16
"""Bytes: constants start at multiples of it, so that kernels may read them where they are."""
SIGNATURE = "serving_default"

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int4": schema.TensorType.INT4,
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
}
BYTES = {"float32": 4, "int4": 0.5, "int8": 1, "int16": 2, "int32": 4, "int64": 8}
"""Of one value of each type."""


@dataclass(frozen=True, eq=False)
class FileTensor:
    """One tensor of the file.

    Attributes:
        shape: its shape, batch axis included.
        dtype: a key of `TYPES`.
        scale: None for a tensor that is not quantized, a number, or one number per channel.
        zero_point: the integer that stands for 0; per channel all are the same.
        channel_axis: the axis that `scale` belongs to where it is one per channel.
        data: None for tensors that are fed or computed, else the constant's content; int8 values for `int4`.
        batched: whether the first axis may have any size when the file is run.
    """

    shape: Sequence[int]
    dtype: str = "int8"
    scale: float | np.ndarray | None = None
    zero_point: int = 0
    channel_axis: int = 0
    data: np.ndarray | None = None
    batched: bool = False

    @classmethod
    def constant(cls, data: np.ndarray, scale=None, zero_point: int = 0, channel_axis: int = 0) -> FileTensor:
        """Returns a constant of the shape and type of `data`."""
        return cls(data.shape, data.dtype.name, scale, zero_point, channel_axis, data)

    @property
    def content(self) -> bytes:
        """The constant's bytes: two `int4` values in each, the first in the lower half."""
        assert self.data is not None
        values = np.ascontiguousarray(self.data)
        if self.dtype != "int4":
            return values.tobytes()
        halves = np.append(values.ravel(), np.zeros(values.size % 2, np.int8)).astype(np.uint8) & 0x0F
        return (halves[0::2] | halves[1::2] << 4).tobytes()


class _AlignedBuffer(schema.BufferT):
    """A constant whose bytes start at a multiple of `ALIGNMENT`, which the generated class does not see to."""

    def Pack(self, builder):  # noqa: N802
        data = self.data
        builder.StartVector(1, len(data), ALIGNMENT)
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


class GraphFile:
    """A file of one graph, made tensor by tensor and operator by operator.

    Attributes:
        tensors: those added so far; operators refer to them by their position.
        operators: name, inputs (-1: left out) and outputs of those added so far, in the order in which they run.
    """

    def __init__(self):
        self.tensors: list[FileTensor] = []
        self.operators: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
        self._buffers: list[schema.BufferT] = [schema.BufferT()]
        self._places: dict[bytes, int] = {}
        self._codes: dict[str, int] = {}
        self._code_tables: list[schema.OperatorCodeT] = []
        self._metadata: list[schema.MetadataT] = []
        self._graph = schema.SubGraphT()
        self._graph.name = "main"
        self._graph.tensors, self._graph.operators = [], []

    def add_tensor(self, tensor: FileTensor, name: str) -> int:
        """Adds a tensor and returns its position; equal constants share their bytes."""
        written = schema.TensorT()
        written.name = name
        written.shape = list(tensor.shape)
        written.hasRank = True
        if tensor.batched:
            written.shapeSignature = [-1, *tensor.shape[1:]]
        written.type = TYPES[tensor.dtype]
        written.buffer = 0 if tensor.data is None else self._buffer(tensor.content)
        if tensor.scale is not None:
            scales = np.atleast_1d(np.asarray(tensor.scale, np.float32))
            written.quantization = schema.QuantizationParametersT()
            written.quantization.scale = scales
            written.quantization.zeroPoint = np.full(scales.shape, tensor.zero_point, np.int64)
            written.quantization.quantizedDimension = tensor.channel_axis
        self._graph.tensors.append(written)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def add_operator(
        self,
        operator: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Mapping[str, object] | None = None,
        version: int | None = None,
    ) -> None:
        """Adds an operator behind those that are there.

        Args:
            operator: its name in the format, such as `CONV_2D`.
            inputs: positions of tensors in the operator's order; -1 leaves out an optional one.
            outputs: positions of tensors.
            options: fields of the operator's options.
            version: of the operator; None takes the one of `VERSIONS`.

        Raises:
            ValueError: if the operator has no such option.
        """
        node = schema.OperatorT()
        node.opcodeIndex = self._code(operator, version or VERSIONS.get(operator, 1))
        node.inputs, node.outputs = list(inputs), list(outputs)
        if operator in OPTIONS:
            name = OPTIONS[operator]
            node.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            node.builtinOptions = getattr(schema, f"{name}T")()
            for field, value in (options or {}).items():
                if not hasattr(node.builtinOptions, field):
                    raise ValueError(f"{name} has no field '{field}'")
                setattr(node.builtinOptions, field, value)
        self._graph.operators.append(node)
        self.operators.append((operator, tuple(inputs), tuple(outputs)))

    def add_metadata(self, name: str, content: bytes) -> None:
        """Adds bytes under a name, for readers of the file."""
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, self._buffer(content)
        self._metadata.append(entry)

    def content(self, inputs: Mapping[str, int], outputs: Mapping[str, int], description: str = "") -> bytes:
        """Returns the file.

        Args:
            inputs: positions of the graph's inputs by the names that its signature gives them.
            outputs: of its outputs alike.
            description: free text.
        """
        model = schema.ModelT()
        model.version = SCHEMA_VERSION
        model.description = description
        model.buffers, model.operatorCodes, model.subgraphs = self._buffers, self._code_tables, [self._graph]
        model.metadata = self._metadata or None
        self._graph.inputs, self._graph.outputs = list(inputs.values()), list(outputs.values())
        signature = schema.SignatureDefT()
        signature.signatureKey = SIGNATURE
        signature.inputs, signature.outputs = tensor_maps(inputs), tensor_maps(outputs)
        model.signatureDefs = [signature]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _buffer(self, content: bytes) -> int:
        if content not in self._places:
            buffer = _AlignedBuffer()
            buffer.data = content
            self._places[content] = len(self._buffers)
            self._buffers.append(buffer)
        return self._places[content]

    def _code(self, operator: str, version: int) -> int:
        key = f"{operator}:{version}"
        if key not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, operator)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = version
            self._codes[key] = len(self._code_tables)
            self._code_tables.append(code)
        return self._codes[key]


def tensor_maps(tensors: Mapping[str, int]) -> list[schema.TensorMapT]:
    """Returns positions of tensors with their names, as a signature has them."""
    maps = []
    for name, index in tensors.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        maps.append(entry)
    return maps
