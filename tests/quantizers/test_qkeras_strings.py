"""Texts of QKeras: what each becomes, and that it computes what QKeras' formulas say, written out in NumPy."""

import logging

import numpy as np
import pytest

from qpipe.quantizers import WeightQuantizer, qkeras_strings
from qpipe.quantizers.qkeras_strings import (
    bias_quantizer_from_qkeras,
    largest_integer_of_qkeras,
    parse_qkeras,
    refuse_activation,
    weight_quantizer_from_qkeras,
)

LEAST_SQUARES = {"range": "mse", "scale_kind": "power_of_two", "kind": "uniform"}
UNDERSTOOD = {
    "quantized_bits(4, 0, 1, alpha='auto')": {"bitwidth": 4, "scale_kind": "float", "range": "max", "kind": "uniform"},
    "quantized_bits(4,0,1,alpha=auto)": {"bitwidth": 4, "scale_kind": "float"},
    "quantized_bits(bits=5, alpha='auto', integer=3)": {"bitwidth": 5, "scale_kind": "float"},
    "quantized_bits(4, 0, 1)": {"bitwidth": 4} | LEAST_SQUARES,
    "quantized_bits(6,2,0,alpha='auto_po2')": {"bitwidth": 6} | LEAST_SQUARES,
    "quantized_bits": {"bitwidth": 8} | LEAST_SQUARES,
    "quantized_linear(3, alpha='auto')": {"bitwidth": 3, "scale_kind": "float"},
    "quantized_linear(3, alpha='auto', use_stochastic_rounding=True)": {"bitwidth": 3, "rounding": "stochastic"},
    "quantized_linear(7, symmetric=0)": {"bitwidth": 7} | LEAST_SQUARES,
    "binary(alpha='auto')": {"kind": "binary", "scale_kind": "float"},
    "binary()": {"kind": "binary", "scale_kind": "power_of_two"},
    "ternary(alpha='auto')": {"kind": "ternary", "scale_kind": "float"},
    "ternary(alpha='auto_po2', number_of_unrolls=3)": {"kind": "ternary", "scale_kind": "power_of_two"},
    "quantized_po2(4)": {"kind": "po2", "bitwidth": 4},
}
REFUSED = {
    "quantized_bits(4, 0, 1, alpha=1)": ("fixes the range to ±1,", "bitwidth=4, per_channel=False"),
    "quantized_bits(4, 2, 1, alpha=0.5)": ("fixes the range to ±2,", "scale='power_of_two'"),
    "quantized_bits(4, keep_negative=False, alpha='auto')": ("keep_negative=False", "WeightQuantizer(bitwidth=4)"),
    "quantized_bits(1, alpha='auto')": ("bits=1", "WeightQuantizer(kind='binary')"),
    "quantized_bits(17, alpha='auto')": ("bits=17", "WeightQuantizer(bitwidth=16)"),
    "quantized_bits(4, alpha='auto', qnoise_factor=0.5)": ("qnoise_factor=0.5", "WeightQuantizer(bitwidth=4)"),
    "quantized_bits(4, alpha='auto', scale_axis=0)": ("scale_axis=0", "WeightQuantizer(bitwidth=4)"),
    "quantized_bits(4, alpha='automatic')": ("alpha='automatic'", "WeightQuantizer"),
    "quantized_linear(4, symmetric=0, alpha='auto')": ("a negative value more", "WeightQuantizer(bitwidth=4)"),
    "binary(use_01=1)": ("use_01=1", "WeightQuantizer(kind='binary')"),
    "binary(alpha=0.5)": ("alpha=0.5 fixes the scale", "WeightQuantizer(kind='binary')"),
    "ternary(threshold=0.2)": ("threshold=0.2", "WeightQuantizer(kind='ternary')"),
    "stochastic_ternary(alpha='auto')": ("not drawn at random", "WeightQuantizer(kind='ternary')"),
    "stochastic_binary()": ("not drawn at random", "WeightQuantizer(kind='binary')"),
    "bernoulli()": ("not for kernels", "WeightQuantizer"),
    "quantized_relu(4)": ("not for kernels", "WeightQuantizer"),
    "quantized_po2(8)": ("bits=8", "WeightQuantizer(kind='po2', bitwidth=5)"),
    "quantized_po2(4, 2)": ("max_value=2", "WeightQuantizer(kind='po2', bitwidth=4)"),
}
UNREADABLE = {
    "quantized_bit(4)": "did you mean 'quantized_bits'",
    "quantized_bits(4, bit=3)": "unknown argument 'bit'; did you mean 'bits'",
    "quantized_bits(4, bits=3)": "gives 'bits' twice",
    "binary(0, 1, 0, None, None, None, None, 8)": "has 8 arguments; binary takes at most 7",
    "quantized_bits(4": "can't be read",
    "quantized_bits(__import__('os').getpid())": "can't be read",
    "quantized_bits(*[4])": "can't be read",
    "qkeras.quantized_bits(4)": "can't be read",
}


