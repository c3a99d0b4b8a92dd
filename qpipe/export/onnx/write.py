"""Writing a network as an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

from qpipe import __version__
from qpipe.config.export_schema import ExportIo, OnnxOperators
from qpipe.export.network import Network
from qpipe.export.onnx import boundary, elementwise, linear, merge, pooling, shape
from qpipe.export.onnx.call import Call
from qpipe.export.onnx.graph import GraphWriter
from qpipe.export.onnx.metadata import metadata_of
from qpipe.export.refusals import Refusal, Refusals
from qpipe.integer import Step
from qpipe.integer import operators as engine
from qpipe.lowering.boundary import InFloat

OPSET = 21
"""The first one with integers of 4 bits, and of 16 in QuantizeLinear."""

IR_VERSION = 10
"""Of the file format that belongs to the operator set."""

WRITERS: dict[type, Callable[[Any, Call], None]] = {
    engine.AveragePooling: pooling.write_average_pooling,
    engine.Clamp: shape.write_clamp,
    engine.Concatenation: merge.write_concatenation,
    engine.Convolution: linear.write_convolution,
    engine.Crop: shape.write_cropping,
    engine.Dense: linear.write_dense,
    engine.GlobalMaxPooling: pooling.write_global_max_pooling,
    engine.GlobalMean: pooling.write_global_mean,
    engine.Identity: shape.write_identity,
    engine.Lookup: elementwise.write_table,
    engine.MaxPooling: pooling.write_max_pooling,
    engine.PReLU: elementwise.write_prelu,
    engine.Pad: shape.write_padding,
    engine.Product: merge.write_product,
    engine.Repeat: shape.write_repetition,
    engine.Requantize: elementwise.write_table,
    engine.Reshape: shape.write_reshape,
    engine.Scale: linear.write_scale,
    engine.Softmax: elementwise.write_softmax,
    engine.Sum: merge.write_sum,
    engine.Transpose: shape.write_transpose,
    engine.TransposedConvolution: linear.write_transposed_convolution,
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


def write_network(
    network: Network,
    *,
    io: ExportIo,
    operators: OnnxOperators = OnnxOperators.qdq,
    description: Mapping[str, Any] | None = None,
) -> WrittenGraph:
    """Writes a network as an ONNX file.

    Args:
        network: as `network_of` gives it.
        io: whether inputs and outputs are integers or real values.
        operators: those of linear layers.
        description: what goes into the metadata beside names and formats.

    Raises:
        ExportError: what the format can't express, one sentence for each layer.
    """
    writer, refusals = GraphWriter(network, operators), Refusals()
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
    used = tuple(sorted({node.op_type for node in writer.nodes}))
    return WrittenGraph(model.SerializeToString(deterministic=True), used, _notes(network, inputs))


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
    if isinstance(operator, engine.Quantize):
        inputs.write_quantize(operator, Call(writer, step))
    elif not isinstance(operator, engine.Dequantize):
        if isinstance(getattr(operator, "requantization", None), engine.RealOutput):
            raise Refusal("it has no output quantizer, its results are real values")
        WRITERS[type(operator)](operator, Call(writer, step))


def _stand_in(step: Step, writer: GraphWriter) -> None:
    """Lets layers behind a refused one be looked at, too."""
    for name in step.outputs:
        if not writer.has(name):
            writer.keep(name, name)
