"""The page of layers, formats and widths is that of the code."""

import runpy
from pathlib import Path

import pytest

from qpipe.config.export_schema import ExportFormat

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed; there is none for Windows")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def table():
    return runpy.run_path(str(DOCS / "generate_operator_table.py"))


def test_a_row_of_the_page(table):
    cells = table["row"]("Conv2D 1×1")
    expected = {"W8A8": "exact", "W4A8": "exact", "W4A8, `pack_int4=false`": "exact", "W8A4": "exact", "W8A15": "± 4"}
    assert {width: cells[ExportFormat.litert, width] for width in expected} == expected
    assert cells[ExportFormat.litert, "operators"] == "CONV_2D"
    row = f"| Conv2D 1×1 | {' | '.join(expected.values())} | CONV_2D |"
    assert row in (DOCS / "operator-table.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.slow
def test_the_page_is_up_to_date(table):
    written = (DOCS / "operator-table.md").read_text(encoding="utf-8")
    assert written == table["page"](), "run: python docs/generate_operator_table.py"
