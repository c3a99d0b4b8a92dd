"""Calibrating a quantized model: its activations are observed on samples, in real values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from qpipe.algorithms.calibration.core import ema_range, minmax_range, mse_range, percentile_range
from qpipe.algorithms.weight_scales.apply import choose_output_mse_scales
from qpipe.errors import QuantizationError
from qpipe.layers.inventory import quantized_linear_layers, require_connected
from qpipe.quantizers import OutputQuantizer
from qpipe.quantizers.observation import Arithmetic, observe
from qpipe.sample_batches import arrays_of, batches_of

HISTOGRAM_BINS = 2048


@dataclass
class _Seen:
    """What one quantizer saw: the extrema of every batch, and a histogram where its range needs one."""

    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    counts: np.ndarray = field(default_factory=lambda: np.zeros(HISTOGRAM_BINS, "int64"))

    @property
    def edges(self) -> np.ndarray:
        low, high = minmax_range(np.array(self.lows), np.array(self.highs))
        return np.linspace(low, high, HISTOGRAM_BINS + 1)

    @property
    def constant(self) -> bool:
        """Whether all values were the same."""
        return min(self.lows) == max(self.highs)


def calibrate(
    model: keras.Model,
    samples: np.ndarray,
    *,
    batch_size: int = 64,
    on_batch: Callable[[int, int], None] = lambda step, steps: None,
    output_mse: bool = True,
) -> keras.Model:
    """Sets the activation ranges of a quantized model from sample inputs, and stores its weight scales.

    Weights are quantized meanwhile, activations are not. Ranges and scales that are fixed stay as they are. Scales with
    `range: output_mse` are chosen last, when all activations have their ranges.

    Args:
        model: a model that `qpipe.quantize` returned; changed in place.
        samples: (samples, ...) inputs as the model takes them; for several inputs the structure that it takes.
        batch_size: samples per step.
        on_batch: called after every batch with its number (from 1) and the number of all batches.
        output_mse: whether scales with `range: output_mse` are chosen; false leaves that to `qpipe.adaround`.

    Returns:
        `model`.

    Raises:
        QuantizationError: if there are no samples, an activation is not finite, or a bias fits into no accumulator.
    """
    require_connected(model)
    following = [layer for layer in quantized_linear_layers(model) if not layer.kernel_quantizer.fixed]
    for layer in following:
        layer.fix_scales()
    calibrate_activations(model, samples, batch_size=batch_size, on_batch=on_batch)
    for layer in following:
        layer.fix_scales()
    if output_mse:
        choose_output_mse_scales(model, samples, [layer.name for layer in following])
    for layer in quantized_linear_layers(model):
        layer.require_bias_fits()
    return model


def calibrate_activations(
    model: keras.Model,
    samples: np.ndarray,
    arithmetic: Arithmetic = Arithmetic.weights,
    *,
    batch_size: int = 64,
    on_batch: Callable[[int, int], None] = lambda step, steps: None,
) -> None:
    """Sets the activation ranges alone; see `calibrate`.

    Args:
        model: changed in place.
        samples: as in `calibrate`.
        arithmetic: what the model runs in meanwhile: with quantized weights, or in float.
        batch_size: as in `calibrate`.
        on_batch: as in `calibrate`.
    """
    steps = -(-len(arrays_of(model, samples)[0]) // batch_size)
    seen = _observe_extrema(model, samples, arithmetic, batch_size, lambda step: on_batch(step, steps))
    _observe_histograms(model, samples, arithmetic, batch_size, seen)
    for quantizer, record in seen.items():
        quantizer.set_range(*_range_of(quantizer, record))


def _observe_extrema(model, samples, arithmetic, batch_size, on_batch) -> dict[OutputQuantizer, _Seen]:
    order: list[OutputQuantizer] = []

    @tf.function(reduce_retracing=True)
    def extrema(batch):
        with observe(arithmetic) as observation:
            model(batch, training=False)
        order[:] = [quantizer for quantizer, _, _ in observation.seen]
        return tf.stack([tf.stack([tf.reduce_min(x), tf.reduce_max(x)]) for _, x, _ in observation.seen])

    seen: dict[OutputQuantizer, _Seen] = {}
    for step, batch in enumerate(batches_of(model, samples, batch_size), start=1):
        values = extrema(batch).numpy()
        for quantizer, low, high in _merged(order, values):
            _note(seen, quantizer, low, high)
        on_batch(step)
    return {quantizer: record for quantizer, record in seen.items() if not quantizer.fixed}


def _merged(order, values) -> Iterator[tuple[OutputQuantizer, float, float]]:
    """Yields the extrema of one batch once for each quantizer: of all tensors that it quantizes."""
    of_quantizer: dict[OutputQuantizer, list[np.ndarray]] = {}
    for quantizer, extrema in zip(order, values, strict=True):
        of_quantizer.setdefault(quantizer, []).append(extrema)
    for quantizer, rows in of_quantizer.items():
        lows, highs = zip(*rows, strict=True)
        yield quantizer, np.min(lows), np.max(highs)


def _note(seen, quantizer, low, high):
    if not (np.isfinite(low) and np.isfinite(high)):
        raise QuantizationError(f"{quantizer.name}: an activation is not finite on the calibration samples")
    record = seen.setdefault(quantizer, _Seen())
    record.lows.append(float(low))
    record.highs.append(float(high))


def _observe_histograms(model, samples, arithmetic, batch_size, seen) -> None:
    wanted = [
        quantizer
        for quantizer, record in seen.items()
        if quantizer.range in ("percentile", "mse") and not record.constant
    ]
    if not wanted:
        return
    limits = {quantizer: (seen[quantizer].edges[0], seen[quantizer].edges[-1]) for quantizer in wanted}

    @tf.function(reduce_retracing=True)
    def histograms(batch):
        with observe(arithmetic) as observation:
            model(batch, training=False)
        counts = {quantizer: tf.zeros(HISTOGRAM_BINS, tf.int32) for quantizer in wanted}
        for quantizer, x, _ in observation.seen:
            if quantizer in limits:
                limit = tf.constant(limits[quantizer], tf.float32)
                counts[quantizer] += tf.histogram_fixed_width(x, limit, HISTOGRAM_BINS)
        return [counts[quantizer] for quantizer in wanted]

    for batch in batches_of(model, samples, batch_size):
        for quantizer, counts in zip(wanted, histograms(batch), strict=True):
            seen[quantizer].counts += counts.numpy()


def _range_of(quantizer: OutputQuantizer, record: _Seen) -> tuple[float, float]:
    lows, highs = np.array(record.lows), np.array(record.highs)
    if quantizer.range == "minmax" or record.constant:
        return minmax_range(lows, highs)
    if quantizer.range == "ema":
        return ema_range(lows, highs)
    if quantizer.range == "percentile":
        return percentile_range(record.counts, record.edges)
    power_of_two = quantizer.scale_kind == "power_of_two"
    return mse_range(
        record.counts, record.edges, quantizer.integers, symmetric=quantizer.symmetric, power_of_two=power_of_two
    )
