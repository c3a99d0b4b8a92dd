import pytest

from qpipe.config.schema import (
    BiasQuantizerRule,
    LayerRule,
    OutputQuantizerRule,
    OutputRange,
    QuantizerConfig,
    WeightQuantizerConfig,
    WeightQuantizerRule,
)
from qpipe.errors import ConfigError
from qpipe.graph.rules import check_rules, count_matches, settings_of

LINEAR = {"weight", "bias", "output", "buffer_bitwidth"}
FIELDS = {"conv_1": LINEAR, "conv_2": LINEAR, "add": {"output"}, "flatten": set()}


def rule(match, bits=None, **fields):
    return LayerRule(match=match, weight=None if bits is None else WeightQuantizerRule(bitwidth=bits), **fields)


def bits_of(name, *rules):
    return settings_of(name, QuantizerConfig(layers=list(rules))).weight.bitwidth


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("conv_1", [4, 8]),
        ("conv_*", [4, 4]),
        ("conv_?", [4, 4]),
        ("*_[2-9]", [8, 4]),
        ("re:conv_[12]", [4, 4]),
        ("re:conv", [8, 8]),
        ("re:.*2", [8, 4]),
        ("conv", [8, 8]),
    ],
)
def test_exact_names_globs_and_patterns(match, expected):
    assert [bits_of(name, rule(match, 4)) for name in ("conv_1", "conv_2")] == expected


def test_the_last_match_wins_field_by_field():
    config = QuantizerConfig(
        weight=WeightQuantizerConfig(bitwidth=8, per_channel=False),
        layers=[
            rule("*", 6, output=OutputQuantizerRule(bitwidth=4, range=OutputRange.mse), buffer_bitwidth=24),
            rule("conv_1", 3),
            LayerRule(match="conv_*", output=OutputQuantizerRule(symmetric=True), bias=BiasQuantizerRule(bitwidth=12)),
            LayerRule(match="conv_1", quantize=False),
        ],
    )
    first, second = settings_of("conv_1", config), settings_of("conv_2", config)
    assert (first.weight.bitwidth, second.weight.bitwidth) == (3, 6)
    assert not first.weight.per_channel
    assert (first.output.bitwidth, first.output.range, first.output.symmetric) == (4, OutputRange.mse, True)
    assert (first.bias.bitwidth, first.buffer_bitwidth) == (12, 24)
    assert (first.quantize, second.quantize) == (False, True)
    assert first.rules == ("*", "conv_1", "conv_*", "conv_1")
    assert config.weight.bitwidth == 8


def test_a_later_rule_can_quantize_again():
    config = QuantizerConfig(layers=[LayerRule(match="*", quantize=False), LayerRule(match="conv_2", quantize=True)])
    assert [settings_of(name, config).quantize for name in ("conv_1", "conv_2")] == [False, True]


@pytest.mark.parametrize(
    ("match", "message"),
    [
        ("conv_3", r"quantizer\.layers\[1\]\.match: 'conv_3' matches no layer; did you mean .*'conv_[12]'"),
        ("dense*", r"quantizer\.layers\[1\]\.match: 'dense\*' matches no layer; allowed: 'add'"),
        ("re:con", r"'re:con' matches no layer"),
        ("", "matches no layer"),
    ],
)
def test_a_rule_without_a_match_is_an_error(match, message):
    with pytest.raises(ConfigError, match=message):
        check_rules(QuantizerConfig(layers=[rule("*", 4), rule(match, 4)]), FIELDS)


def test_an_exact_name_with_a_field_that_its_layer_lacks_is_an_error():
    with pytest.raises(
        ConfigError, match=r"quantizer\.layers\[0\]\.weight: layer 'add' has no weight; allowed: 'output'"
    ):
        check_rules(QuantizerConfig(layers=[rule("add", 4)]), FIELDS)
    with pytest.raises(ConfigError, match="layer 'flatten' has no buffer_bitwidth; allowed: nothing but quantize"):
        check_rules(QuantizerConfig(layers=[LayerRule(match="flatten", buffer_bitwidth=16)]), FIELDS)


def test_a_pattern_with_a_field_that_layers_lack_is_a_note():
    assert check_rules(QuantizerConfig(layers=[rule("*", 4)]), FIELDS) == [
        "quantizer.layers[0].weight does not apply to add, flatten, which have no weight"
    ]
    assert check_rules(QuantizerConfig(layers=[rule("conv*", 4), LayerRule(match="add", quantize=False)]), FIELDS) == []


def test_matches_are_counted():
    config = QuantizerConfig(layers=[rule("conv_*", 4), rule("re:add|conv_1", 4)])
    assert count_matches(config, FIELDS) == {"conv_*": 2, "re:add|conv_1": 2}


@pytest.mark.parametrize(("given", "bits", "expected"), [(None, 8, 32), (None, 16, 64), (24, 16, 24)])
def test_the_buffer_follows_the_input(given, bits, expected):
    assert settings_of("conv", QuantizerConfig(buffer_bitwidth=given)).buffer_for(bits) == expected