@pytest.fixture(autouse=True)
def forgets_what_was_said():
    qkeras_strings._say_once.cache_clear()


@pytest.mark.parametrize("text", UNDERSTOOD)
def test_understood(text):
    quantizer = weight_quantizer_from_qkeras(text, "here", (-2, -1))
    assert {key: getattr(quantizer, key) for key in UNDERSTOOD[text]} == UNDERSTOOD[text]
    assert quantizer.channel_axes == (-2, -1)


@pytest.mark.parametrize("text", REFUSED)
def test_refused_with_the_nearest_written_out(text):
    with pytest.raises(ValueError, match="is not understood") as refusal:
        weight_quantizer_from_qkeras(text, "QDense 'a': kernel_quantizer")
    message = str(refusal.value)
    assert message.startswith("QDense 'a': kernel_quantizer: ")
    reason, instead = REFUSED[text]
    assert reason in message.split("nearest: ")[0]
    assert instead in message.split("nearest: ")[1]


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_is_not_a_quantizer_is_not_evaluated(text):
    with pytest.raises(ValueError, match="here: ") as refusal:
        parse_qkeras(text, "here")
    assert UNREADABLE[text] in str(refusal.value)


def test_the_nearest_quantizers_are_ones_that_exist():
    for text in REFUSED:
        with pytest.raises(ValueError, match="nearest") as refusal:
            weight_quantizer_from_qkeras(text, "here")
        assert isinstance(eval(str(refusal.value).split("nearest: ")[1]), WeightQuantizer)


@pytest.mark.parametrize(
    ("text", "difference"),
    [
        ("quantized_bits(4, 0, 1)", "least squared error"),
        ("quantized_po2(4)", "exponents end"),
        ("ternary()", "0.7 times"),
        ("quantized_bits(4, alpha='auto')", None),
        ("binary()", None),
    ],
)
def test_a_difference_is_said_once(text, difference, caplog):
    with caplog.at_level(logging.WARNING, "qpipe"):
        weight_quantizer_from_qkeras(text, "here")
        weight_quantizer_from_qkeras(text, "there")
    assert len(caplog.messages) == (difference is not None)
    assert all(difference in message for message in caplog.messages)


def test_a_bias_has_the_bits_of_its_text(caplog):
    with caplog.at_level(logging.WARNING, "qpipe"):
        quantizer = bias_quantizer_from_qkeras("quantized_bits(9, 3, 1)", "here", buffer_bitwidth=24)
    assert (quantizer.bitwidth, quantizer.buffer_bitwidth) == (9, 24)
    assert "accumulator's scale" in caplog.text


@pytest.mark.parametrize("text", ["binary()", "quantized_po2(4)", "quantized_bits(40)", "quantized_bits(8, 0, 1, 0)"])
def test_a_bias_without_a_counterpart(text):
    with pytest.raises(ValueError, match=r"nearest: AlignedWeightQuantizer\(bitwidth="):
        bias_quantizer_from_qkeras(text, "here")


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("quantized_relu(6, 2)", "activation='relu', output_quantizer=OutputQuantizer(bitwidth=6, symmetric=True"),
        ("quantized_tanh(8)", "Activation('tanh')"),
        ("quantized_bits(8, 2, 1)", "activation=None, output_quantizer=OutputQuantizer(bitwidth=8"),
    ],
)
def test_activations_are_refused_with_the_equivalent(text, instead):
    assert instead in str(refuse_activation(text, "here"))


