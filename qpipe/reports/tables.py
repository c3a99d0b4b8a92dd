"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table

from qpipe.graph.layer_plan import LayerPlan, Treatment
from qpipe.reports.layers import LayerReport, LayerRow

UNKNOWN = "–"
COLUMNS = (
    "layer",
    "takes in",
    "rule",
    "weights",
    "bias",
    "output",
    "acc. bits",
    "SQNR dB",
    "saturated",
    "params",
    "MACs",
)
TEXT = ("layer", "takes in", "rule")
MEASURED = ("SQNR dB", "saturated")
LEFT_OUT_FIRST = ("params", "bias", "MACs", "takes in", "acc. bits", "rule", "saturated")
MARGIN = 3


def layer_table(report: LayerReport, *, measured: bool, width: int) -> tuple[Table, list[str]]:
    """Returns the table of all layers but those that pass integers through, as wide as there is room for.

    Args:
        report: the layer report.
        measured: whether there are measurements to show (a dry run has none).
        width: columns of the terminal.

    Returns:
        The table, and the titles of the columns that found no room.
    """
    rows = [_cells(row) for row in report.rows if row.plan.treatment is not Treatment.keeps]
    titles = [title for title in COLUMNS if any(cells[title] for cells in rows)]
    if not measured:
        titles = [title for title in titles if title not in MEASURED]
    left_out = []
    for title in LEFT_OUT_FIRST:
        if _natural_width(titles, rows) > width and title in titles:
            titles.remove(title)
            left_out.append(title)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in titles:
        table.add_column(title, justify="left" if title in TEXT else "right", no_wrap=title != "takes in")
    for cells in rows:
        table.add_row(*(cells[title] for title in titles))
    return table, left_out


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


def _natural_width(titles: list[str], rows: list[dict[str, str]]) -> int:
    """The width at which nothing wraps; between two columns there is room for a margin of either."""
    widest = [max(len(title), *(len(cells[title]) for cells in rows)) for title in titles]
    return sum(widest) + MARGIN * (len(titles) - 1)


def _cells(row: LayerRow) -> dict[str, str]:
    plan = row.plan
    if plan.treatment is Treatment.float:
        accumulator = ""
    elif row.needed_accumulator_bits:
        accumulator = f"{row.needed_accumulator_bits}/{plan.buffer_bits}"
    else:
        accumulator = str(plan.buffer_bits or "")
    return {
        "layer": plan.name,
        "takes in": ", ".join([*plan.folded, *([plan.fused] if plan.fused else [])]),
        "rule": ", ".join(plan.rules),
        "weights": _weights(plan),
        "bias": _text(plan.bias_bits),
        "output": "float" if plan.treatment is Treatment.float else _text(plan.output_bits),
        "acc. bits": accumulator,
        "SQNR dB": "" if row.sqnr_db is None else f"{row.sqnr_db:.1f}",
        "saturated": "" if row.saturated is None else f"{row.saturated / max(1, row.values or 1):.2%}",
        "params": f"{row.parameters:,}" if row.parameters else "",
        "MACs": _text(row.multiply_accumulates or None, ","),
    }


def _weights(plan: LayerPlan) -> str:
    return "" if plan.weight_bits is None else f"{plan.weight_bits} {plan.weight_scale}"


def _text(value, form: str = "") -> str:
    return "" if value is None else format(value, form)


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _kilobytes(size: float) -> str:
    return f"{size / 1024:,.1f} KiB"
