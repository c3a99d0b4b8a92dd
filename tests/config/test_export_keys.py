"""Mistakes in `export`, and keys that nothing uses."""

import pytest
from config.test_shipped_configs import job

from qpipe.config.validation import validate
from qpipe.errors import ConfigError

WIDE = "activations of 16 bits with the zero point 0 only"
MISTAKES = {
    ("export.formats=[litert,litert]",): r"export.formats\[1\]: 'litert' is not allowed; name every format once",
    ("export.formats=[litert]", "quantizer.weight.bitwidth=9"): "quantizer.weight.bitwidth: 9 is not allowed; LiteRT",
    ("export.formats=[c_array]", "quantizer.output.bitwidth=16"): f"quantizer.output.symmetric: False .*{WIDE}",
    (
        "export.formats=[litert]",
        "quantizer.layers=[{match: conv1, output: {bitwidth: 16}}]",
    ): rf"quantizer.layers\[0\].output.symmetric: False .*{WIDE}",
    (
        "export.formats=[litert]",
        "quantizer.layers=[{match: conv1, weight: {bitwidth: 12}}]",
    ): r"quantizer.layers\[0\].weight.bitwidth: 12 is not allowed",
}


@pytest.mark.parametrize("overrides", MISTAKES, ids=" ".join)
def test_mistakes_are_answered_with_one_sentence(overrides):
    with pytest.raises(ConfigError, match=MISTAKES[overrides]):
        validate(job(list(overrides)))


@pytest.mark.parametrize(
    "overrides",
    [
        ["quantizer.weight.bitwidth=12"],
        ["export.formats=[onnx]", "quantizer.weight.bitwidth=12"],
        ["export.formats=[litert]", "quantizer.output.bitwidth=16", "quantizer.output.symmetric=true"],
        ["export.formats=[]", "quantizer.output.bitwidth=16"],
    ],
    ids=" ".join,
)
def test_widths_that_no_named_format_refuses(overrides):
    validate(job(overrides))


def test_a_misspelt_format_names_what_there_is():
    with pytest.raises(ConfigError, match="litert"):
        job(["export.formats=[tflite]"])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["export.formats=[]", "export.io=float"], "export.io is set but not used: export.formats is empty"),
        (["export.require_exact=true", "verify.enabled=false"], "export.require_exact is set but not used"),
        (["export.io=float"], None),
    ],
)
def test_unused_keys_are_reported(overrides, sentence):
    sentences = [line for line in validate(job(overrides)) if "export" in line]
    assert sentences == [] if sentence is None else sentences[0].startswith(sentence)
