"""Writing a network as an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

from qpipe import __version__
from qpipe.config.export_schema import ExportIo
from qpipe.export.network import Network
from qpipe.export.onnx import boundary, elementwise, linear, merge, pooling, shape
from qpipe.export.onnx.call import Call
from qpipe.export.onnx.graph import GraphWriter
from qpipe.export.onnx.metadata import metadata_of
from qpipe.export.refusals import Refusal, Refusals
from qpipe.integer import Step, operators
from qpipe.lowering.boundary import InFloat

OPSET = 21
"""The first one with integers of 4 bits, and of 16 in QuantizeLinear."""

IR_VERSION = 10
"""Of the file format that belongs to the operator set."""

WRITERS: dict[type, Callable[[Any, Call], None]] = {
    operators.AveragePooling: pooling.write_average_pooling,
    operators.Clamp: shape.write_clamp,
    operators.Concatenation: merge.write_concatenation,
    operators.Convolution: linear.write_convolution,
    operators.Crop: shape.write_cropping,
    operators.Dense: linear.write_dense,
    operators.GlobalMaxPooling: pooling.write_global_max_pooling,
    operators.GlobalMean: pooling.write_global_mean,
    operators.Identity: shape.write_identity,
    operators.Lookup: elementwise.write_table,
    operators.MaxPooling: pooling.write_max_pooling,
    operators.PReLU: elementwise.write_prelu,
    operators.Pad: shape.write_padding,
    operators.Product: merge.write_product,
    operators.Repeat: shape.write_repetition,
    operators.Requantize: elementwise.write_table,
    operators.Reshape: shape.write_reshape,
    operators.Scale: linear.write_scale,
    operators.Softmax: elementwise.write_softmax,
    operators.Sum: merge.write_sum,
    operators.Transpose: shape.write_transpose,
    operators.TransposedConvolution: linear.write_transposed_convolution,
}
"""For every operator of the engine what writes it; `Quantize` and `Dequantize` are the ends of the file."""


@dataclass(frozen=True, eq=False)
class WrittenGraph:
    """An ONNX file in memory.

    Attributes:
        content: its bytes.
        operators: names of ONNX's operators that it uses.
        notes: what should be known about it, one sentence each.
    """

    content: bytes
    operators: tuple[str, ...]
    notes: tuple[str, ...]


def write_network(network: Network, *, io: ExportIo, description: Mapping[str, Any] | None = None) -> WrittenGraph:
    """Writes a network as an ONNX file.

    Args:
        network: as `network_of` gives it.
        io: whether inputs and outputs are integers or real values.
        description: what goes into the metadata beside names and formats.

    Raises:
        ExportError: what the format can't express, one sentence for each layer.
    """
    writer, refusals = GraphWriter(network), Refusals()
    inputs = boundary.Inputs(writer, io)
    for step in network.program.steps:
        with refusals.of_layer(step.layer):
            _write_step(step, writer, inputs)
        _stand_in(step, writer)
    refusals.raise_if_any("an ONNX file")
    outputs = boundary.write_outputs(writer, io)
    graph = helper.make_graph(writer.nodes, network.name, list(inputs.declared.values()), outputs, writer.constants)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="qpipe",
        producer_version=__version__,
    )
    helper.set_model_props(model, metadata_of(network, inputs, io, description or {}))
    onnx.checker.check_model(model)
    operators_used = tuple(sorted({node.op_type for node in writer.nodes}))
    return WrittenGraph(model.SerializeToString(deterministic=True), operators_used, _notes(network, inputs))


def _notes(network: Network, inputs: boundary.Inputs) -> tuple[str, ...]:
    unread = [name for name in network.program.inputs if name not in inputs.declared]
    return (
        *network.notes,
        *(f"input {name!r} is not read and not in the file" for name in unread),
        *(
            f"input {name!r} takes integers of prepared values; the preparation is in the metadata"
            for name in inputs.preparations
        ),
    )


def _write_step(step: Step, writer: GraphWriter, inputs: boundary.Inputs) -> None:
    operator = step.operator
    if isinstance(operator, InFloat):
        raise Refusal("it stays in float, and a file has integers only")
    if isinstance(operator, operators.Quantize):
        inputs.write_quantize(operator, Call(writer, step))
    elif not isinstance(operator, operators.Dequantize):
        if isinstance(getattr(operator, "requantization", None), operators.RealOutput):
            raise Refusal("it has no output quantizer, its results are real values")
        WRITERS[type(operator)](operator, Call(writer, step))


def _stand_in(step: Step, writer: GraphWriter) -> None:
    """Lets layers behind a refused one be looked at, too."""
    for name in step.outputs:
        if not writer.has(name):
            writer.keep(name, name)
