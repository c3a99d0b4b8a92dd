"""Running a model node by node on all samples, so that no layer is computed twice."""

from __future__ import annotations

from functools import partial

import numpy as np
from keras import ops, tree

from qpipe.algorithms.layerwise.sample_store import SampleStore, StoredArray
from qpipe.errors import QuantizationError
from qpipe.graph.trace import Edge, Graph, Node


class GraphRun:
    """The tensors of a graph for all samples, computed when they are asked for and given back after their last use.

    A layer may be changed until its node is run: what comes after it sees the change.

    Args:
        graph: a traced model.
        arrays: one array (samples, ...) for each input.
        store: where tensors are kept.
        batch_size: samples per call of a layer.
    """

    def __init__(self, graph: Graph, arrays: list[np.ndarray], store: SampleStore, batch_size: int = 64):
        self.graph = graph
        self.store = store
        self.batch_size = batch_size
        self.samples = len(arrays[0])
        self._position = 0
        self._uses = {id(edge): self._uses_of(edge) for node in graph.nodes for edge in node.outputs}
        self._stored = {id(edge): store.keep(array) for edge, array in zip(graph.inputs, arrays, strict=True)}
        self._uses |= {id(edge): self._uses_of(edge) for edge in graph.inputs}

    def node(self, name: str) -> Node:
        """Returns the node called `name`.

        Raises:
            QuantizationError: there is none.
        """
        for node in self.graph.nodes:
            if node.name == name:
                return node
        raise QuantizationError(
            f"the model {self.graph.name!r} has no layer {name!r}, which the quantized model has; "
            "give the float model that was quantized"
        )

    def input_of(self, node: Node) -> StoredArray:
        """Runs all nodes before `node` and returns the first tensor that it reads."""
        while self.graph.nodes[self._position] is not node:
            self._run(self.graph.nodes[self._position])
            self._position += 1
            if self._position == len(self.graph.nodes):
                raise QuantizationError(f"layer {node.name!r} was run before it was looked at")
        return self._stored[id(node.inputs[0])]

    def known(self, edge: Edge) -> StoredArray | None:
        """Returns a tensor that is computed and not given back yet; None of any other."""
        return self._stored.get(id(edge))

    def _uses_of(self, edge: Edge) -> int:
        return len(self.graph.consumers(edge))

    def _run(self, node: Node) -> None:
        outputs = self.store.fill(self.samples, self.batch_size, partial(self._outputs, node))
        for edge, stored in zip(node.outputs, outputs, strict=True):
            self._stored[id(edge)] = stored
            self._release_if_unused(edge)
        for edge in node.inputs:
            self._uses[id(edge)] -= 1
            self._release_if_unused(edge)

    def _outputs(self, node: Node, start: int, stop: int) -> list[np.ndarray]:
        args, kwargs = tree.map_structure(
            lambda leaf: (
                ops.convert_to_tensor(self._stored[id(leaf)].values[start:stop]) if isinstance(leaf, Edge) else leaf
            ),
            (node.args, node.kwargs),
        )
        return [ops.convert_to_numpy(output) for output in tree.flatten(node.operation(*args, **kwargs))]

    def _release_if_unused(self, edge: Edge) -> None:
        if self._uses[id(edge)] <= 0 and id(edge) in self._stored:
            self.store.release(self._stored.pop(id(edge)))
