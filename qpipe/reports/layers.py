"""The layer report: one row for each layer, from its plan and from what was measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import keras
import numpy as np

from qpipe.graph.folding import FoldingPlan
from qpipe.graph.layer_plan import LayerPlan, Treatment
from qpipe.graph.quantization import QuantizationResult
from qpipe.layers.inventory import quantized_linear_layers
from qpipe.layers.linear import QuantizedLinear
from qpipe.lowering.verification import Verification
from qpipe.reports.accumulator import needed_accumulator_bits
from qpipe.reports.costs import layer_cost
from qpipe.reports.noise import LayerNoise


@dataclass
class LayerRow:
    """One row; everything below `plan` is None where it was not measured or does not apply.

    Attributes:
        plan: what becomes of the layer.
        sqnr_db: signal-to-quantization-noise ratio of the output in dB.
        saturated: values of the output that were cut off: by the integer engine on the test samples, where it ran.
        values: values of the output that were looked at.
        saturated_weights: weights that lie beyond the ends of their grid.
        needed_accumulator_bits: worst case.
        observed_accumulator_bits: of the largest sum that the integer engine saw.
        buffer_saturations: sums that the integer engine saturated to the buffer.
        mismatch_rate: share of the output's integers in which simulation and integer engine differ.
        largest_lsb: the largest such difference.
        parameters: kernel and folded bias.
        multiply_accumulates: for one sample.
        exports: for each exported format how the output's integers differ from the engine's: share and LSB.
        post_training: for each algorithm that ran what it did to the layer, as plain values.
    """

    plan: LayerPlan
    sqnr_db: float | None = None
    saturated: int | None = None
    values: int | None = None
    saturated_weights: int | None = None
    needed_accumulator_bits: int | None = None
    observed_accumulator_bits: int | None = None
    buffer_saturations: int | None = None
    mismatch_rate: float | None = None
    largest_lsb: int | None = None
    parameters: int = 0
    multiply_accumulates: int = 0
    exports: dict[str, dict[str, float]] = field(default_factory=dict)
    post_training: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the row as plain values."""
        row = {key: value for key, value in asdict(self).items() if key != "plan"}
        plan = asdict(self.plan) | {"treatment": self.plan.treatment.value}
        return plan | row


@dataclass
class LayerReport:
    """The layer table, what each rule matched, and for each batch normalization that stays, why."""

    rows: list[LayerRow]
    rule_matches: dict[str, int] = field(default_factory=dict)
    kept_batchnorms: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    equalized_pairs: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of `layers.json`."""
        return {
            "layers": [row.to_json() for row in self.rows],
            "rules": self.rule_matches,
            "batch_normalizations_kept": self.kept_batchnorms,
            "equalized_pairs": self.equalized_pairs,
            "notes": self.notes,
        }

    @property
    def multiply_accumulates(self) -> int:
        """Of all layers, for one sample."""
        return sum(row.multiply_accumulates for row in self.rows)

    @property
    def quantized(self) -> int:
        """How many layers compute with integers, those that pass them through included."""
        return sum(row.plan.treatment is not Treatment.float for row in self.rows)


def layer_report(
    result: QuantizationResult,
    folding: FoldingPlan,
    noise: dict[str, LayerNoise] | None = None,
    verification: Verification | None = None,
) -> LayerReport:
    """Makes the report of a quantized model.

    Args:
        result: the quantized model with its plans.
        folding: what was folded.
        noise: as `measure_noise` gives it; without it, as for a dry run, nothing that needs data is reported.
        verification: as `verify_engine` gives it, where it was wanted.
    """
    rows = [_row(plan, result.model, noise) for plan in result.plans]
    notes = list(result.notes)
    if verification is not None:
        for row in rows:
            _add_verification(row, verification)
        notes.append(verification.summary())
    for row in rows:
        notes += _accumulator_notes(row)
    notes += _saturated_weights(rows)
    if noise is not None:
        notes += _raised_scales(result.model)
    return LayerReport(rows, result.rule_matches, folding.kept, notes)


def _accumulator_notes(row: LayerRow) -> list[str]:
    needed, buffer = row.needed_accumulator_bits, row.plan.buffer_bits
    if row.buffer_saturations:
        return [
            f"{row.plan.name} saturated {row.buffer_saturations:,} sums at its buffer_bitwidth of {buffer}; "
            f"it would need {row.observed_accumulator_bits} bits for the test samples, {needed} in the worst case"
        ]
    if needed and buffer and needed > buffer:
        return [f"{row.plan.name} may need {needed} accumulator bits, and saturates at its {buffer}"]
    return []


def _saturated_weights(rows: list[LayerRow]) -> list[str]:
    """One sentence for all weights that the ends of their grids cut off, with the layer that has the most of them."""
    cut = [row for row in rows if row.saturated_weights]
    if not cut:
        return []
    most = max(cut, key=lambda row: row.saturated_weights or 0)
    total = sum(row.saturated_weights or 0 for row in cut)
    return [
        f"{total:,} weights of {len(cut)} layer(s) are cut off at the ends of their grids, most of them in "
        f"{most.plan.name}: {most.saturated_weights:,} of its {most.parameters:,} parameters"
    ]


def _raised_scales(model: keras.Model) -> list[str]:
    """One sentence for each layer with weight scales that had to be raised until the channel's bias fits."""
    sentences = []
    for layer in quantized_linear_layers(model):
        raised = np.flatnonzero(layer.raised_channels())
        if len(raised):
            channels = ", ".join(str(channel) for channel in raised[:5]) + (", ..." if len(raised) > 5 else "")
            sentences.append(
                f"{layer.name}: the weight scale of {len(raised)} channel(s) ({channels}) was raised, so that the bias "
                f"fits into the accumulator's {layer.buffer_bitwidth} bits"
            )
    return sentences


def _add_verification(row: LayerRow, verification: Verification) -> None:
    if row.plan.name in verification.tensors:
        compared = verification.tensors[row.plan.name]
        row.mismatch_rate, row.largest_lsb = compared.mismatch_rate, compared.largest_lsb
    if row.sqnr_db is not None and row.plan.name in verification.notes:
        notes = verification.notes[row.plan.name]
        row.saturated, row.values = notes.output_saturations, notes.values
    if row.needed_accumulator_bits and row.plan.name in verification.notes:
        notes = verification.notes[row.plan.name]
        row.observed_accumulator_bits = notes.accumulator_bits
        row.buffer_saturations = notes.buffer_saturations


def _row(plan: LayerPlan, model: keras.Model, noise: dict[str, LayerNoise] | None) -> LayerRow:
    layer = model.get_layer(plan.name) if any(layer.name == plan.name for layer in model.layers) else None
    row = LayerRow(plan)
    if layer is None:
        return row
    cost = layer_cost(layer)
    row.parameters, row.multiply_accumulates = cost.parameters, cost.multiply_accumulates
    if noise is not None and isinstance(layer, QuantizedLinear):
        row.needed_accumulator_bits = needed_accumulator_bits(layer)
        if layer.kernel_quantizer is not None:
            kernel, bias = layer.folded_weights()
            row.saturated_weights = layer.kernel_quantizer.cut_off(kernel, layer.weight_scale(kernel, bias))
    if noise is not None and plan.name in noise:
        measured = noise[plan.name]
        row.sqnr_db, row.saturated, row.values = measured.sqnr_db, measured.saturated, measured.values
    return row
