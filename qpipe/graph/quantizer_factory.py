"""Quantizers made from their configuration, or of those that a layer brings with it."""

from __future__ import annotations

from qpipe.config.schema import BiasQuantizerConfig, OutputQuantizerConfig, WeightQuantizerConfig
from qpipe.graph.rules import LayerSettings
from qpipe.quantizers import AlignedWeightQuantizer, OutputQuantizer, WeightQuantizer


def weight_quantizer(config: WeightQuantizerConfig, name: str, channel_axes=(-1,)) -> WeightQuantizer:
    """Returns the quantizer of a kernel."""
    return WeightQuantizer(
        bitwidth=config.bitwidth,
        per_channel=config.per_channel,
        range=config.range.name,
        scale=config.scale.name,
        channel_axes=channel_axes,
        kind=config.kind.name,
        rounding=config.rounding.name,
        learned_step=config.learned_step,
        name=f"{name}_weight",
    )


def bias_quantizer(config: BiasQuantizerConfig, name: str, buffer_bitwidth: int) -> AlignedWeightQuantizer:
    """Returns the quantizer of a bias, on the accumulator's scale."""
    return AlignedWeightQuantizer(bitwidth=config.bitwidth, buffer_bitwidth=buffer_bitwidth, name=f"{name}_bias")


def output_quantizer(
    config: OutputQuantizerConfig, name: str, *, signed: bool, ema_freeze_delay: int | None
) -> OutputQuantizer:
    """Returns the quantizer of an activation."""
    return OutputQuantizer(
        bitwidth=config.bitwidth,
        symmetric=config.symmetric,
        range=config.range.name,
        scale=config.scale.name,
        signed=signed,
        ema_freeze_delay=ema_freeze_delay,
        rounding=config.rounding.name,
        learned_step=config.learned_step,
        name=f"{name}_output",
    )


def own_weight_quantizer(layer, settings: LayerSettings, name: str) -> WeightQuantizer | None:
    """Returns a copy of the kernel quantizer that `layer` brings, or None if it has none or a rule sets one."""
    own = getattr(layer, "kernel_quantizer", None)
    if own is None or "weight" in settings.set_by_rules:
        return None
    return type(own).from_config(own.get_config() | {"name": f"{name}_weight", "fixed": False, "learning": False})


def own_bias_quantizer(
    layer, settings: LayerSettings, name: str, buffer_bitwidth: int
) -> AlignedWeightQuantizer | None:
    """Returns a copy of the bias quantizer that `layer` brings, or None if it has none or a rule sets one."""
    own = getattr(layer, "bias_quantizer", None)
    if own is None or "bias" in settings.set_by_rules:
        return None
    return type(own).from_config(own.get_config() | {"name": f"{name}_bias", "buffer_bitwidth": buffer_bitwidth})
