"""Rounding the weights of a quantized model, layer after layer."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from qpipe.algorithms.adaround.layer import round_layer
from qpipe.algorithms.adaround.problem import RoundingProblem
from qpipe.algorithms.adaround.report import LayerRounding, RoundingReport
from qpipe.algorithms.adaround.resume import RoundedLayers
from qpipe.algorithms.adaround.settings import OnProgress, RoundingSettings
from qpipe.algorithms.calibration.apply import calibrate_activations
from qpipe.algorithms.layerwise.sample_store import MEGABYTE, SampleStore
from qpipe.algorithms.layerwise.walk import LayerData, walk
from qpipe.config.post_training_validation import validate_adaround
from qpipe.config.schema import AdaRoundConfig
from qpipe.graph.plain import with_plain_layers
from qpipe.graph.selection import matches, require_match
from qpipe.layers.batch_normalization import QuantizedBatchNormalization
from qpipe.layers.inventory import quantized_linear_layers, require_connected
from qpipe.quantizers.backend import read_now
from qpipe.quantizers.observation import Arithmetic
from qpipe.sample_batches import arrays_of

OnLayer = Callable[[int, int, LayerRounding], None]
"""Number of the layer (from 1), number of all layers, what became of it."""


def adaround(
    model: keras.Model,
    float_model: keras.Model,
    samples: Any,
    config: AdaRoundConfig | None = None,
    *,
    optimizer: keras.optimizers.Optimizer | None = None,
    loss: Callable[[Any, Any], Any] | None = None,
    epochs: int | None = None,
    seed: int = 0,
) -> keras.Model:
    """Returns a copy of a quantized model whose weights are rounded for the least error of each layer's output.

    Folded layers become plain ones, with the rounded kernel as their weights (`QConv2DBatchnorm` a `QConv2D`).
    Kernels lie on the quantizers' grids; scales that are stored stay as they are, except those with
    `range: output_mse`, which are chosen here. Activation ranges that are not fixed are calibrated again, on
    unquantized weights: those of roughly rounded ones are the ranges of a damaged network.

    Args:
        model: a model that `qpipe.quantize` returned; it stays untouched.
        float_model: the float model that it was made of, folded or not.
        samples: (samples, ...) inputs as the model takes them; for several inputs the structure that it takes.
        config: solver and settings; `enabled` is not looked at.
        optimizer: of `gram` and `sgd` and `polish`; a copy without state is used for each layer. Default: Adam with
            `config.learning_rate`.
        loss: of the float and the quantized output (samples, ..., channels) of a batch, for `sgd`. Default: squared
            error, mean over samples and positions, sum over channels.
        epochs: passes over the samples, in the place of `config.iterations`.
        seed: of the held-out samples and the batches.

    Raises:
        ConfigError: a setting that is not allowed.
        QuantizationError: a layer is missing in the float model, or there are too few samples.
    """
    return adaround_with_report(
        model, float_model, samples, config, optimizer=optimizer, loss=loss, epochs=epochs, seed=seed
    )[0]


def adaround_with_report(
    model: keras.Model,
    float_model: keras.Model,
    samples: Any,
    config: AdaRoundConfig | None = None,
    *,
    optimizer: keras.optimizers.Optimizer | None = None,
    loss: Callable[[Any, Any], Any] | None = None,
    epochs: int | None = None,
    seed: int = 0,
    finished: RoundedLayers | None = None,
    on_layer: OnLayer = lambda index, count, record: None,
    on_progress: OnProgress = lambda name, iteration, iterations, loss, decided: None,
) -> tuple[keras.Model, RoundingReport]:
    """Rounds like `adaround`, and returns beside the model what became of each layer.

    Args:
        model: as in `adaround`.
        float_model: as in `adaround`.
        samples: as in `adaround`.
        config: as in `adaround`.
        optimizer: as in `adaround`.
        loss: as in `adaround`.
        epochs: as in `adaround`.
        seed: as in `adaround`.
        finished: layers that an earlier run has rounded; new ones are added.
        on_layer: called after every layer.
        on_progress: called while a layer is optimized.
    """
    config = config or AdaRoundConfig()
    count = len(arrays_of(model, samples)[0])
    config = _with_epochs(config, epochs, count)
    validate_adaround(config, loss=loss is not None)
    require_connected(model)
    settings = RoundingSettings.of(config, optimizer, loss, seed, on_progress)
    rounded = with_plain_layers(model)
    check_selectors(config, rounded)
    calibrate_activations(rounded, samples, Arithmetic.float)
    report, count_of_layers = RoundingReport(), len(linear_layers(rounded))
    train, held_out = split(count, config.holdout, seed)
    with SampleStore(config.memory_limit_mb * MEGABYTE) as store:
        for index, data in enumerate(walk(rounded, float_model, samples, store)):
            record = None if finished is None else finished.restore(index, data.layer)
            if record is not None:
                report.resumed += 1
            else:
                record = _round(data, settings, store, train, held_out)
                if finished is not None:
                    finished.save(index, data.layer, record)
            report.layers.append(record)
            on_layer(index + 1, count_of_layers, record)
        report.peak_cache_mb, report.spilled_mb = store.peak_bytes / MEGABYTE, store.spilled_bytes / MEGABYTE
    for layer in quantized_linear_layers(rounded):
        layer.require_bias_fits()
    report.peak_memory_mb = peak_memory_mb()
    return rounded, report


def check_selectors(config: AdaRoundConfig, model: keras.Model) -> None:
    """Checks that every selector covers a layer of the quantized model.

    Args:
        config: of the rounding.
        model: quantized, folded or not.

    Raises:
        ConfigError: a selector covers none, with the nearest names.
    """
    names = linear_layers(model)
    if config.histogram is not None:
        require_match(config.histogram, names, "adaround.histogram")
    for index, selector in enumerate(config.layers):
        if selector != "*":
            require_match(selector, names, f"adaround.layers[{index}]")


def linear_layers(model: keras.Model) -> list[str]:
    """Returns the names of the layers that rounding looks at: quantized linear ones, not batch normalizations."""
    layers = quantized_linear_layers(model)
    return [layer.name for layer in layers if not isinstance(layer, QuantizedBatchNormalization)]


def split(count: int, holdout: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sorted numbers of the samples to optimize on and of those that judge.

    Args:
        count: of all samples.
        holdout: share that judges; at least one sample is left to optimize on.
        seed: of the choice.
    """
    order = np.random.default_rng([seed, count]).permutation(count)
    judging = min(round(count * holdout), count - 1)
    return np.sort(order[judging:]), np.sort(order[:judging])


