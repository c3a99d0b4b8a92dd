"""Checks the settings of the export, and the widths that a named format can't have."""

from __future__ import annotations

from typing import Any

from qpipe.config.layer_rules import overlaid
from qpipe.config.ranges import refuse
from qpipe.config.schema import ExportConfig, ExportFormat, JobConfig, QuantizerConfig

WIDEST_WEIGHT = 8
WIDEST_ASYMMETRIC = 8
OF_LITERT = (ExportFormat.litert, ExportFormat.c_array)


def validate_export(config: JobConfig) -> None:
    """Checks `export`, and for formats that are asked for by name the widths of the quantizers.

    Raises:
        ConfigError: the first mistake.
    """
    formats = config.export.formats
    if formats is None:
        return
    for index, name in enumerate(formats):
        if name in formats[:index]:
            refuse(f"export.formats[{index}]", name.value, "name every format once")
    if any(name in OF_LITERT for name in formats):
        _validate_widths(config.quantizer)


def unused_export_keys(config: JobConfig) -> list[str]:
    """Returns sentences about keys that are set although nothing looks at them."""
    export, default = config.export, ExportConfig()
    changed = [key for key in ("io", "pack_int4", "require_exact") if getattr(export, key) != getattr(default, key)]
    if export.formats is not None and not export.formats and changed:
        keys = ", ".join(f"export.{key}" for key in changed)
        return [f"{keys} {'is' if len(changed) == 1 else 'are'} set but not used: export.formats is empty"]
    if export.require_exact and not config.verify.enabled:
        return ["export.require_exact is set but not used: verify.enabled=false compares nothing"]
    return []


def _validate_widths(quantizer: QuantizerConfig) -> None:
    _validate_weight("quantizer.weight", quantizer.weight)
    for name in ("input", "output"):
        _validate_output(f"quantizer.{name}", getattr(quantizer, name))
    for index, rule in enumerate(quantizer.layers):
        path = f"quantizer.layers[{index}]"
        if rule.weight is not None:
            _validate_weight(f"{path}.weight", overlaid(quantizer.weight, rule.weight))
        if rule.output is not None:
            _validate_output(f"{path}.output", overlaid(quantizer.output, rule.output))


def _validate_weight(path: str, weight: Any) -> None:
    if weight.bitwidth > WIDEST_WEIGHT:
        refuse(
            f"{path}.bitwidth",
            weight.bitwidth,
            f"LiteRT has weights of at most {WIDEST_WEIGHT} bits: narrow them, or leave litert out of export.formats",
        )


def _validate_output(path: str, output: Any) -> None:
    if output.bitwidth > WIDEST_ASYMMETRIC and not output.symmetric:
        refuse(
            f"{path}.symmetric",
            output.symmetric,
            f"LiteRT has activations of {output.bitwidth} bits with the zero point 0 only: give true, or leave litert "
            "out of export.formats",
        )
