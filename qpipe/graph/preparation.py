"""Rescaling and Normalization layers at the model's input: what the input's quantizer can take in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import keras
import numpy as np

from qpipe.graph.trace import Graph, Node
from qpipe.integer.operators.boundary import Preparation

PREPARATIONS = (keras.layers.Rescaling, keras.layers.Normalization)


@dataclass(frozen=True)
class MergedPreparation:
    """What an input's quantizer takes in: the chain's nodes, and the operations that they are."""

    nodes: list[Node]
    operations: Preparation


def chains_at_inputs(graph: Graph) -> list[list[Node]]:
    """Returns the chains of preparing layers that start at an input; of each layer the next one is the only reader."""
    chains = []
    for node in graph.nodes:
        if type(node.operation) in PREPARATIONS and node.inputs[0].producer is None:
            chain = [node]
            while (reader := graph.only_consumer(chain[-1])) and type(reader.operation) in PREPARATIONS:
                chain.append(reader)
            chains.append(chain)
    return chains


def preparation_of(layers: Iterable[keras.layers.Layer]) -> Preparation | None:
    """Returns the operations of preparing layers, in their order, or None if the input's quantizer can't take them in.

    It takes in scalars and one value per channel (last axis), in float32.
    """
    preparation = []
    for layer in layers:
        for name, values in _rescaling(layer) if type(layer) is keras.layers.Rescaling else _normalization(layer):
            vector = _per_channel(values)
            if vector is None or layer.compute_dtype != "float32":
                return None
            preparation.append((name, vector))
    return tuple(preparation)


def _rescaling(layer):
    offset = np.asarray(layer.offset, np.float32)
    steps = [("multiply", np.asarray(layer.scale, np.float32))]
    return [*steps, ("add", offset)] if offset.any() else steps


def _normalization(layer):
    deviation = keras.ops.maximum(keras.ops.sqrt(layer.variance), keras.backend.epsilon())
    mean, deviation = keras.ops.convert_to_numpy(layer.mean), keras.ops.convert_to_numpy(deviation)
    if layer.invert:
        return [("multiply", deviation), ("add", mean)]
    return [("subtract", mean), ("divide", deviation)]


def _per_channel(values: np.ndarray) -> np.ndarray | None:
    """A scalar or a vector over the last axis; None for values that differ along another axis."""
    if values.size == 1:
        return values.reshape(())
    is_vector = values.shape[-1] == values.size
    first = values.ndim > 0 and keras.config.image_data_format() == "channels_first"
    return values.reshape(-1) if is_vector and not first else None
