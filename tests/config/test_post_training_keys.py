"""Mistakes in `adaround` and `post_training`, keys that nothing uses, and settings that work against each other."""

import pytest
from config.test_shipped_configs import job

from qpipe.config.validation import validate
from qpipe.errors import ConfigError

MISTAKES = {
    "adaround.include_activation=true": (
        "adaround.include_activation: True is not allowed; solver=gptq works without the activation: give polish, "
        "a number of sgd iterations that start from its result, or solver=sgd"
    ),
    "adaround.iterations=0": "adaround.iterations: 0 is not allowed; give a whole number of at least 1",
    "adaround.batch_size=0": "adaround.batch_size: 0 is not allowed; give a whole number of at least 1, or null",
    "adaround.holdout=1.0": "adaround.holdout: 1.0 is not allowed; give a number of at least 0 and below 1",
    "adaround.layers=[]": "adaround.layers: [] is not allowed; give layer names or patterns",
    "adaround.gamma=0.1": "adaround.gamma: 0.1 is not allowed; give a number below 0, so that h can reach 0",
    "adaround.zeta=1.0": "adaround.zeta: 1.0 is not allowed; give a number above 1, so that h can reach 1",
    "adaround.beta_end=30.0": "adaround.beta_end: 30.0 is not allowed; give at most beta_start=20",
    "adaround.regularization=-1.0": "adaround.regularization: -1.0 is not allowed; give a number of at least 0",
    "adaround.histogram=conv1": "adaround.histogram: 'conv1' is not allowed; solver=gptq has no h",
    "adaround.memory_limit_mb=0": "adaround.memory_limit_mb: 0 is not allowed; give a whole number of at least 1",
    "quantizer.a_quantizer.range=output_mse": "quantizer.a_quantizer.range: 'output_mse' is not allowed; a factor has",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_mistakes_are_answered_with_one_sentence(override):
    with pytest.raises(ConfigError) as error:
        validate(job(["method=ptq", "adaround=gptq", override]))
    assert str(error.value).startswith(MISTAKES[override])


def test_sgd_has_nothing_to_polish():
    with pytest.raises(ConfigError, match=r"adaround\.polish: 100 is not allowed; solver=sgd polishes nothing"):
        validate(job(["method=ptq", "adaround=sgd", "adaround.polish=100"]))


@pytest.mark.parametrize(
    "overrides",
    [
        ["adaround=gram", "adaround.include_activation=true", "adaround.polish=500"],
        ["adaround=sgd", "adaround.include_activation=true"],
        ["adaround=gram", "adaround.histogram=conv1"],
        ["adaround=gptq", "quantizer.weight.range=output_mse"],
        ["quantizer.weight.range=output_mse"],
    ],
)
def test_what_fits_together_is_taken_without_a_word(overrides):
    assert validate(job(["experiment=mobilenet_8bit_ptq", *overrides])) == []


def test_training_needs_rounding_for_scales_of_least_output_error():
    with pytest.raises(
        ConfigError, match=r"quantizer.weight.range: 'output_mse' is not allowed; training has no layer"
    ):
        validate(job(["method=qat", "quantizer.weight.range=output_mse"]))
    rule = "quantizer.layers=[{match: conv1, weight: {range: output_mse}}]"
    with pytest.raises(ConfigError, match=r"quantizer.layers\[0\].weight.range"):
        validate(job(["method=qat", rule]))
    assert validate(job(["method=qat", "adaround=gptq", rule])) == []


@pytest.mark.parametrize("key", ["bias_correction=empirical", "reestimate_statistics=true"])
def test_training_does_the_work_of_corrections(key):
    with pytest.raises(ConfigError, match="method=qat trains biases and statistics"):
        validate(job(["method=qat", f"post_training.{key}"]))


def test_training_from_rounded_weights_has_no_folded_layers():
    sentences = validate(job(["method=qat", "adaround=gptq", "folding.mode=batch_stats_folding"]))
    assert [sentence.split(":")[0] for sentence in sentences] == ["folding.mode is set but not used"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["adaround.solver=sgd"], "adaround.solver is set but not used: adaround.enabled=false rounds to nearest"),
        (
            ["adaround=gptq", "adaround.iterations=5", "adaround.batch_size=8"],
            "adaround.iterations, adaround.batch_size are set but not used: solver=gptq without polish",
        ),
        (["adaround=gram", "adaround.batch_size=8"], "adaround.batch_size is set but not used: solver=gram needs no"),
        (["adaround=gptq", "adaround.polish=9", "adaround.iterations=5"], "adaround.iterations is set but not used"),
        (["adaround=gptq", "post_training.bias_correction=analytic"], "takes it off a second time"),
        (["adaround=gptq", "post_training.bias_correction=empirical"], "it finds little to do"),
        (["adaround=gptq", "post_training.reestimate_statistics=true"], "changes the scales that adaround has rounded"),
        (["post_training.equalization.enabled=true"], "gains little with quantizer.weight.per_channel=true"),
        (
            ["post_training.reestimate_statistics=true", "quantizer.weight.per_channel=false"],
            "changes no folded layer where quantizer.weight.per_channel=false",
        ),
    ],
)
def test_what_is_not_used_or_works_against_something_is_said(overrides, sentence):
    sentences = validate(job(["experiment=mobilenet_8bit_ptq", *overrides]))
    assert len(sentences) == 1
    assert sentence in sentences[0]