def peak_memory_mb() -> float | None:
    """Returns the largest memory of the process so far; None where the system does not tell (Windows)."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MEGABYTE if sys.platform == "darwin" else 1024)


def _with_epochs(config: AdaRoundConfig, epochs: int | None, count: int) -> AdaRoundConfig:
    if epochs is None:
        return config
    steps = 1 if config.batch_size is None else -(-count // config.batch_size)
    return dataclasses.replace(config, iterations=epochs * steps)


def _round(data: LayerData, settings: RoundingSettings, store: SampleStore, train, held_out) -> LayerRounding:
    layer = data.layer
    reason = _why_not(data, settings.config)
    if reason is not None:
        return LayerRounding(layer.name, reason=reason)
    assert data.form is not None
    if not (layer.kernel_quantizer.fixed and bool(read_now(layer.input_quantizer.calibrated))):
        layer.fix_scales()
    return round_layer(RoundingProblem(data, data.form, settings, store, train), held_out)


def _why_not(data: LayerData, config: AdaRoundConfig) -> str | None:
    layer = data.layer
    if not any(matches(selector, layer.name) for selector in config.layers):
        return "not selected by adaround.layers"
    if layer.kernel_quantizer.kind != "uniform":
        return f"its weights are of the kind {layer.kernel_quantizer.kind}, which have no neighbours to choose from"
    if data.form is None:
        return f"{type(layer).__name__} is not covered"
    return None
