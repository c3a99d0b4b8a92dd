"""Correcting the biases of a quantized model, from its float model's statistics or from samples."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from qpipe.algorithms.bias_correction.core import clipped_normal_mean, expected_shift
from qpipe.algorithms.layer_note import LayerNote
from qpipe.algorithms.layerwise.matrix_form import MatrixForm, matrix_form
from qpipe.algorithms.layerwise.sample_store import MEGABYTE, SampleStore
from qpipe.algorithms.layerwise.walk import folded_alike, walk
from qpipe.errors import QuantizationError
from qpipe.graph.plain import with_plain_layers
from qpipe.graph.trace import Node, trace
from qpipe.layers.activations import fused_bounds
from qpipe.layers.batch_statistics import BatchStatistics
from qpipe.layers.folded import BatchnormFolding
from qpipe.layers.inventory import quantized_linear_layers


def correct_biases_empirically(
    model: keras.Model, float_model: keras.Model, samples: Any, *, memory_limit_mb: int = 1024
) -> tuple[keras.Model, list[LayerNote]]:
    """Returns a copy in which every layer's mean output over samples is the float model's.

    Layer after layer: each one sees the inputs that the corrected layers before it give.

    Args:
        model: quantized and calibrated; it stays untouched, folded layers become plain ones in the copy.
        float_model: the float model that it was made of, folded or not.
        samples: as the model takes them.
        memory_limit_mb: budget of cached layer inputs.

    Returns:
        The copy, and what became of each layer.
    """
    corrected = with_plain_layers(model)
    notes = []
    with SampleStore(memory_limit_mb * MEGABYTE) as store:
        for data in walk(corrected, float_model, samples, store):
            if data.layer.bias is None:
                notes.append(LayerNote(data.layer.name, None, "it has no bias"))
                continue
            kernel = _kernel_on_grid(data.layer)
            bias, total, positions = data.quantized_bias(), 0.0, 0
            for inputs, target in data.batches(with_branches=True):
                error = target - ops.convert_to_numpy(data.output_of(inputs, kernel, bias))
                total = total + error.reshape(-1, error.shape[-1]).sum(axis=0, dtype=np.float64)
                positions += error.size // error.shape[-1]
            notes.append(_shift(data.layer, np.asarray(total) / positions))
    return corrected, notes


def correct_biases_analytically(model: keras.Model, float_model: keras.Model) -> tuple[keras.Model, list[LayerNote]]:
    """Returns a copy in which the expected error of the weights is taken off the biases, without any samples.

    The mean of a layer's input is that of a clipped normal distribution, whose moments are the batch normalization's
    before it. Layers whose input does not come from one are left as they are.

    Args:
        model: quantized and calibrated; it stays untouched, folded layers become plain ones in the copy.
        float_model: the float model that it was made of, folded or not.

    Returns:
        The copy, and what became of each layer.
    """
    corrected = with_plain_layers(model)
    reference = trace(folded_alike(float_model, model))
    sources = {node.name: _input_means(node) for node in reference.nodes}
    notes = []
    for layer in quantized_linear_layers(corrected):
        form = matrix_form(layer)
        means = sources.get(layer.name)
        if form is None or layer.bias is None or means is None:
            reason = "its input does not come from a folded batch normalization"
            reason = "it has no bias" if layer.bias is None else reason
            notes.append(
                LayerNote(layer.name, None, f"{type(layer).__name__} is not covered" if form is None else reason)
            )
            continue
        difference = form.to_matrix(_kernel_on_grid(layer)) - form.to_matrix(ops.convert_to_numpy(layer.kernel))
        shift = expected_shift(difference.astype("float64"), _rows(form, means))
        notes.append(_shift(layer, -shift.reshape(-1)))
    return corrected, notes


def _kernel_on_grid(layer) -> np.ndarray:
    integers = layer.integer_weights()
    return ops.convert_to_numpy(integers.kernel) * ops.convert_to_numpy(integers.scale)


def _shift(layer, change: np.ndarray) -> LayerNote:
    """Adds to a bias; where the sum would not fit into the accumulator it stays as it was."""
    before = ops.convert_to_numpy(layer.bias)
    layer.bias.assign(before + change.astype("float32"))
    try:
        layer.require_bias_fits()
    except QuantizationError as error:
        layer.bias.assign(before)
        return LayerNote(layer.name, None, f"the corrected bias would not fit ({error})")
    return LayerNote(layer.name, float(np.sqrt(np.mean(np.square(change)))))


def _input_means(node: Node) -> np.ndarray | None:
    """Returns the mean of each input channel, where a folded batch normalization makes the input."""
    if not node.inputs or node.inputs[0].producer is None:
        return None
    producer = node.inputs[0].source.operation
    if not isinstance(producer, BatchnormFolding) or producer.kernel_quantizer is not None:
        return None
    bounds = fused_bounds(producer.activation)
    return None if bounds is None else _output_means(producer, bounds)


def _output_means(layer: BatchStatistics, bounds: tuple[float, float]) -> np.ndarray:
    channels = layer.moving_mean.shape[0]
    gamma = np.ones(channels) if layer.gamma is None else ops.convert_to_numpy(layer.gamma)
    beta = np.zeros(channels) if layer.beta is None else ops.convert_to_numpy(layer.beta)
    return clipped_normal_mean(beta, np.abs(gamma), *bounds)


def _rows(form: MatrixForm, means: np.ndarray) -> np.ndarray:
    """Returns E[a]: the channel means, once for every position of the kernel."""
    window = form.rows * form.groups // len(means)
    return np.tile(means.reshape(form.groups, 1, -1), (1, window, 1)).reshape(form.groups, form.rows)
