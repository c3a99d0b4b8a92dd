"""Checks bitwidths and rules of the quantizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qpipe.config.layer_rules import overlaid
from qpipe.config.ranges import pattern, refuse, whole
from qpipe.config.schema import (
    BiasQuantizerConfig,
    BiasQuantizerRule,
    LayerRule,
    OutputQuantizerConfig,
    QuantizerConfig,
    Rounding,
    ScaleKind,
    WeightKind,
    WeightQuantizerConfig,
    WeightRange,
)

SMALLEST_BITWIDTH = 2
LARGEST_BITWIDTH = 16
NARROW_BUFFER = 32
WIDE_BUFFER = 64

WIDTHS_OF_KINDS = {WeightKind.po2: (2, 5), WeightKind.ternary: (2, 2), WeightKind.binary: (1, 1)}
"""Narrowest and widest weights of every kind but `uniform`."""

Aligned = BiasQuantizerConfig | BiasQuantizerRule | None


def validate_quantizer(config: QuantizerConfig, path: str = "quantizer") -> None:
    """Checks all quantizers and rules.

    Uniform weights, activations and `a` have 2 to 16 bits; accumulators 2 to 64; biases and `b` from 2 to the
    accumulator's width.

    Args:
        config: the quantizers of a model.
        path: where the configuration stands, for messages.

    Raises:
        ConfigError: the first mistake.
    """
    buffer = _buffer(config)
    for name, validate in VALIDATED_BY.items():
        validate(f"{path}.{name}", getattr(config, name))
    whole(f"{path}.buffer_bitwidth", config.buffer_bitwidth, SMALLEST_BITWIDTH, WIDE_BUFFER, optional=True)
    for name in ("bias", "b_quantizer"):
        _validate_aligned(f"{path}.{name}", getattr(config, name), buffer)
    for index, rule in enumerate(config.layers):
        _validate_rule(f"{path}.layers[{index}]", rule, config, buffer)


def validate_weight(path: str, quantizer: WeightQuantizerConfig) -> None:
    """Checks the quantizer of a kernel, and what its kind has no use for.

    Raises:
        ConfigError: the first mistake.
    """
    kind = quantizer.kind
    if kind is WeightKind.uniform:
        whole(f"{path}.bitwidth", quantizer.bitwidth, SMALLEST_BITWIDTH, LARGEST_BITWIDTH)
    else:
        _validate_kind(path, quantizer, *WIDTHS_OF_KINDS[kind])
    _validate_learned_step(path, quantizer)


def validate_output(path: str, quantizer: OutputQuantizerConfig) -> None:
    """Checks the quantizer of an activation.

    Raises:
        ConfigError: the first mistake.
    """
    whole(f"{path}.bitwidth", quantizer.bitwidth, SMALLEST_BITWIDTH, LARGEST_BITWIDTH)
    _validate_learned_step(path, quantizer)


def validate_factor(path: str, quantizer: WeightQuantizerConfig) -> None:
    """Checks the quantizer of `a` of a batch normalization or of the slopes of a PReLU.

    Raises:
        ConfigError: the first mistake.
    """
    if quantizer.range is WeightRange.output_mse:
        refuse(f"{path}.range", "output_mse", "a factor has one input only: give max or mse")
    validate_weight(path, quantizer)


VALIDATED_BY: dict[str, Callable[[str, Any], None]] = {
    "input": validate_output,
    "weight": validate_weight,
    "output": validate_output,
    "a_quantizer": validate_factor,
}


def training_only_keys(config: QuantizerConfig, path: str = "quantizer") -> list[str]:
    """Returns the paths of the keys that are set although only training looks at them."""
    holders: list[tuple[str, Any]] = [(path, config)]
    holders += [(f"{path}.layers[{index}]", rule) for index, rule in enumerate(config.layers)]
    found = []
    for where, holder in holders:
        quantizers = [(name, getattr(holder, name, None)) for name in VALIDATED_BY]
        for name, quantizer in quantizers:
            if quantizer is not None and quantizer.rounding is Rounding.stochastic:
                found.append(f"{where}.{name}.rounding")
            if quantizer is not None and quantizer.learned_step:
                found.append(f"{where}.{name}.learned_step")
    return found


def _validate_kind(path: str, quantizer: WeightQuantizerConfig, narrowest: int, widest: int) -> None:
    kind, bits = quantizer.kind.name, quantizer.bitwidth
    if isinstance(bits, bool) or not isinstance(bits, int) or not narrowest <= bits <= widest:
        width = f"{widest} bit(s)" if narrowest == widest else f"{narrowest} to {widest} bits"
        refuse(f"{path}.bitwidth", bits, f"kind={kind} has {width}")
    if quantizer.range is not WeightRange.max:
        refuse(f"{path}.range", quantizer.range.name, f"kind={kind} chooses its own scale: leave it at max")
    if quantizer.kind is WeightKind.po2 and quantizer.scale is not ScaleKind.power_of_two:
        refuse(f"{path}.scale", quantizer.scale.name, "kind=po2 has no other scale than power_of_two")
    if quantizer.rounding is not Rounding.nearest:
        refuse(f"{path}.rounding", quantizer.rounding.name, f"kind={kind} rounds to nearest")
    if quantizer.learned_step:
        refuse(f"{path}.learned_step", True, f"kind={kind} has no step to learn: give false")


def _validate_learned_step(path: str, quantizer: WeightQuantizerConfig | OutputQuantizerConfig) -> None:
    if not quantizer.learned_step:
        return
    if quantizer.scale is not ScaleKind.float:
        refuse(f"{path}.learned_step", True, f"a scale that is learned can't be {quantizer.scale.name}: give false")
    if quantizer.rounding is not Rounding.nearest:
        refuse(f"{path}.rounding", quantizer.rounding.name, "learned_step=true rounds to nearest")


def _buffer(config: QuantizerConfig) -> int:
    """Widest accumulator that a layer without its own `buffer_bitwidth` can have."""
    if isinstance(config.buffer_bitwidth, int):
        return config.buffer_bitwidth
    activations = [config.input.bitwidth, config.output.bitwidth]
    activations += [rule.output.bitwidth for rule in config.layers if rule.output and rule.output.bitwidth]
    return WIDE_BUFFER if any(bitwidth > 8 for bitwidth in activations) else NARROW_BUFFER


def _validate_rule(path: str, rule: LayerRule, config: QuantizerConfig, buffer: int) -> None:
    pattern(f"{path}.match", rule.match)
    whole(f"{path}.buffer_bitwidth", rule.buffer_bitwidth, SMALLEST_BITWIDTH, WIDE_BUFFER, optional=True)
    for name, validate in VALIDATED_BY.items():
        if getattr(rule, name, None) is not None:
            validate(f"{path}.{name}", overlaid(getattr(config, name), getattr(rule, name)))
    for name in ("bias", "b_quantizer"):
        _validate_aligned(f"{path}.{name}", getattr(rule, name), rule.buffer_bitwidth or buffer)


def _validate_aligned(path: str, quantizer: Aligned, buffer: int) -> None:
    if quantizer is not None:
        whole(f"{path}.bitwidth", quantizer.bitwidth, SMALLEST_BITWIDTH, buffer, optional=True)
