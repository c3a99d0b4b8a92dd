"""How far a quantized model's activations are from the float ones, layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from qpipe.graph.trace import trace
from qpipe.layers.inventory import output_quantizers
from qpipe.quantizers.observation import Arithmetic, observe
from qpipe.sample_batches import batches_of

SAMPLES_PER_BATCH = 64


@dataclass(frozen=True)
class LayerNoise:
    """Signal-to-quantization-noise ratio of a layer's output, and how many of its values saturated."""

    sqnr_db: float | None
    saturated: int
    values: int


def measure_noise(model: keras.Model, samples: np.ndarray) -> dict[str, LayerNoise]:
    """Compares every quantized output with the same output when nothing is quantized.

    Args:
        model: a calibrated or trained quantized model.
        samples: (samples, ...) inputs as the model takes them; for several inputs the structure that it takes.

    Returns:
        For each layer with an output quantizer: 10 * log10(sum of squares / sum of squared errors), None
        where one of them is 0, and the saturations.
    """
    has_output = output_quantizers(model)
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
            rows.append(tf.stack([_energy(real), _energy(error), tf.cast(saturated, tf.float64), _count(real)]))
        return tf.stack(rows)

    sums = sum(compare(batch).numpy() for batch in batches_of(model, samples, SAMPLES_PER_BATCH))
    return {name: _noise(*row) for name, row in zip(names, sums, strict=True)}


def _energy(tensor):
    return tf.cast(tf.reduce_sum(tf.square(tensor)), tf.float64)


def _count(tensor):
    return tf.cast(tf.size(tensor), tf.float64)


def _noise(signal: float, error: float, saturated: float, values: float) -> LayerNoise:
    ratio = 10.0 * math.log10(signal / error) if signal > 0 and error > 0 else None
    return LayerNoise(ratio, int(saturated), int(values))
