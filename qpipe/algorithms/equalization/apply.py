"""Cross-layer equalization of a folded float model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from qpipe.algorithms.equalization.core import below_cap, equalizing_factors
from qpipe.algorithms.layer_note import LayerNote
from qpipe.errors import QuantizationError
from qpipe.graph.rebuild import Rebuild
from qpipe.graph.trace import Graph, Node, trace
from qpipe.layers.activations import activation_of_layer, fused_bounds
from qpipe.layers.folded import BatchnormFolding
from qpipe.layers.linear import QuantizedLinear
from qpipe.sample_batches import batches_of

PASSING = (
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.Dropout,
)
"""Layers between a pair that commute with a positive factor per channel."""

DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
LINEAR = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Dense, *DEPTHWISE)


@dataclass
class Pair:
    """Two layers, the second one reading nothing but the first one's channels; and the cap between them."""

    first: Node
    second: Node
    cap: float


def equalize(model: keras.Model, samples: Any = None, *, iterations: int = 20) -> tuple[keras.Model, list[LayerNote]]:
    """Returns a copy of a float model with the same output, whose neighbouring layers have equal weight ranges.

    Args:
        model: folded float model; batch normalizations that were not folded stay between layers, and no pair
            reaches across them.
        samples: inputs; pairs with a capped ReLU between them need them to see which channels reach the cap.
        iterations: passes over all pairs, so that chains of layers settle.

    Returns:
        The copy, and a note for each pair: the largest factor, as max(s, 1 / s).

    Raises:
        QuantizationError: the model is quantized already.
    """
    if any(isinstance(layer, QuantizedLinear) and layer.kernel_quantizer for layer in model.layers):
        raise QuantizationError(f"model {model.name!r} has quantizers; equalize the float model before it is quantized")
    graph = trace(model)
    rebuild = Rebuild(graph)
    for node in graph.nodes:
        rebuild.copy(node)
    copied = rebuild.model()
    graph = trace(copied)
    pairs = find_pairs(graph)
    capped = [pair for pair in pairs if math.isfinite(pair.cap)]
    notes, usable = [], pairs
    if capped and samples is None:
        usable = [pair for pair in pairs if not math.isfinite(pair.cap)]
        notes = [
            LayerNote(_name(pair), None, "there is a cap between them, and no samples were given") for pair in capped
        ]
    largest = _largest_outputs(copied, capped, samples) if capped and samples is not None else {}
    total = {_name(pair): np.ones(_channels(pair.first.operation)) for pair in usable}
    for _ in range(iterations):
        change = max((_equalize(pair, largest, total) for pair in usable), default=0.0)
        if change < 1e-3:
            break
    for name, factor in total.items():
        notes.append(LayerNote(name, float(np.max(np.maximum(factor, 1.0 / factor)))))
    return copied, notes


def find_pairs(graph: Graph) -> list[Pair]:
    """Returns the pairs of a graph: linear layers with a clamp, padding or pooling at most between them."""
    pairs = []
    for node in graph.nodes:
        if not _can_be_scaled(graph, node):
            continue
        bounds = fused_bounds(node.operation.activation)
        if bounds is None:
            continue
        cap, last = bounds[1], node
        while (follower := graph.only_consumer(last)) is not None:
            if _reads_channels(graph, follower):
                pairs.append(Pair(node, follower, cap))
                break
            clamp = activation_of_layer(follower.operation)
            if clamp is not None:
                cap = min(cap, (fused_bounds(clamp) or (0.0, math.inf))[1])
            elif not isinstance(follower.operation, PASSING):
                break
            last = follower
    return pairs


def _name(pair: Pair) -> str:
    return f"{pair.first.name} and {pair.second.name}"


def _can_be_scaled(graph: Graph, node: Node) -> bool:
    layer = node.operation
    if not isinstance(layer, LINEAR) or graph.calls(layer) > 1 or getattr(layer, "groups", 1) > 1:
        return False
    if isinstance(layer, BatchnormFolding):
        return layer.gamma is not None and layer.beta is not None
    return True


def _reads_channels(graph: Graph, node: Node) -> bool:
    layer = node.operation
    if isinstance(layer, keras.layers.Dense) and len(node.inputs[0].shape) != 2:
        return False
    return isinstance(layer, LINEAR) and graph.calls(layer) == 1 and getattr(layer, "groups", 1) == 1


def _channels(layer) -> int:
    return math.prod(layer.kernel.shape[-2:]) if isinstance(layer, DEPTHWISE) else layer.kernel.shape[-1]


def _weights(layer) -> np.ndarray:
    kernel = layer.folded_weights()[0] if isinstance(layer, BatchnormFolding) else layer.kernel
    return ops.convert_to_numpy(kernel).astype("float64")


def _equalize(pair: Pair, largest: dict[str, np.ndarray], total: dict[str, np.ndarray]) -> float:
    """Scales one pair and returns the largest change of a factor, |log s|."""
    first, second = pair.first.operation, pair.second.operation
    name = _name(pair)
    made = np.abs(_weights(first)).reshape(-1, _channels(first)).max(axis=0)
    read = np.abs(_weights(second))
    axis = read.ndim - 2
    read = np.moveaxis(read, axis, 0).reshape(read.shape[axis], -1).max(axis=1)
    factors = equalizing_factors(made, read)
    if math.isfinite(pair.cap):
        reached = largest[pair.first.name]
        factors = below_cap(factors, reached / total[name], pair.cap)
    _scale_outputs(first, 1.0 / factors)
    _scale_inputs(second, factors)
    total[name] = total[name] * factors
    return float(np.max(np.abs(np.log(factors))))


def _scale_outputs(layer, factors: np.ndarray) -> None:
    if isinstance(layer, BatchnormFolding):
        for variable in (layer.gamma, layer.beta):
            if variable is not None:
                variable.assign(variable * factors.astype("float32"))
        return
    shape = layer.kernel.shape[-2:] if isinstance(layer, DEPTHWISE) else (-1,)
    layer.kernel.assign(layer.kernel * factors.reshape(shape).astype("float32"))
    if layer.bias is not None:
        layer.bias.assign(layer.bias * factors.astype("float32"))


def _scale_inputs(layer, factors: np.ndarray) -> None:
    layer.kernel.assign(layer.kernel * factors.reshape(-1, 1).astype("float32"))


def _largest_outputs(model: keras.Model, pairs: list[Pair], samples: Any) -> dict[str, np.ndarray]:
    """Returns for the first layer of each pair the largest value of every channel behind its own activation."""
    names = list({pair.first.name for pair in pairs})
    probe = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    largest: dict[str, np.ndarray] = {}
    for batch in batches_of(model, samples, 64):
        outputs = probe(batch, training=False)
        for name, output in zip(names, outputs if isinstance(outputs, list | tuple) else [outputs], strict=True):
            values = ops.convert_to_numpy(output)
            maximum = values.reshape(-1, values.shape[-1]).max(axis=0).astype("float64")
            largest[name] = np.maximum(largest.get(name, maximum), maximum)
    return largest
