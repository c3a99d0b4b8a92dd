"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
    """Returns the closing table: how good models and files are, how alike quantized and float model, sizes."""
    measures = [key for key in MEASURES if f"float/{key}" in metrics]
    compared = [key for key in LIKENESS if key in metrics]
    files = [name for name in FILES if any(f"{name}/{key}" in metrics for key in measures)]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("model")
    titles = [MEASURES[key][0] for key in measures] + [LIKENESS[key][0] for key in compared] + ["weights"]
    for title in titles:
        table.add_column(title, justify="right")
    for name in ("float", "folded", "quantized", *files):
        cells = [MEASURES[key][1](metrics[f"{name}/{key}"]) for key in measures]
        cells += [LIKENESS[key][1](metrics[key]) if name == "quantized" else UNKNOWN for key in compared]
        size = _kilobytes(metrics[SIZES[name]]) if name in SIZES else UNKNOWN
        cells.append(f"{size} file" if name in FILES else size)
        table.add_row(name, *cells)
    return table


FILES = ("litert", "onnx")
"""Exported files that can be measured."""
SIZES = {
    "float": "size/float_bytes",
    "quantized": "size/packed_weight_bytes",
    "litert": "size/file_bytes",
    "onnx": "size/onnx_file_bytes",
}
"""Metric with the size of each."""


def _natural_width(titles: list[str], rows: list[dict[str, str]]) -> int:
    """The width at which nothing wraps; between two columns there is room for a margin of either."""
    widest = [max(len(title), *(len(cells[title]) for cells in rows)) for title in titles]
    return sum(widest) + MARGIN * (len(titles) - 1)


def _cells(row: LayerRow) -> dict[str, str]:
    plan = row.plan
    if plan.treatment is Treatment.float:
        accumulator = ""
    elif row.needed_accumulator_bits:
        observed = f"{row.observed_accumulator_bits}/" if row.observed_accumulator_bits else ""
        accumulator = f"{observed}{row.needed_accumulator_bits}/{plan.buffer_bits}"
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


def _number(value: float) -> str:
    return f"{value:.4g}"


MEASURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "accuracy": ("accuracy", _percent),
    "top5_accuracy": ("top 5", _percent),
    "mean_iou": ("mean IoU", _percent),
    "f1": ("F1", _percent),
    "mae": ("mean abs. error", _number),
    "rmse": ("RMS error", _number),
    "r2": ("R²", _number),
}
"""Title and format of what is measured of each model."""
LIKENESS: dict[str, tuple[str, Callable[[float], str]]] = {
    "agreement": ("agreement with float", _percent),
    "deviation": ("deviation from float", _percent),
}
"""Title and format of what compares the quantized model with the float one."""
