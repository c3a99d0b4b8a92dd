"""How far a quantized model's activations are from the float ones, layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from qpipe.graph.trace import trace
from qpipe.layers.inventory import output_quantizers
from qpipe.quantizers import OutputQuantizer
from qpipe.quantizers.observation import Arithmetic, observe
from qpipe.sample_batches import batches_of

SAMPLES_PER_BATCH = 64


SUMS = 4
"""What is added up for each tensor before its histogram: energies of signal and error, saturations, values."""

HISTOGRAM_BINS = 100
MARGIN = 0.15
"""What a histogram shows beyond the ends of a quantizer's grid, as a share of its width."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often values lie between edges; what lies beyond counts in the first or last bin.

    Attributes:
        counts: (bins,) int64.
        edges: (bins + 1,) float64.
    """

    counts: np.ndarray
    edges: np.ndarray


@dataclass(frozen=True)
class LayerNoise:
    """Signal-to-quantization-noise ratio of a layer's output, how many of its values saturated, and where they lie.

    Attributes:
        sqnr_db: in dB.
        saturated: values that were cut off.
        values: how many there were.
        histogram: of the values when nothing is quantized.
    """

    sqnr_db: float | None
    saturated: int
    values: int
    histogram: Histogram | None = field(default=None, compare=False, repr=False)


def measure_noise(model: keras.Model, samples: np.ndarray) -> dict[str, LayerNoise]:
    """Compares every quantized output with the same output when nothing is quantized.

    Args:
        model: a calibrated or trained quantized model.
        samples: (samples, ...) inputs as the model takes them; for several inputs the structure that it takes.

    Returns:
        For each layer with an output quantizer: 10 * log10(sum of squares / sum of squared errors), None
        where one of them is 0, the saturations, and a histogram.
    """
    has_output = output_quantizers(model)
    shown = {id(quantizer): _shown(quantizer) for quantizer in has_output.values()}
    names = [node.name for node in trace(model).nodes if node.name in has_output]

    @tf.function(reduce_retracing=True)
    def compare(batch):
        with observe(Arithmetic.float) as reference:
            model(batch, training=False)
        with observe(Arithmetic.integer) as integer:
            model(batch, training=False)
        rows = []
        for (_, real, _), (quantizer, integers, saturated) in zip(reference.seen, integer.seen, strict=True):
            error = quantizer.to_real(integers) - real
            sums = tf.stack([_energy(real), _energy(error), tf.cast(saturated, tf.float64), _count(real)])
            counts = tf.histogram_fixed_width(real, tf.constant(shown[id(quantizer)], tf.float32), HISTOGRAM_BINS)
            rows.append(tf.concat([sums, tf.cast(counts, tf.float64)], 0))
        return tf.stack(rows)

    sums = sum(compare(batch).numpy() for batch in batches_of(model, samples, SAMPLES_PER_BATCH))
    return {name: _noise(row, _edges(shown[id(has_output[name])])) for name, row in zip(names, sums, strict=True)}


def _shown(quantizer: OutputQuantizer) -> tuple[float, float]:
    """The ends of what a histogram shows: the quantizer's grid and a margin."""
    target = quantizer.format()
    low, high = (float(target.scale) * end for end in target.centred_integers)
    return low - MARGIN * (high - low), high + MARGIN * (high - low)


def _edges(ends: tuple[float, float]) -> np.ndarray:
    return np.linspace(*ends, HISTOGRAM_BINS + 1)


def _energy(tensor):
    return tf.cast(tf.reduce_sum(tf.square(tensor)), tf.float64)


def _count(tensor):
    return tf.cast(tf.size(tensor), tf.float64)


def _noise(row: np.ndarray, edges: np.ndarray) -> LayerNoise:
    signal, error, saturated, values = row[:SUMS]
    ratio = 10.0 * math.log10(signal / error) if signal > 0 and error > 0 else None
    return LayerNoise(ratio, int(saturated), int(values), Histogram(row[SUMS:].astype(np.int64), edges))
