"""Re-estimating the batch normalizations of a quantized model on samples, after its weights are rounded."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from qpipe.algorithms.layer_note import LayerNote
from qpipe.algorithms.layerwise.sample_store import MEGABYTE, SampleStore
from qpipe.algorithms.layerwise.walk import LayerData, folded_alike, walk
from qpipe.algorithms.statistics.core import distance, factor_and_mean
from qpipe.errors import QuantizationError
from qpipe.graph.plain import with_plain_layers
from qpipe.graph.trace import trace
from qpipe.layers.batch_normalization import QuantizedBatchNormalization
from qpipe.layers.folded import BatchnormFolding


def reestimate_statistics(
    model: keras.Model, float_model: keras.Model, samples: Any, *, memory_limit_mb: int = 1024
) -> tuple[keras.Model, list[LayerNote]]:
    """Returns a copy in which every normalized output has the float model's mean and deviation per channel.

    A folded batch normalization is a factor and an offset per channel: the factor goes into the scale of the
    channel's weights, whose integers stay, the offset into the bias. One that stayed gets other moving statistics,
    from which its a and b follow. Layers without a batch normalization, and folded ones whose scale is one for all
    channels or a power of two, are left as they are.

    Args:
        model: quantized, calibrated, possibly rounded; it stays untouched, folded layers become plain ones.
        float_model: the float model that it was made of, folded or not.
        samples: as the model takes them.
        memory_limit_mb: budget of cached layer inputs.

    Returns:
        The copy, and what became of each layer.
    """
    changed = with_plain_layers(model)
    reference = folded_alike(float_model, model)
    normalized = {node.name for node in trace(reference).nodes if isinstance(node.operation, BatchnormFolding)}
    notes = []
    with SampleStore(memory_limit_mb * MEGABYTE) as store:
        for data in walk(changed, reference, samples, store, normalizations=True):
            if isinstance(data.layer, QuantizedBatchNormalization):
                notes.append(_reestimate_normalization(data))
                continue
            reason = _why_not(data, normalized)
            notes.append(LayerNote(data.layer.name, None, reason) if reason else _reestimate(data))
    return changed, notes


def _why_not(data: LayerData, normalized: set[str]) -> str | None:
    quantizer = data.layer.kernel_quantizer
    if data.layer.name not in normalized:
        return "no batch normalization was folded into it"
    if data.form is None:
        return f"{type(data.layer).__name__} is not covered"
    if quantizer.kind != "uniform" or quantizer.scale_kind != "float" or not quantizer.per_channel:
        return "its weights have no float scale for each channel"
    return None


def _reestimate(data: LayerData) -> LayerNote:
    layer = data.layer
    assert data.form is not None
    if not layer.kernel_quantizer.fixed:
        layer.fix_scales()
    integers = layer.integer_weights()
    scale = ops.convert_to_numpy(integers.scale)
    kernel = ops.convert_to_numpy(integers.kernel)
    factor, offset = factor_and_mean(*_moments(data))
    before = [ops.convert_to_numpy(variable) for variable in (layer.kernel_quantizer.scale, layer.kernel, layer.bias)]
    per_weight = data.form.to_kernel(np.repeat(data.form.per_channel(factor)[:, np.newaxis, :], data.form.rows, axis=1))
    index = tuple(slice(0, 1) if size == 1 else slice(None) for size in scale.shape)
    scale = (scale * per_weight[index]).astype("float32")
    layer.kernel_quantizer.scale.assign(scale)
    layer.kernel.assign(kernel * scale)
    layer.bias.assign((factor * before[2] + offset).astype("float32"))
    try:
        layer.require_bias_fits()
    except QuantizationError as error:
        for variable, value in zip((layer.kernel_quantizer.scale, layer.kernel, layer.bias), before, strict=True):
            variable.assign(value)
        return LayerNote(layer.name, None, f"the bias would not fit ({error})")
    return LayerNote(layer.name, float(np.sqrt(np.mean(np.square(factor - 1.0)))))


def _reestimate_normalization(data: LayerData) -> LayerNote:
    """Moves the statistics: first the variance, then, because a is rounded anew, the mean by what is still missing."""
    layer = data.layer
    variables = (layer.moving_mean, layer.moving_variance, layer.kernel_quantizer.scale)
    before = [ops.convert_to_numpy(variable) for variable in variables]
    old = _moments(data)
    factor, _ = factor_and_mean(*old)
    layer.moving_variance.assign(np.maximum((before[1] + layer.epsilon) / factor**2 - layer.epsilon, 0.0))
    if layer.kernel_quantizer.fixed:
        layer.fix_scales()
    mean, _, wanted_mean, _ = _moments(data)
    slope = ops.convert_to_numpy(layer.folded_weights()[0]).astype("float64")
    layer.moving_mean.assign(
        before[0] - np.divide(wanted_mean - mean, slope, out=np.zeros_like(mean), where=slope != 0.0)
    )
    reason = None
    try:
        layer.require_bias_fits()
    except QuantizationError as error:
        reason = f"b would not fit ({error})"
    if reason is None and distance(*_moments(data)) >= distance(*old):
        reason = "its moments don't get closer to the float ones"
    if reason is not None:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        return LayerNote(layer.name, None, reason)
    return LayerNote(layer.name, float(np.sqrt(np.mean(np.square(factor - 1.0)))))


def _moments(data: LayerData) -> tuple[np.ndarray, ...]:
    """Returns mean and variance of each channel of the quantized output before the activation, and the float ones."""
    integers = data.layer.integer_weights()
    kernel, bias = integers.kernel * integers.scale, data.quantized_bias()
    moments = _Moments()
    for inputs, target in data.batches():
        moments.add(ops.convert_to_numpy(data.output_of(inputs, kernel, bias)), target)
    return moments.result()


class _Moments:
    """Sums of two tensors and of their squares, per channel."""

    def __init__(self):
        self._sums: list[Any] = [0.0, 0.0, 0.0, 0.0]
        self._count = 0

    def add(self, output: np.ndarray, target: np.ndarray) -> None:
        for position, tensor in enumerate((output, target)):
            flat = tensor.reshape(-1, tensor.shape[-1]).astype("float64")
            self._sums[2 * position] = self._sums[2 * position] + flat.sum(axis=0)
            self._sums[2 * position + 1] = self._sums[2 * position + 1] + np.square(flat).sum(axis=0)
        self._count += output.size // output.shape[-1]

    def result(self) -> tuple[np.ndarray, ...]:
        """Returns mean and variance of the output, and of the target."""
        means = [np.asarray(total) / self._count for total in self._sums]
        return means[0], means[1] - means[0] ** 2, means[2], means[3] - means[2] ** 2
