import io

import pytest
from rich.console import Console

from qpipe.graph.layer_plan import LayerPlan, Treatment
from qpipe.reports.layers import LayerReport, LayerRow
from qpipe.reports.tables import layer_table, remarks


def report(rules=()):
    plan = LayerPlan(
        "conv_pw_10",
        "QConv2DBatchnorm",
        Treatment.quantized,
        folded=["conv_pw_10_bn", "conv_pw_10_relu"],
        rules=list(rules),
        weight_bits=8,
        weight_scale="float/channel",
        bias_bits=32,
        output_bits=8,
        buffer_bits=32,
    )
    rows = [
        LayerRow(
            plan,
            sqnr_db=48.25,
            saturated=3,
            values=1000,
            needed_accumulator_bits=23,
            observed_accumulator_bits=19,
            parameters=16512,
            multiply_accumulates=262144,
        ),
        LayerRow(LayerPlan("softmax", "Activation", Treatment.float, reason="stays in float")),
        LayerRow(LayerPlan("flatten", "Flatten", Treatment.keeps)),
    ]
    return LayerReport(rows)


def printed(width, **options):
    output = io.StringIO()
    table, left_out = layer_table(report(**options), measured=True, width=width)
    Console(file=output, width=width, highlight=False).print(table)
    return output.getvalue(), left_out


@pytest.mark.parametrize("width", [60, 80, 100, 150])
def test_layer_names_and_numbers_are_whole_at_every_width(width):
    text, _ = printed(width)
    assert "…" not in text
    for value in ("conv_pw_10", "8 float/channel", "48.2", "softmax"):
        assert value in text
    assert "flatten" not in text


def test_columns_without_room_are_named():
    assert printed(150)[1] == []
    text, left_out = printed(80)
    assert "params" in left_out
    assert "16,512" not in text


def test_accumulator_widths_are_observed_worst_case_and_buffer():
    assert "19/23/32" in printed(150)[0]


def test_the_rule_column_shows_up_where_a_rule_matched():
    assert "rule" not in printed(150)[0]
    assert "conv_*" in printed(150, rules=["conv_*"])[0]


def test_remarks_say_what_stays_in_float():
    assert remarks(report())[0] == "softmax: stays in float"
