"""Bias quantizers of the accumulator's width, as QKeras fills them in."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from qpipe.errors import QuantizationError
from qpipe.graph.trace import Graph, Node, trace
from qpipe.graph.treatments import keeps_quantizer
from qpipe.layers.boundary import Quantize
from qpipe.layers.linear import QuantizedLinear
from qpipe.quantizers import AlignedWeightQuantizer, OutputQuantizer
from qpipe.quantizers.qkeras_strings import largest_integer_of_qkeras


def populate_bias_quantizer_from_accumulator(
    model: keras.Model, source_quantizers: Sequence[OutputQuantizer | str] | None = None
) -> keras.Model:
    """Gives layers with a kernel quantizer and without a bias quantizer one of their accumulator's width.

    The width is that of the largest sum of products, and its sign; where the integers that a layer receives are not
    known (it reads real values), it is the buffer's. The quantizers take effect once `qpipe.quantize` connects the
    layers, which keeps them.

    Args:
        model: Functional or Sequential model; its layers are changed.
        source_quantizers: for each input of the model its quantizer, an `OutputQuantizer` or a text of QKeras such as
            `quantized_bits(8, 0, 1)`; None: the inputs are real values.

    Returns:
        `model`.

    Raises:
        QuantizationError: if the number of quantizers is not that of the inputs.
        ValueError: if a text is no quantizer of QKeras for inputs.
    """
    graph = trace(model)
    largest = _largest_inputs(graph, source_quantizers)
    for node in graph.nodes:
        layer = node.operation
        if isinstance(layer, QuantizedLinear) and layer.kernel_quantizer and layer.bias_quantizer is None:
            width = layer.buffer_bitwidth
            if (received := largest.get(id(node.inputs[0]))) is not None:
                products = layer.products_per_output * received * layer.kernel_quantizer.integers.highest
                width = min(width, products.bit_length() + 1)
            layer.set_bias_quantizer(AlignedWeightQuantizer(width, layer.buffer_bitwidth, name=f"{layer.name}_bias"))
        if (made := _largest_output(node, largest)) is not None:
            largest[id(node.outputs[0])] = made
    return model


def _largest_inputs(graph: Graph, source_quantizers) -> dict[int, int]:
    """The largest magnitude of each input's integers, by the id of its edge."""
    if source_quantizers is None:
        return {}
    if len(source_quantizers) != len(graph.inputs):
        raise QuantizationError(
            f"source_quantizers has {len(source_quantizers)} entries; the model {graph.name!r} has "
            f"{len(graph.inputs)} inputs"
        )
    return {id(edge): _largest(entry) for edge, entry in zip(graph.inputs, source_quantizers, strict=True)}


def _largest(quantizer: OutputQuantizer | str) -> int:
    if isinstance(quantizer, str):
        return largest_integer_of_qkeras(quantizer, "source_quantizers")
    return quantizer.largest_magnitude


def _largest_output(node: Node, largest: dict[int, int]) -> int | None:
    layer = node.operation
    quantizer = layer.quantizer if isinstance(layer, Quantize) else getattr(layer, "output_quantizer", None)
    if quantizer is not None:
        return quantizer.largest_magnitude
    return largest.get(id(node.inputs[0])) if node.inputs and keeps_quantizer(layer) else None
