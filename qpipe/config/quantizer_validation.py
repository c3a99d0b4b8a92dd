"""Checks bitwidths and rules of the quantizers."""

from __future__ import annotations

from qpipe.config.ranges import pattern, whole
from qpipe.config.schema import (
    BiasQuantizerConfig,
    BiasQuantizerRule,
    LayerRule,
    OutputQuantizerConfig,
    OutputQuantizerRule,
    QuantizerConfig,
    WeightQuantizerConfig,
    WeightQuantizerRule,
)

SMALLEST_BITWIDTH = 2
LARGEST_BITWIDTH = 16
NARROW_BUFFER = 32
WIDE_BUFFER = 64

Wide = WeightQuantizerConfig | OutputQuantizerConfig | WeightQuantizerRule | OutputQuantizerRule | None
Aligned = BiasQuantizerConfig | BiasQuantizerRule | None


def validate_quantizer(config: QuantizerConfig, path: str = "quantizer") -> None:
    """Checks all quantizers and rules.

    Weights, activations and `a` have 2 to 16 bits; accumulators 2 to 64; biases and `b` from 2 to the
    accumulator's width.

    Args:
        config: the quantizers of a model.
        path: where the configuration stands, for messages.

    Raises:
        ConfigError: the first mistake.
    """
    buffer = _buffer(config)
    for name in ("input", "weight", "output", "a_quantizer"):
        _validate_bits(f"{path}.{name}", getattr(config, name), required=True)
    whole(f"{path}.buffer_bitwidth", config.buffer_bitwidth, SMALLEST_BITWIDTH, WIDE_BUFFER, optional=True)
    for name in ("bias", "b_quantizer"):
        _validate_aligned(f"{path}.{name}", getattr(config, name), buffer)
    for index, rule in enumerate(config.layers):
        _validate_rule(f"{path}.layers[{index}]", rule, buffer)


def _buffer(config: QuantizerConfig) -> int:
    """Widest accumulator that a layer without its own `buffer_bitwidth` can have."""
    if isinstance(config.buffer_bitwidth, int):
        return config.buffer_bitwidth
    activations = [config.input.bitwidth, config.output.bitwidth]
    activations += [rule.output.bitwidth for rule in config.layers if rule.output and rule.output.bitwidth]
    return WIDE_BUFFER if any(bitwidth > 8 for bitwidth in activations) else NARROW_BUFFER


def _validate_rule(path: str, rule: LayerRule, buffer: int) -> None:
    pattern(f"{path}.match", rule.match)
    whole(f"{path}.buffer_bitwidth", rule.buffer_bitwidth, SMALLEST_BITWIDTH, WIDE_BUFFER, optional=True)
    for name in ("weight", "output", "a_quantizer"):
        _validate_bits(f"{path}.{name}", getattr(rule, name), required=False)
    for name in ("bias", "b_quantizer"):
        _validate_aligned(f"{path}.{name}", getattr(rule, name), rule.buffer_bitwidth or buffer)


def _validate_bits(path: str, quantizer: Wide, *, required: bool) -> None:
    if quantizer is not None:
        whole(f"{path}.bitwidth", quantizer.bitwidth, SMALLEST_BITWIDTH, LARGEST_BITWIDTH, optional=not required)


def _validate_aligned(path: str, quantizer: Aligned, buffer: int) -> None:
    if quantizer is not None:
        whole(f"{path}.bitwidth", quantizer.bitwidth, SMALLEST_BITWIDTH, buffer, optional=True)
