import csv
import io
import json

import pytest
from rich.console import Console
from sweep_outcomes import attempt, measured, outcome

from qpipe.sweep.objectives import Objective
from qpipe.sweep.pareto_plot import fronts_figure
from qpipe.sweep.report import compare_page, description, rows_as_csv, summary, table_rows
from qpipe.sweep.tables import closing_lines, closing_table

JOBS = [
    measured(0, 0.91, 1200.0, 9_000_000.0, float__accuracy=0.92),
    measured(1, 0.92, 900.0, 7_000_000.0, float__accuracy=0.92),
    measured(2, 0.55, 300.0, 8_000_000.0, float__accuracy=0.92),
    attempt(3, "FAILED", error="DataError: there is no file [a] | b"),
]


def test_closing_table_and_lines():
    stands = outcome(*JOBS, total=5)
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(closing_table(stands))
    rows = console.export_text().splitlines()
    assert [row.count("●") for row in rows[2:6]] == [0, 2, 1, 0]
    assert "0.9200" in rows[3]
    assert "7,000,000" in rows[3]
    lines = closing_lines(stands)
    assert lines[0].startswith("sweep: 3 of 5 done, 1 failed, 1 left")
    assert lines[1].startswith("best by quantized/accuracy: job 1 (bitwidth=7), 0.9200")
    assert lines[2] == r"failed: job 3 (bitwidth=5): DataError: there is no file \[a] | b"


def test_stored_tables():
    stands = outcome(*JOBS, total=5)
    rows = table_rows(stands)
    stored = json.loads(json.dumps(summary(stands, {"bitwidth": "8, 7, 6, 5"}, rows)))
    assert stored["progress"] == {"jobs": 5, "done": 3, "failed": 1, "left": 1}
    assert stored["best"] == {"job": 1, "run_id": "run1-FINISHED", "bitwidth": "7"}
    assert stored["pareto"] == {"size/packed_weight_bytes": [2, 1], "cost/bit_operations": [1]}
    read = list(csv.DictReader(io.StringIO(rows_as_csv(rows))))
    assert [row["bitwidth"] for row in read] == ["8", "7", "6", "5"]
    assert [row["quantized/accuracy"] for row in read] == ["0.91", "0.92", "0.55", ""]
    text = description(stands, rows, compare_page("1", ["a", "b"]))
    assert "#/compare-runs?runs=%5B%22a%22%2C%20%22b%22%5D&experiments=%5B%221%22%5D&" in text
    assert r"there is no file [a] \| b" in text
    assert "| 1 | 7 | FINISHED | 0.9200 | 900 ● | 7,000,000 ● |" in text
    assert "| 2 | 6 | FINISHED | 0.5500 | 300 ● | 8,000,000 |" in text


@pytest.mark.parametrize("spread", [1.0, 100.0])
@pytest.mark.parametrize("name", ["net", "a_network_with_a_rather_long_name_of_forty_characters_and_more"])
def test_nothing_in_the_plot_is_clipped(name, spread):
    swept = {"weight.bitwidth": "8", "mode": "batch_stats_folding", "range": "max"}
    jobs = [
        measured(number, 0.9 + 0.005 * number, 1e5 * (1 + number * spread), 1e9 * (9 - number), float__accuracy=0.95)
        for number in range(9)
    ]
    jobs.append(measured(9, 0.8, 5e4, 1e8, swept=swept))
    figure = fronts_figure(outcome(*jobs, name=name))
    figure.canvas.draw()
    assert figure.get_suptitle().replace("\n", " ").startswith(f"{name}: what quantized/accuracy costs")
    texts = [figure._suptitle, *figure.legends[0].get_texts()]
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label, *shown_ticks(axes.xaxis), *shown_ticks(axes.yaxis)]
        assert len(axes.texts) > 0
        assert not clipped(axes.texts, axes.bbox)
    assert not clipped(texts, figure.bbox.padded(1.0))


def shown_ticks(axis):
    low, high = axis.get_view_interval()
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [tick.label1 for tick in ticks if tick.label1.get_visible()]


def clipped(texts, frame):
    """Texts that leave the frame."""
    boxes = [(text, text.get_window_extent()) for text in texts if text.get_text()]
    return [
        text
        for text, box in boxes
        if not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
    ]


def test_a_sweep_without_results_has_no_plot():
    assert fronts_figure(outcome(attempt(0, "FAILED"))) is None


def test_an_error_measure_counts_downwards():
    worse = attempt(0, quantized__mae=2.0, size__packed_weight_bytes=10.0)
    better = attempt(1, quantized__mae=1.0, size__packed_weight_bytes=10.0)
    stands = outcome(worse, better, objectives=[Objective("quantized/mae", False)])
    assert [entry.number for entry in stands.front("size/packed_weight_bytes")] == [1]
    assert fronts_figure(stands) is not None