def test_largest_integers():
    texts = {"quantized_bits(8, 0, 1)": 128, "quantized_relu(6, 2)": 63, "quantized_bits(8, 0, 0, 0)": 255}
    assert {text: largest_integer_of_qkeras(text, "here") for text in texts} == texts
    with pytest.raises(ValueError, match="not those of an input"):
        largest_integer_of_qkeras("binary()", "here")


# What QKeras computes, in float64 -------------------------------------------------------------------


def qkeras_integers(x, scale, bits):
    """Integers of `quantized_bits` with an automatic `alpha`: rounded half away from zero, clipped symmetrically."""
    return np.sign(x) * np.minimum(np.floor(np.abs(x) / scale + 0.5), 2 ** (bits - 1) - 1)


def qkeras_power(scale):
    return 2.0 ** np.round(np.log2(scale + 1e-7))


def qkeras_po2_scale(x, bits):
    """The scale of `alpha='auto_po2'`: five rounds of least squares in powers of two."""
    scale = qkeras_power(np.abs(x).max(0, keepdims=True) / (2 ** (bits - 1) - 1))
    for _ in range(5):
        q = qkeras_integers(x, scale, bits)
        scale = qkeras_power((x * q).mean(0, keepdims=True) / ((q * q).mean(0, keepdims=True) + 1e-7))
    return scale


@pytest.fixture(scope="module")
def kernel():
    random = np.random.default_rng(8)
    return random.normal(size=(90, 64)).astype("float32") * random.uniform(0.02, 3.0, 64).astype("float32")


def quantized(text, kernel):
    return np.asarray(weight_quantizer_from_qkeras(text, "here")(kernel))


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_auto_is_what_qkeras_computes(bits, kernel):
    scale = np.abs(kernel.astype("float64")).max(0, keepdims=True) / (2 ** (bits - 1) - 1)
    expected = qkeras_integers(kernel, scale, bits) * scale
    for text in (f"quantized_bits({bits}, 0, 1, alpha='auto')", f"quantized_linear({bits}, 2, alpha='auto')"):
        np.testing.assert_allclose(quantized(text, kernel), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
def test_auto_po2_is_at_most_a_factor_of_2_from_the_scale_of_qkeras_and_never_worse(bits, kernel):
    quantizer = weight_quantizer_from_qkeras(f"quantized_bits({bits}, 0, 1)", "here")
    quantizer.build(kernel.shape)
    ours, theirs = np.asarray(quantizer.scale_of(kernel)), qkeras_po2_scale(kernel.astype("float64"), bits)
    assert set(np.unique(ours / theirs)) <= {0.5, 1.0, 2.0}
    assert np.mean(ours == theirs) > 0.5
    expected = qkeras_integers(kernel, theirs, bits) * theirs
    quantized = np.asarray(quantizer(kernel))
    same = np.broadcast_to(ours == theirs, kernel.shape)
    np.testing.assert_allclose(quantized[same], expected[same], rtol=1e-6, atol=1e-7)
    errors = [np.square(values - kernel).sum(0) for values in (quantized, expected)]
    assert (errors[0] <= errors[1] * (1 + 1e-5)).all()


def test_binary_is_what_qkeras_computes(kernel):
    mean = np.abs(kernel.astype("float64")).mean(0, keepdims=True)
    sign = np.where(kernel >= 0, 1.0, -1.0)
    np.testing.assert_allclose(quantized("binary(alpha='auto')", kernel), sign * mean, rtol=1e-5)
    np.testing.assert_allclose(quantized("binary()", kernel), sign * qkeras_power(mean), rtol=1e-6)
