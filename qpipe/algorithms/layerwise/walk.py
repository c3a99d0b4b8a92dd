"""Going through a quantized model layer by layer, beside the float model that it was made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from qpipe.algorithms.layerwise.branches import Branch, added_branches
from qpipe.algorithms.layerwise.graph_run import GraphRun
from qpipe.algorithms.layerwise.matrix_form import MatrixForm, matrix_form
from qpipe.algorithms.layerwise.sample_store import SampleStore, StoredArray
from qpipe.config.schema import FoldingConfig
from qpipe.errors import QuantizationError
from qpipe.graph.folding import FoldingPlan, apply_folding, plan_folding
from qpipe.graph.trace import Node, trace
from qpipe.layers.batch_normalization import QuantizedBatchNormalization
from qpipe.layers.linear import QuantizedLinear
from qpipe.sample_batches import arrays_of

SHARE_OF_LIMIT = 8
"""A chunk of samples takes at most this part of the memory limit while it is computed with."""

COPIES_OF_BRANCH = 3
"""Tensors that a chunk of a branch takes: both models' values, and their difference."""


@dataclass
class LayerData:
    """A quantized linear layer with its inputs in both models, for all samples.

    Attributes:
        layer: the quantized layer; it may be changed until the walk goes on.
        form: as a matrix product; None where it has no such form here.
        inputs: its inputs in the quantized model, integers relative to the zero point.
        float_inputs: its inputs in the float model.
        float_kernel: the float model's kernel.
        float_bias: and bias, or None.
        branches: what its output is added to.
        chunk: samples to compute with at a time.
    """

    layer: QuantizedLinear
    form: MatrixForm | None
    inputs: StoredArray
    float_inputs: StoredArray
    float_kernel: Any
    float_bias: Any
    branches: list[Branch]
    chunk: int

    @property
    def input_scale(self) -> np.float32:
        """Scale of the layer's input."""
        return np.float32(self.layer.input_quantizer.scale)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.inputs.values)

    def batches(
        self, indices: np.ndarray | None = None, *, asymmetric: bool = True, with_branches: bool = False
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the layer's real inputs and the float model's output before the activation, chunk by chunk.

        Args:
            indices: sorted numbers of the samples; None takes all.
            asymmetric: whether the inputs are those of the quantized model, else of the float model.
            with_branches: whether the output makes up for the errors of the branches that are added to it.
        """
        indices = np.arange(self.samples) if indices is None else indices
        for start in range(0, len(indices), self.chunk):
            chosen = indices[start : start + self.chunk]
            reference = np.asarray(self.float_inputs.values[chosen], "float32")
            inputs = np.asarray(self.inputs.values[chosen]) * self.input_scale if asymmetric else reference
            target = self.target_of(reference)
            if with_branches and self.branches:
                target = target + sum(branch.error(chosen) for branch in self.branches)
            yield inputs, target

    def target_of(self, reference: np.ndarray) -> np.ndarray:
        """Returns the float model's output before the activation for float32 inputs of its layer."""
        output = self.layer.linear_op(keras.ops.convert_to_tensor(reference), self.float_kernel)
        output = output if self.float_bias is None else output + self.float_bias
        return keras.ops.convert_to_numpy(output)

    def output_of(self, inputs: np.ndarray, kernel: Any, bias: np.ndarray | None) -> Any:
        """Returns op(inputs, kernel) + bias for real inputs."""
        output = self.layer.linear_op(keras.ops.convert_to_tensor(inputs), keras.ops.convert_to_tensor(kernel))
        return output if bias is None else output + bias

    def quantized_bias(self) -> np.ndarray | None:
        """Returns the layer's bias on the accumulator's grid, in real values; None where it has none."""
        kernel, bias = self.layer.folded_weights()
        if bias is None:
            return None
        scale = keras.ops.reshape(self.layer.weight_scale(kernel, bias), (-1,)) * self.input_scale
        return keras.ops.convert_to_numpy(self.layer.bias_quantizer.integer(bias, scale) * scale)


def walk(
    model: keras.Model,
    float_model: keras.Model,
    samples: Any,
    store: SampleStore,
    batch_size: int = 64,
    *,
    normalizations: bool = False,
) -> Iterator[LayerData]:
    """Yields every quantized linear layer in the order in which the model runs.

    A layer that is changed before the walk goes on gives later layers other inputs.

    Args:
        model: quantized and calibrated; folded layers have to be plain (`with_plain_layers`).
        float_model: the float model that it was made of, folded or not.
        samples: as the model takes them.
        store: keeps layer inputs.
        batch_size: samples per call of a layer.
        normalizations: whether batch normalizations that were not folded are yielded, too.

    Raises:
        QuantizationError: the float model lacks a layer.
    """
    arrays = arrays_of(model, samples)
    run = GraphRun(trace(model), arrays, store, batch_size)
    reference = GraphRun(trace(folded_alike(float_model, model)), arrays, store, batch_size)
    for node in run.graph.nodes:
        layer = node.operation
        if not isinstance(layer, QuantizedLinear) or layer.kernel_quantizer is None:
            continue
        if isinstance(layer, QuantizedBatchNormalization) and not normalizations:
            continue
        yield _data_of(node, run, reference, store)


def folded_alike(float_model: keras.Model, model: keras.Model) -> keras.Model:
    """Returns the float model with those batch normalizations folded that the quantized model does not have.

    Args:
        float_model: folded or not.
        model: the quantized model.
    """
    graph = trace(float_model)
    plan = plan_folding(graph, FoldingConfig())
    names = {layer.name for layer in model.layers}
    folds = [fold for fold in plan.folds if fold.batchnorm.name not in names]
    return apply_folding(graph, FoldingPlan(folds), FoldingConfig()) if folds else float_model


def _data_of(node: Node, run: GraphRun, reference: GraphRun, store: SampleStore) -> LayerData:
    layer, inputs = node.operation, run.input_of(node)
    counterpart = reference.node(layer.name)
    kernel, bias = _float_weights(counterpart)
    shape = tuple(layer.folded_weights()[0].shape)
    if tuple(kernel.shape) != shape:
        raise QuantizationError(
            f"layer {layer.name!r} has a kernel of shape {tuple(kernel.shape)} in the float model and of "
            f"{shape} in the quantized one; give the float model that was quantized"
        )
    form = matrix_form(layer)
    float_inputs = reference.input_of(counterpart)
    outputs = int(np.prod([size or 1 for size in node.outputs[0].shape[1:]]))
    branches = added_branches(run, node, reference, counterpart)
    per_sample = 4 * ((1 + COPIES_OF_BRANCH * len(branches)) * outputs + int(np.prod(inputs.values.shape[1:])))
    if form is not None:
        per_sample += form.patch_bytes(max(1, outputs // (form.groups * form.columns)))
    chunk = max(1, min(batch_limit(store, per_sample), len(inputs.values)))
    return LayerData(layer, form, inputs, float_inputs, kernel, bias, branches, chunk)


def batch_limit(store: SampleStore, bytes_per_sample: int) -> int:
    """Returns how many samples fit into a chunk: at most 64, at least 1."""
    return max(1, min(64, store.limit_bytes // SHARE_OF_LIMIT // max(1, bytes_per_sample)))


def _float_weights(node: Node):
    layer = node.operation
    if isinstance(layer, QuantizedLinear):
        return layer.folded_weights()
    if isinstance(layer, keras.layers.BatchNormalization):
        return QuantizedBatchNormalization.from_batch_normalization(layer).folded_weights()
    if not hasattr(layer, "kernel"):
        raise QuantizationError(
            f"layer {node.name!r} is a {type(layer).__name__} in the float model, without a kernel; "
            "give the float model that was quantized"
        )
    return layer.kernel, layer.bias
