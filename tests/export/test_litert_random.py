"""Random graphs in LiteRT files against the integer engine."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import RandomGraph, quantizer_configs, random_graphs

import qpipe
from qpipe.config.schema import QuantizerConfig
from qpipe.errors import ExportError

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed; there is none for Windows")
fuzz = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
ends = st.sampled_from(["int8", "float"])
numbers = itertools.count()
REASONS = ("symmetric=true", "at most 15 bits", "scale 1/256", "garbage")
"""Why some of the drawn widths are refused."""


def assert_documented(graph: RandomGraph, config: QuantizerConfig, io: str, folder) -> None:
    """Every layer keeps the bound of its kernels; where all are XNNPACK's, so do the outputs."""
    model = graph.quantized(config)
    path = folder / f"{next(numbers)}.tflite"
    exported, refusal = _exported(model, path, io)
    if exported is None:
        assert any(reason in refusal for reason in REASONS)
        assert not path.exists()
        return
    comparison = qpipe.verify(model, path, graph.samples(16, seed=1, spread=1.3))
    assert comparison.isolated
    assert exported.bound.is_kept(comparison), comparison.summary()


def _exported(model, path, io: str):
    """What is known of the file, or None and why it was refused."""
    try:
        return qpipe.export_litert(model, path, io=io), ""
    except ExportError as refusal:
        return None, str(refusal)


@settings(fuzz, max_examples=12)
@given(random_graphs(), quantizer_configs(), ends)
def test_random_graphs(tmp_path, graph, config, io):
    assert_documented(graph, config, io, tmp_path)


@pytest.mark.slow
@settings(fuzz, max_examples=200)
@given(random_graphs(), quantizer_configs(), ends)
def test_many_random_graphs(tmp_path, graph, config, io):
    assert_documented(graph, config, io, tmp_path)


@pytest.mark.slow
@settings(fuzz, max_examples=100)
@given(random_graphs(), quantizer_configs(weights=(8, 5, 6, 7), activations=(8, 4, 5, 6, 7)), ends)
def test_many_random_graphs_of_int8_kernels(tmp_path, graph, config, io):
    assert_documented(graph, config, io, tmp_path)
