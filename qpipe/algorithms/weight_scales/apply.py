"""Choosing the scales of layers with `range: output_mse`, layer after layer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import keras
import numpy as np
from keras import ops

from qpipe.algorithms.layerwise.graph_run import GraphRun
from qpipe.algorithms.layerwise.matrix_form import MatrixForm, matrix_form
from qpipe.algorithms.layerwise.moments import moments
from qpipe.algorithms.layerwise.sample_store import MEGABYTE, SampleStore
from qpipe.algorithms.weight_scales.core import output_mse_scale
from qpipe.graph.trace import trace
from qpipe.layers.linear import QuantizedLinear
from qpipe.sample_batches import arrays_of

MEMORY_LIMIT_MB = 1024
CHUNK = 32


def choose_output_mse_scales(model: keras.Model, samples: Any, layers: Collection[str]) -> None:
    """Stores for the named layers with `range: output_mse` the scale with the least error of its output.

    Weights are rounded to nearest, layer after layer, on the inputs that the quantized layers before give. Layers
    without a matrix form (transposed convolutions) keep the scale with the least error of the weights.

    Args:
        model: quantized, with calibrated activations; changed in place.
        samples: as the model takes them.
        layers: names of those whose scales may be chosen.
    """
    graph = trace(model)
    chosen = [node for node in graph.nodes if node.name in layers and _is_chosen(node.operation)]
    if not chosen:
        return
    with SampleStore(MEMORY_LIMIT_MB * MEGABYTE) as store:
        run = GraphRun(graph, arrays_of(model, samples), store)
        for node in chosen:
            layer, inputs = node.operation, run.input_of(node).values
            form = matrix_form(layer)
            if form is None:
                continue
            kernel, _ = layer.folded_weights()
            scale = np.float32(layer.input_quantizer.scale)
            parts = (inputs[start : start + CHUNK] * scale for start in range(0, len(inputs), CHUNK))
            gram = moments(form, ((part, _outputs(layer, part, kernel)) for part in parts)).gram
            quantizer = layer.kernel_quantizer
            install_scale(
                layer,
                form,
                output_mse_scale(
                    gram,
                    form.to_matrix(ops.convert_to_numpy(kernel)).astype("float64"),
                    *(int(end) for end in quantizer.integers),
                    per_channel=quantizer.per_channel,
                    power_of_two=quantizer.scale_kind == "power_of_two",
                ),
            )


def _is_chosen(layer: Any) -> bool:
    quantizer = getattr(layer, "kernel_quantizer", None)
    return isinstance(layer, QuantizedLinear) and quantizer is not None and quantizer.range == "output_mse"


def _outputs(layer: QuantizedLinear, inputs: np.ndarray, kernel: Any) -> np.ndarray:
    return ops.convert_to_numpy(layer.linear_op(ops.convert_to_tensor(inputs), kernel))


def install_scale(layer: QuantizedLinear, form: MatrixForm, scale: np.ndarray) -> None:
    """Stores a scale with its quantizer, raised where the layer's bias would not fit otherwise.

    Args:
        layer: the layer.
        form: as a matrix product.
        scale: (groups, columns).
    """
    quantizer = layer.kernel_quantizer
    smallest = layer.smallest_weight_scale()
    if smallest is not None:
        least = form.per_channel(ops.convert_to_numpy(smallest)).astype("float64")
        if not quantizer.per_channel:
            least = np.full_like(least, least.max())
        if quantizer.scale_kind == "power_of_two":
            least = 2.0 ** np.ceil(np.log2(np.maximum(least, np.finfo("float32").tiny)))
        scale = np.maximum(scale, least)
    per_weight = form.to_kernel(np.repeat(scale[:, np.newaxis, :], form.rows, axis=1))
    index = tuple(slice(0, 1) if size == 1 else slice(None) for size in quantizer.scale.shape)
    quantizer.scale.assign(per_weight[index].astype("float32"))
    quantizer.fixed = True
