"""Writing a network as a LiteRT file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qpipe.config.export_schema import ExportIo
from qpipe.export.exported import Bound
from qpipe.export.litert import boundary, elementwise, linear, merge, pooling, prelu, shape
from qpipe.export.litert.call import Call, GraphWriter
from qpipe.export.litert.file import FileTensor, GraphFile
from qpipe.export.litert.kernels import bound_of
from qpipe.export.litert.metadata import metadata_of
from qpipe.export.network import Network
from qpipe.export.refusals import Refusal, Refusals
from qpipe.integer import Step, operators
from qpipe.integer.operator import Notes
from qpipe.lowering.boundary import InFloat

WRITERS: dict[type, Callable[[Any, Call], None]] = {
    operators.AveragePooling: pooling.write_average_pooling,
    operators.Clamp: shape.write_clamp,
    operators.Concatenation: merge.write_concatenation,
    operators.Convolution: linear.write_convolution,
    operators.Crop: shape.write_crop,
    operators.Dense: linear.write_dense,
    operators.GlobalMaxPooling: pooling.write_global_max_pooling,
    operators.GlobalMean: pooling.write_global_mean,
    operators.Identity: shape.write_identity,
    operators.Lookup: elementwise.write_lookup,
    operators.MaxPooling: pooling.write_max_pooling,
    operators.PReLU: prelu.write_prelu,
    operators.Pad: shape.write_pad,
    operators.Product: merge.write_product,
    operators.Repeat: shape.write_repeat,
    operators.Requantize: elementwise.write_requantize,
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
    """A LiteRT file in memory.

    Attributes:
        content: its bytes.
        graph: what it was made of.
        notes: what should be known about it, one sentence each.
        warnings: what it may compute otherwise than the integer engine, one sentence each.
        bound: how far its outputs may be from the engine's.
    """

    content: bytes
    graph: GraphFile
    bound: Bound
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def write_network(
    network: Network,
    *,
    io: ExportIo,
    pack_int4: bool = True,
    description: Mapping[str, Any] | None = None,
    observed: Mapping[str, Notes] | None = None,
    check_sums: bool = True,
) -> WrittenGraph:
    """Writes a network as a LiteRT file.

    Args:
        network: as `network_of` gives it.
        io: whether inputs and outputs are integers or real values.
        pack_int4: whether weights of at most 4 bits are stored in 4 bits, where there is a kernel for it.
        description: what goes into the metadata beside names and formats.
        observed: what the engine noted about each layer on data, if it ran.
        check_sums: whether layers whose sums may not fit an accumulator are refused.

    Raises:
        ExportError: what the format can't express, one sentence for each layer.
    """
    writer, refusals = GraphWriter(network, observed, pack_int4=pack_int4, check_sums=check_sums), Refusals()
    inputs = boundary.Inputs(writer, io)
    for step in network.program.steps:
        with refusals.of_layer(step.layer):
            _write_step(step, writer, inputs)
        _stand_in(step, writer)
    for name in set(network.program.inputs).intersection(network.program.outputs):
        with refusals.of_layer(name):
            raise Refusal("the model hands this input on as an output, in real values")
    refusals.raise_if_any("a LiteRT file")
    outputs = boundary.write_outputs(writer, io)
    writer.file.add_metadata("qpipe", metadata_of(network, inputs, io, description or {}))
    unread = [name for name in network.program.inputs if name not in inputs.positions]
    notes = [*network.notes, *(f"input {name!r} is not read and not in the file" for name in unread)]
    for name, preparation in inputs.preparations.items():
        if preparation:
            notes.append(f"input {name!r} takes integers of prepared values; the preparation is in the metadata")
    content = writer.file.content(inputs.positions, outputs, f"{network.name}, quantized by qpipe")
    return WrittenGraph(content, writer.file, bound_of(writer.file), tuple(notes), tuple(writer.warnings))


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
        target = writer.network.tensors[name]
        if target.format is not None and not writer.has(name):
            tensor = FileTensor((1, *target.shape), "int8")
            writer.keep(name, "int8", target.shape, writer.file.add_tensor(tensor, name))
