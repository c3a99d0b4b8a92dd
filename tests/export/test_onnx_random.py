"""Random graphs in ONNX files against the integer engine."""

import itertools

import pytest
from export.onnx_comparison import assert_near, compared
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import RandomGraph, quantizer_configs, random_graphs

from qpipe.config.schema import QuantizerConfig
from qpipe.layers.inventory import output_quantizers

fuzz = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
numbers = itertools.count()
ENDS, OPERATORS = st.sampled_from(["int8", "float"]), st.sampled_from(["qdq", "qlinear"])


def assert_documented(graph: RandomGraph, config: QuantizerConfig, io: str, operators: str, folder) -> None:
    """At most 1 integer in 1,000 differs, with 16 bits 5 in 1,000; of outputs of few values one may."""
    folder = folder / str(next(numbers))
    model = graph.quantized(config)
    wide = any(quantizer.bitwidth > 8 for quantizer in output_quantizers(model).values())
    for comparison in compared(model, graph.samples(16, seed=1, spread=1.3), folder, (io,), operators).values():
        values = sum(output.values for output in comparison.outputs.values())
        assert_near(comparison, max(5e-3 if wide else 1e-3, 1 / values), lsb=4 if wide else 1)


@settings(fuzz, max_examples=15)
@given(random_graphs(), quantizer_configs(), ENDS, OPERATORS)
def test_random_graphs(tmp_path, graph, config, io, operators):
    assert_documented(graph, config, io, operators, tmp_path)


@pytest.mark.slow
@settings(fuzz, max_examples=200)
@given(random_graphs(), quantizer_configs(), ENDS, OPERATORS)
def test_many_random_graphs(tmp_path, graph, config, io, operators):
    assert_documented(graph, config, io, operators, tmp_path)
