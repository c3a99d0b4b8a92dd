"""What is added to a layer's output: branches whose error the layer can make up for."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from qpipe.algorithms.layerwise.graph_run import GraphRun
from qpipe.algorithms.layerwise.sample_store import StoredArray
from qpipe.graph.trace import Edge, Node
from qpipe.layers import QAdd, QSubtract


@dataclass
class Branch:
    """A tensor that a layer's output is added to, in both models.

    Attributes:
        name: of the layer that makes it.
        integers: the quantized model's, relative to their zero point.
        scale: of the integers.
        reference: the float model's.
        sign: -1 where it or the layer's output is subtracted, else 1.
    """

    name: str
    integers: StoredArray
    scale: np.float32
    reference: StoredArray
    sign: int

    def error(self, chosen: np.ndarray) -> np.ndarray:
        """Returns what the layer's output has to have more of, so that the sum is the float model's.

        Args:
            chosen: sorted numbers of the samples.
        """
        quantized = np.asarray(self.integers.values[chosen]) * self.scale
        return self.sign * (np.asarray(self.reference.values[chosen], "float32") - quantized)


def added_branches(run: GraphRun, node: Node, reference: GraphRun, counterpart: Node) -> list[Branch]:
    """Returns what a layer's output is added to; both graphs have been run up to the layer.

    There are none where the layer has an activation, where anything but one sum of tensors of the same shape reads
    its output, where the float model has another sum there, or where a branch is computed later.

    Args:
        run: of the quantized model.
        node: the layer's.
        reference: of the float model.
        counterpart: the layer's in the float model.
    """
    total = run.graph.only_consumer(node)
    if total is None or node.operation.activation is not keras.activations.linear:
        return []
    twin = reference.graph.only_consumer(counterpart)
    if not isinstance(total.operation, QAdd | QSubtract) or twin is None or twin.name != total.name:
        return []
    output = node.outputs[0]
    own = [edge is output for edge in total.inputs]
    if own != [edge is counterpart.outputs[0] for edge in twin.inputs]:
        return []
    if any(tuple(edge.shape) != tuple(output.shape) for edge in total.inputs):
        return []
    signs, quantizers = total.operation.signs, total.operation.input_quantizers
    branches = []
    for index, edge in enumerate(total.inputs):
        if edge is output:
            continue
        integers, values = run.known(edge), reference.known(twin.inputs[index])
        if integers is None or values is None:
            return []
        sign = signs[index] * signs[own.index(True)]
        branches.append(Branch(_name(edge), integers, np.float32(quantizers[index].scale), values, sign))
    return branches


def _name(edge: Edge) -> str:
    return "the model's input" if edge.producer is None else edge.producer.name
