"""Lowering of the boundaries between real values and integers, and of layers that stay in float."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from keras import ops, tree

from qpipe.graph.trace import Edge, Node
from qpipe.integer.operator import Notes
from qpipe.integer.operators import Dequantize, Quantize, Requantize
from qpipe.lowering.requantization import requantization, rounding


def lower_quantize(layer) -> Quantize:
    """Returns the operator that makes integers of real values."""
    return Quantize(rounding(layer.quantizer), layer.preparation)


def lower_dequantize(layer) -> Dequantize:
    """Returns the operator that makes real values of integers."""
    return Dequantize()


def lower_requantize(layer) -> Requantize:
    """Returns the operator that changes the format."""
    return Requantize(requantization(layer.output_quantizer, layer.input_quantizer.format().scale))


@dataclass(frozen=True, eq=False)
class InFloat:
    """A layer, or an operation of `keras.ops`, that stays in float: Keras computes it."""

    node: Node

    def __call__(self, *inputs: np.ndarray, notes: Notes) -> list[np.ndarray]:
        """Returns the operation's outputs for real inputs."""
        values = iter(inputs)
        args, kwargs = tree.map_structure(
            lambda leaf: ops.convert_to_tensor(next(values)) if isinstance(leaf, Edge) else leaf,
            (self.node.args, self.node.kwargs),
        )
        return [ops.convert_to_numpy(result) for result in tree.flatten(self.node.operation(*args, **kwargs))]
