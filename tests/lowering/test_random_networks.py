"""Random graphs: the Keras simulation and the integer engine compute the same integers at every tensor."""

import pytest
from hypothesis import HealthCheck, given, settings
from random_graphs import RandomGraph, quantizer_configs, random_graphs

from qpipe.config.schema import QuantizerConfig
from qpipe.lowering.verification import verify_engine
from qpipe.sample_batches import arrays_of

fuzz = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def assert_same_integers(graph: RandomGraph, config: QuantizerConfig) -> None:
    model = graph.quantized(config)
    verification = verify_engine(model, [arrays_of(model, graph.samples(8, seed=1, spread=1.5))])
    assert verification.tensors
    assert verification.first_difference is None, verification.summary()


@settings(fuzz, max_examples=8)
@given(random_graphs(), quantizer_configs())
def test_same_integers(graph, config):
    assert_same_integers(graph, config)


@pytest.mark.slow
@settings(fuzz, max_examples=200)
@given(random_graphs(), quantizer_configs())
def test_same_integers_of_many(graph, config):
    assert_same_integers(graph, config)
