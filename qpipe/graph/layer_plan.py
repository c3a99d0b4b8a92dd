"""The plan for one layer of the quantized model: what `dry_run` prints and the layer report completes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Treatment(Enum):
    """What becomes of a layer."""

    quantized = "quantized"
    keeps = "keeps its input's quantizer"
    float = "float"


@dataclass
class LayerPlan:
    """One row: a layer with what was folded and fused into it, its bits, or why it stays in float.

    Widths are in bits; a scale is `float` or `power_of_two`, followed by `/channel` where there is one per
    output channel; a kind of weights other than `uniform` stands before it.
    """

    name: str
    layer: str
    treatment: Treatment
    folded: list[str] = field(default_factory=list)
    fused: str | None = None
    rules: list[str] = field(default_factory=list)
    weight_bits: int | None = None
    weight_scale: str | None = None
    bias_bits: int | None = None
    output_bits: int | None = None
    output_scale: str | None = None
    buffer_bits: int | None = None
    reason: str | None = None
