"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table

from qpipe.graph.layer_plan import LayerPlan, Treatment
from qpipe.reports.layers import LayerReport, LayerRow

UNKNOWN = "–"


def layer_table(report: LayerReport, *, measured: bool) -> Table:
    """Returns the table of all layers but those that pass integers through.

    Args:
        report: the layer report.
        measured: whether there are measurements to show (a dry run has none).
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in ("layer", "takes in", "rule"):
        table.add_column(title, overflow="fold")
    for title in ("weights", "bias", "output", "acc. bits"):
        table.add_column(title, justify="right", no_wrap=True)
    if measured:
        for title in ("SQNR dB", "saturated"):
            table.add_column(title, justify="right", no_wrap=True)
    for title in ("params", "MACs"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in report.rows:
        if row.plan.treatment is not Treatment.keeps:
            table.add_row(*_cells(row, measured))
    return table


def remarks(report: LayerReport) -> list[str]:
    """Returns the sentences that belong below the table: what stays in float, what a rule matched, notes."""
    lines = [f"{row.plan.name}: {row.plan.reason}" for row in report.rows if row.plan.reason]
    lines += [f"{name} is not folded: {reason}" for name, reason in report.kept_batchnorms.items()]
    lines += [f"rule {match!r} matches {count} layer(s)" for match, count in report.rule_matches.items()]
    keeps = sum(row.plan.treatment is Treatment.keeps for row in report.rows)
    if keeps:
        lines.append(f"{keeps} more layer(s) pass their input's integers through (pooling, padding, reshaping, ...)")
    return lines + report.notes


def result_table(metrics: Mapping[str, float]) -> Table:
    """Returns the closing table: accuracy, agreement with the float model and size of each model."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("model")
    for title in ("accuracy", "agreement with float", "weights"):
        table.add_column(title, justify="right")
    table.add_row("float", _percent(metrics["float/accuracy"]), UNKNOWN, _kilobytes(metrics["size/float_bytes"]))
    table.add_row("folded", _percent(metrics["folded/accuracy"]), UNKNOWN, UNKNOWN)
    table.add_row(
        "quantized",
        _percent(metrics["quantized/accuracy"]),
        _percent(metrics["agreement"]),
        _kilobytes(metrics["size/packed_weight_bytes"]),
    )
    return table


def _cells(row: LayerRow, measured: bool) -> list[str]:
    plan = row.plan
    if plan.treatment is Treatment.float:
        accumulator = ""
    elif row.needed_accumulator_bits:
        accumulator = f"{row.needed_accumulator_bits}/{plan.buffer_bits}"
    else:
        accumulator = str(plan.buffer_bits or "")
    cells = [
        plan.name,
        ", ".join([*plan.folded, *([plan.fused] if plan.fused else [])]),
        ", ".join(plan.rules),
        _weights(plan),
        _text(plan.bias_bits),
        "float" if plan.treatment is Treatment.float else _text(plan.output_bits),
        accumulator,
    ]
    if measured:
        ratio = "" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"
        cells += [ratio, "" if row.saturated is None else f"{row.saturated / max(1, row.values or 1):.2%}"]
    return [*cells, f"{row.parameters:,}" if row.parameters else "", _text(row.multiply_accumulates or None, ",")]


def _weights(plan: LayerPlan) -> str:
    return "" if plan.weight_bits is None else f"{plan.weight_bits} {plan.weight_scale}"


def _text(value, form: str = "") -> str:
    return "" if value is None else format(value, form)


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _kilobytes(size: float) -> str:
    return f"{size / 1024:,.1f} KiB"
