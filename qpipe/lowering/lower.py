"""Lowering a quantized Keras model to a program of integer operators."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np

from qpipe.errors import QuantizationError
from qpipe.graph.trace import Edge, Graph, Node, trace
from qpipe.integer import Program, Step
from qpipe.integer.operators import Dequantize as DequantizeOperator
from qpipe.integer.operators import RealOutput
from qpipe.layers import Quantize
from qpipe.layers.inventory import quantized_linear_layers, require_connected
from qpipe.lowering.boundary import InFloat
from qpipe.lowering.registry import KEEPING, LOWERINGS


def lower(model: keras.Model) -> Program:
    """Returns the program of a calibrated or trained quantized model; its weights are those of this moment.

    Tensors have the names of the layers that make them; layers that stay in float are computed by Keras.

    Args:
        model: a model that `qpipe.quantize` returned.

    Raises:
        QuantizationError: if an output was never calibrated, or a layer that receives integers has no operator.
    """
    _check(model)
    graph = trace(model)
    names = edge_names(graph)
    quantized: set[Edge] = set()
    steps = []
    for node in graph.nodes:
        operator = _operator(node, any(edge in quantized for edge in node.inputs))
        if not _gives_real_values(operator):
            quantized.update(node.outputs)
        inputs, outputs = (tuple(names[edge] for edge in edges) for edges in (node.inputs, node.outputs))
        steps.append(Step(node.name, operator, inputs, outputs))
    return Program(tuple(graph.input_names), steps, tuple(names[edge] for edge in graph.outputs))


def _check(model: keras.Model) -> None:
    if not any(isinstance(layer, Quantize) for layer in model.layers):
        raise QuantizationError(f"model {model.name!r} is not quantized; give it to qpipe.quantize and qpipe.calibrate")
    require_connected(model)
    for layer in quantized_linear_layers(model):
        if np.array(layer.input_quantizer.calibrated):
            layer.require_bias_fits()


def edge_names(graph: Graph) -> dict[Edge, str]:
    """Returns a name for every tensor: its layer's, with `:1`, ... for more outputs and `#2`, ... for more calls."""
    names = dict(zip(graph.inputs, graph.input_names, strict=True))
    calls: Counter[str] = Counter()
    for node in graph.nodes:
        calls[node.name] += 1
        call = f"#{calls[node.name]}" if calls[node.name] > 1 else ""
        for index, edge in enumerate(node.outputs):
            names[edge] = node.name + call + (f":{index}" if index else "")
    return names


def _gives_real_values(operator) -> bool:
    return isinstance(operator, InFloat | DequantizeOperator) or isinstance(
        getattr(operator, "requantization", None), RealOutput
    )


def _operator(node: Node, receives_integers: bool):
    kind = type(node.operation)
    if kind in LOWERINGS and (receives_integers or kind is Quantize):
        return LOWERINGS[kind](node.operation)
    if not receives_integers:
        return InFloat(node)
    if kind in KEEPING:
        return KEEPING[kind](node.operation)
    raise QuantizationError(f"layer {node.name!r} ({kind.__name__}) receives integers, but has no integer operator")
