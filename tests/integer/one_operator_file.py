"""Writes LiteRT files of one operator, and runs them: the reference that the integer engine is compared with.

Needs `ai-edge-litert` and `flatbuffers`; without them, the tests of a module that imports this one are skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

REASON = "the LiteRT interpreter is not installed (pip install 'qpipe[test]')"
flatbuffers = pytest.importorskip("flatbuffers", reason=REASON)
interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason=REASON, exc_type=ImportError)
schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason=REASON, exc_type=ImportError)

DEFAULT_PATH = interpreter.OpResolverType.AUTO
WITHOUT_XNNPACK = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES

_TENSOR_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
}

_OPTIONS = {
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GELU": "GeluOptions",
    "HARD_SWISH": "HardSwishOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MUL": "MulOptions",
    "PAD": "PadOptions",
    "PADV2": "PadV2Options",
    "QUANTIZE": "QuantizeOptions",
    "RESHAPE": "ReshapeOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SLICE": "SliceOptions",
    "SOFTMAX": "SoftmaxOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "TRANSPOSE": "TransposeOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
}


@dataclass(frozen=True)
class FileTensor:
    """One tensor of the file.

    Attributes:
        shape: its shape, batch axis included.
        dtype: `float32`, `int8`, `int16`, `int32` or `int64`.
        scale: None for a tensor that is not quantized, a number, or one number per channel.
        zero_point: the integer that stands for 0; per channel all are the same.
        channel_axis: the axis that `scale` belongs to where it is one per channel.
        data: None for inputs and outputs of the graph, else the constant's content.
    """

    shape: Sequence[int]
    dtype: str = "int8"
    scale: float | np.ndarray | None = None
    zero_point: int = 0
    channel_axis: int = 0
    data: np.ndarray | None = None

    @classmethod
    def constant(cls, data: np.ndarray, scale=None, zero_point: int = 0, channel_axis: int = 0) -> FileTensor:
        """Returns a constant of the shape and type of `data`."""
        return cls(data.shape, data.dtype.name, scale, zero_point, channel_axis, data)


class OneOperator:
    """A LiteRT file of one operator, loaded into an interpreter.

    Args:
        operator: name in the file format, such as `CONV_2D`.
        inputs: the operator's inputs in the format's order; None leaves out an optional one.
        output: the operator's output.
        options: fields of the operator's options, such as `{"strideW": 2}`.
        version: the operator's version.
        path: `DEFAULT_PATH` (XNNPACK where it supports the operator) or `WITHOUT_XNNPACK`.
    """

    def __init__(
        self,
        operator: str,
        inputs: Sequence[FileTensor | None],
        output: FileTensor,
        options: Mapping[str, object] | None = None,
        version: int = 1,
        path=DEFAULT_PATH,
    ):
        self.content = one_operator_file(operator, inputs, output, options, version)
        self._interpreter = interpreter.Interpreter(
            model_content=self.content, experimental_op_resolver_type=path, num_threads=1
        )
        self._interpreter.allocate_tensors()

    @property
    def delegated(self) -> bool:
        """Whether XNNPACK has taken the operator over; otherwise a kernel of the runtime computes it."""
        return any(op["op_name"] == "DELEGATE" for op in self._interpreter._get_ops_details())

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        """Returns the output's integers (or floats) for the graph's inputs, in the order of `inputs`."""
        for detail, array in zip(self._interpreter.get_input_details(), arrays, strict=True):
            self._interpreter.set_tensor(detail["index"], np.ascontiguousarray(array, dtype=detail["dtype"]))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._interpreter.get_output_details()[0]["index"])


def one_operator_file(
    operator: str,
    inputs: Sequence[FileTensor | None],
    output: FileTensor,
    options: Mapping[str, object] | None = None,
    version: int = 1,
) -> bytes:
    """Returns the content of a LiteRT file whose graph is one operator; see `OneOperator` for the arguments."""
    model = schema.ModelT()
    model.version = 3
    model.description = operator
    model.buffers = [schema.BufferT()]
    given = [tensor for tensor in inputs if tensor is not None]
    positions = iter(range(len(given)))

    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = [_tensor(tensor, model, f"input_{index}") for index, tensor in enumerate(given)]
    graph.tensors.append(_tensor(output, model, "output"))
    graph.inputs = [index for index, tensor in enumerate(given) if tensor.data is None]
    graph.outputs = [len(given)]

    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, operator)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = version
    node = schema.OperatorT()
    node.inputs = [-1 if tensor is None else next(positions) for tensor in inputs]
    node.outputs = graph.outputs
    if operator in _OPTIONS:
        name = _OPTIONS[operator]
        node.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        node.builtinOptions = getattr(schema, f"{name}T")()
        for field, value in (options or {}).items():
            if not hasattr(node.builtinOptions, field):
                raise ValueError(f"{name} has no field '{field}'")
            setattr(node.builtinOptions, field, value)
    graph.operators = [node]
    model.operatorCodes = [code]
    model.subgraphs = [graph]

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(tensor: FileTensor, model: schema.ModelT, name: str) -> schema.TensorT:
    written = schema.TensorT()
    written.name = name
    written.shape = list(tensor.shape)
    written.hasRank = True
    written.type = _TENSOR_TYPES[tensor.dtype]
    written.buffer = 0
    if tensor.data is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(tensor.data).tobytes(), np.uint8)
        written.buffer = len(model.buffers)
        model.buffers.append(buffer)
    if tensor.scale is not None:
        scales = np.atleast_1d(np.asarray(tensor.scale, np.float32))
        written.quantization = schema.QuantizationParametersT()
        written.quantization.scale = scales
        written.quantization.zeroPoint = np.full(scales.shape, tensor.zero_point, np.int64)
        written.quantization.quantizedDimension = tensor.channel_axis
    return written
