"""Keys of the quantizers: what combines, what is refused, what a method does not use."""

import pytest

from qpipe.config.composition import composed, to_job_config
from qpipe.config.quantizer_validation import validate_quantizer
from qpipe.config.schema import (
    LayerRule,
    OutputQuantizerConfig,
    OutputQuantizerRule,
    QuantizerConfig,
    Rounding,
    ScaleKind,
    WeightKind,
    WeightQuantizerConfig,
    WeightQuantizerRule,
    WeightRange,
)
from qpipe.config.validation import validate
from qpipe.errors import ConfigError
from qpipe.graph.quantizer_factory import output_quantizer, weight_quantizer
from qpipe.graph.rules import settings_of


def composed_job(*overrides):
    with composed(list(overrides), None) as tree:
        config = to_job_config(tree)
    return config, validate(config)


def test_fixed_point_has_nothing_but_powers_of_two():
    config, notes = composed_job("experiment=preact_resnet_8bit", "quantizer=fixed_point_8bit")
    assert notes == []
    for name in ("input", "weight", "output", "a_quantizer"):
        quantizer = getattr(config.quantizer, name)
        assert quantizer.scale is ScaleKind.power_of_two
        assert quantizer.bitwidth == 8
        assert getattr(quantizer, "symmetric", True)


def test_int8_has_float_scales_and_asymmetric_activations():
    config, notes = composed_job("experiment=preact_resnet_8bit", "quantizer=int8")
    assert notes == []
    assert config.quantizer == QuantizerConfig()
    assert not config.quantizer.output.symmetric
    assert config.quantizer.output.scale is config.quantizer.weight.scale is ScaleKind.float


@pytest.mark.parametrize(
    ("weight", "kind", "bits"),
    [
        ("{kind: po2, bitwidth: 4, scale: power_of_two}", "po2", 4),
        ("{kind: ternary, bitwidth: 2}", "ternary", 2),
        ("{kind: binary, bitwidth: 1, scale: power_of_two}", "binary", 1),
        ("{rounding: stochastic}", "uniform", 8),
        ("{learned_step: true}", "uniform", 8),
    ],
)
def test_every_kind_comes_from_the_command_line(weight, kind, bits):
    config, notes = composed_job(f"quantizer.weight={weight}", f"quantizer.layers=[{{match: a, weight: {weight}}}]")
    assert notes == []
    for settings in (config.quantizer.weight, settings_of("a", config.quantizer).weight):
        quantizer = weight_quantizer(settings, "conv")
        assert (quantizer.kind, quantizer.bitwidth) == (kind, bits)
        assert quantizer.rounding == settings.rounding.name
        assert quantizer.learned_step is settings.learned_step
        assert quantizer.scale_kind == settings.scale.name


def test_outputs_take_rounding_and_learned_steps():
    config, _ = composed_job("quantizer.output={learned_step: true}", "quantizer.input.rounding=stochastic")
    learned = output_quantizer(config.quantizer.output, "a", signed=True, ema_freeze_delay=None)
    stochastic = output_quantizer(config.quantizer.input, "a", signed=True, ema_freeze_delay=None)
    assert (learned.learned_step, learned.rounding) == (True, "nearest")
    assert (stochastic.learned_step, stochastic.rounding) == (False, "stochastic")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": WeightKind.binary}, "bitwidth: 8 is not allowed; kind=binary has 1 bit"),
        ({"kind": WeightKind.ternary, "bitwidth": 3}, "bitwidth: 3 is not allowed; kind=ternary has 2 bit"),
        ({"kind": WeightKind.po2, "bitwidth": 6}, "bitwidth: 6 is not allowed; kind=po2 has 2 to 5 bits"),
        ({"kind": WeightKind.po2, "bitwidth": True}, "bitwidth: True is not allowed"),
        ({"kind": WeightKind.po2, "bitwidth": 4}, "scale: 'float' is not allowed; kind=po2 has no other"),
        (
            {"kind": WeightKind.binary, "bitwidth": 1, "range": WeightRange.mse},
            "range: 'mse' is not allowed; kind=binary chooses its own scale",
        ),
        (
            {"kind": WeightKind.binary, "bitwidth": 1, "rounding": Rounding.stochastic},
            "rounding: 'stochastic' is not allowed; kind=binary",
        ),
        (
            {"kind": WeightKind.ternary, "bitwidth": 2, "learned_step": True},
            "learned_step: True is not allowed; kind=ternary",
        ),
        ({"learned_step": True, "scale": ScaleKind.power_of_two}, "learned_step: True is not allowed"),
        ({"learned_step": True, "rounding": Rounding.stochastic}, "rounding: 'stochastic' is not allowed"),
    ],
)
@pytest.mark.parametrize("where", ["weight", "a_quantizer", "layers[0].weight"])
def test_fields_that_make_no_sense_are_refused(where, fields, message):
    if where == "layers[0].weight":
        config = QuantizerConfig(layers=[LayerRule(match="conv1", weight=WeightQuantizerRule(**fields))])
    else:
        config = QuantizerConfig(**{where: WeightQuantizerConfig(**fields)})
    with pytest.raises(ConfigError) as error:
        validate_quantizer(config)
    assert str(error.value).startswith(f"quantizer.{where}.{message}")


def test_rules_that_only_together_make_no_sense_are_refused():
    rules = [
        LayerRule(match="*", weight=WeightQuantizerRule(kind=WeightKind.binary, bitwidth=1)),
        LayerRule(match="conv1", weight=WeightQuantizerRule(kind=WeightKind.uniform)),
    ]
    config = QuantizerConfig(layers=rules)
    assert settings_of("conv2", config).weight.kind is WeightKind.binary
    with pytest.raises(ConfigError, match=r"all rules for layer 'conv1': weight\.bitwidth: 1 is not allowed"):
        settings_of("conv1", config)


def test_keys_for_training_alone_are_reported_without_training():
    config, notes = composed_job(
        "experiment=mobilenet_8bit_ptq",
        "quantizer.output.learned_step=true",
        "quantizer.weight.rounding=stochastic",
        "quantizer.layers=[{match: conv1, weight: {rounding: nearest, learned_step: true}}]",
    )
    assert notes == [
        "quantizer.weight.rounding, quantizer.output.learned_step, quantizer.layers[0].weight.learned_step are set "
        "but not used: method=ptq does not train the quantized model"
    ]
    config.quantizer.layers = [LayerRule(match="a", output=OutputQuantizerRule(learned_step=False))]
    config.quantizer.output, config.quantizer.weight = OutputQuantizerConfig(), WeightQuantizerConfig()
    assert validate(config) == []


@pytest.mark.parametrize("key", ["alpha", "auto_alpha", "bits"])
def test_keys_of_other_libraries_are_unknown(key):
    """`alpha: None` of QKeras must not silently mean something else (nor anything at all)."""
    with pytest.raises(ConfigError, match=rf"quantizer\.weight\.{key}: there is no such key"):
        composed_job(f"+quantizer.weight.{key}=null")
