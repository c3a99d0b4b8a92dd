"""Resolving the quantizer settings of each layer from the configuration and its rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from qpipe.config.layer_rules import overlaid
from qpipe.config.quantizer_validation import validate_output, validate_weight
from qpipe.config.schema import (
    BiasQuantizerConfig,
    LayerRule,
    OutputQuantizerConfig,
    QuantizerConfig,
    WeightQuantizerConfig,
)
from qpipe.errors import ConfigError
from qpipe.graph.selection import is_exact, matches, require_match

QUANTIZER_FIELDS = ("weight", "bias", "output", "a_quantizer", "b_quantizer")


@dataclass(frozen=True)
class LayerSettings:
    """The quantizers of one layer after the rules, the rules that matched it, and the fields that they set."""

    weight: WeightQuantizerConfig
    bias: BiasQuantizerConfig
    output: OutputQuantizerConfig
    a_quantizer: WeightQuantizerConfig
    b_quantizer: BiasQuantizerConfig
    buffer_bitwidth: int | None
    quantize: bool = True
    rules: tuple[str, ...] = field(default=())
    set_by_rules: frozenset[str] = frozenset()

    def buffer_for(self, input_bitwidth: int) -> int:
        """Returns the accumulator's width: as configured, or 32, and 64 for inputs of more than 8 bits."""
        return self.buffer_bitwidth or (32 if input_bitwidth <= 8 else 64)


def settings_of(name: str, config: QuantizerConfig) -> LayerSettings:
    """Returns the settings of the layer `name`: the last rule that matches wins, field by field.

    Raises:
        ConfigError: if what several rules set together does not combine.
    """
    values = {key: getattr(config, key) for key in (*QUANTIZER_FIELDS, "buffer_bitwidth")}
    quantize = True
    matched = [rule for rule in config.layers if matches(rule.match, name)]
    for rule in matched:
        for key in QUANTIZER_FIELDS:
            values[key] = overlaid(values[key], getattr(rule, key))
        if rule.buffer_bitwidth is not None:
            values["buffer_bitwidth"] = rule.buffer_bitwidth
        quantize = quantize if rule.quantize is None else rule.quantize
    settings = LayerSettings(
        **values,
        quantize=quantize,
        rules=tuple(rule.match for rule in matched),
        set_by_rules=frozenset(key for rule in matched for key in _set_fields(rule)),
    )
    if matched:
        where = f"quantizer.layers, all rules for layer {name!r}: "
        validate_weight(f"{where}weight", settings.weight)
        validate_weight(f"{where}a_quantizer", settings.a_quantizer)
        validate_output(f"{where}output", settings.output)
    return settings


def check_rules(config: QuantizerConfig, fields_of: dict[str, set[str]]) -> list[str]:
    """Checks that every rule matches a layer and sets only fields that its layers have.

    Args:
        config: the quantizers with their rules.
        fields_of: for each layer that can be quantized the fields of `LayerRule` that it has.

    Returns:
        One sentence for each pattern that sets a field which some of its layers lack.

    Raises:
        ConfigError: if a rule matches no layer, or names a layer exactly and sets a field which it lacks.
    """
    notes = []
    for index, rule in enumerate(config.layers):
        where = f"quantizer.layers[{index}]"
        require_match(rule.match, fields_of, f"{where}.match")
        for key in _set_fields(rule):
            lacking = [name for name, has in fields_of.items() if matches(rule.match, name) and key not in has]
            if lacking and is_exact(rule.match):
                allowed = ", ".join(repr(name) for name in sorted(fields_of[rule.match])) or "nothing but quantize"
                raise ConfigError(f"{where}.{key}: layer {rule.match!r} has no {key}; allowed: {allowed}")
            if lacking:
                names = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
                notes.append(f"{where}.{key} does not apply to {names}, which have no {key}")
    return notes


def count_matches(config: QuantizerConfig, names: Iterable[str]) -> dict[str, int]:
    """Returns for each rule's `match` how many of the layers `names` it covers."""
    names = list(names)
    return {rule.match: sum(matches(rule.match, name) for name in names) for rule in config.layers}


def _set_fields(rule: LayerRule) -> list[str]:
    return [key for key in (*QUANTIZER_FIELDS, "buffer_bitwidth") if getattr(rule, key) is not None]
