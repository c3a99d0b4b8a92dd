import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from qpipe.quantizers import WeightQuantizer
from qpipe.quantizers.weight import BiasSteps

DENSE, DEPTHWISE = (6, 5), (3, 3, 4, 2)
KINDS = [("uniform", 3), ("uniform", 8), ("po2", 2), ("po2", 3), ("po2", 5), ("ternary", 2), ("binary", 1)]


def built(shape, **arguments) -> WeightQuantizer:
    quantizer = WeightQuantizer(**arguments)
    quantizer.build(shape)
    return quantizer


def quantized(quantizer, kernel):
    scale = quantizer.scale_of(kernel)
    return np.array(quantizer.integer(kernel, scale)), np.array(scale)


def test_binary_is_the_sign_times_the_mean_magnitude(rng):
    kernel = rng.normal(size=DENSE).astype("float32")
    kernel[0, 0] = 0.0
    integers, scale = quantized(built(DENSE, kind="binary"), kernel)
    np.testing.assert_array_equal(integers, np.where(kernel >= 0, 1, -1))
    np.testing.assert_allclose(scale[0], np.abs(kernel.astype("float64")).mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_dead_channel_of_a_binary_kernel_stays_zero(per_channel, rng):
    kernel = rng.normal(size=DENSE).astype("float32")
    kernel[:, 3] = 0.0
    quantizer = built(DENSE, kind="binary", per_channel=per_channel)
    assert not np.array(quantizer(kernel))[:, 3].any()
    assert (np.abs(quantized(quantizer, kernel)[0])[:, :3] == 1).all()


def test_ternary_is_that_of_the_paper(rng):
    kernel = rng.normal(size=DENSE).astype("float32")
    integers, scale = quantized(built(DENSE, kind="ternary"), kernel)
    for channel in range(DENSE[1]):
        weights = kernel[:, channel].astype("float64")
        kept = np.abs(weights) > 0.7 * np.abs(weights).mean()
        np.testing.assert_array_equal(integers[:, channel], np.sign(weights) * kept)
        assert scale[0, channel] == pytest.approx(np.abs(weights[kept]).mean(), rel=1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_powers_of_two_have_one_sign_and_the_rest_for_zero_and_exponents(bits, rng):
    kernel = (rng.choice([-1, 1], 4000) * 2.0 ** rng.uniform(-20, 3.4, 4000)).astype("float32")
    kernel[:3] = 0.0, 2.0**3.4, -(2.0**3.4)
    integers, scale = quantized(built((4000,), kind="po2", bitwidth=bits, per_channel=False), kernel)
    exponents = 2 ** (bits - 1) - 1
    assert scale.item() == 2.0 ** (3 - exponents + 1)
    expected = {0, *(sign * 2**e for e in range(exponents) for sign in (1, -1))}
    assert set(integers.astype(int).tolist()) == expected
    assert max(expected) < 2**15


@settings(deadline=None, max_examples=60)
@given(st.floats(2.0**-30, 8.0, width=32), st.booleans())
def test_powers_of_two_are_nearest_in_the_log_domain(magnitude, negative):
    weight = -magnitude if negative else magnitude
    kernel = np.array([weight, 8.0], "float32")
    integers, scale = quantized(built((2,), kind="po2", bitwidth=5, per_channel=False), kernel)
    assert scale.item() == 2.0**-11
    exponent = math.log2(magnitude)
    value = float(integers[0] * scale[0])
    if value == 0.0:
        assert exponent < -11.5 + 1e-6
    else:
        assert math.copysign(1, value) == math.copysign(1, weight)
        assert abs(math.log2(abs(value)) - exponent) <= 0.5 + 1e-6


@pytest.mark.parametrize("scale", ["float", "power_of_two"])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_every_kind_offers_the_same(kind, bits, per_channel, scale, rng):
    """Integers inside the range that it names, values integer * scale, and weights on the grid are kept."""
    if kind == "po2":
        scale = "power_of_two"
    arguments = {"kind": kind, "bitwidth": bits, "per_channel": per_channel, "scale": scale}
    quantizer = built(DEPTHWISE, channel_axes=(-2, -1), **arguments)
    kernel = rng.normal(size=DEPTHWISE).astype("float32")
    integers, step = quantized(quantizer, kernel)
    assert integers.dtype == step.dtype == np.float32
    assert integers.min() >= quantizer.integers.lowest
    assert integers.max() <= quantizer.integers.highest
    assert (integers == np.rint(integers)).all()
    assert np.abs(integers).max() < 2 ** (quantizer.integer_bitwidth - 1)
    assert quantizer.bitwidth == bits
    if scale == "power_of_two":
        assert (np.frexp(step)[0] == 0.5).all()
    values = np.array(quantizer(kernel))
    np.testing.assert_array_equal(values, integers * step)
    np.testing.assert_array_equal(quantizer.integer(values, step), integers)
    quantizer.fix(kernel)
    np.testing.assert_array_equal(quantizer(values), values)


@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_all_zero_kernel(kind, bits):
    quantizer = built(DENSE, kind=kind, bitwidth=bits)
    kernel = np.zeros(DENSE, "float32")
    assert not np.array(quantizer(kernel)).any()
    bias = np.array([0, 0.5, 1, 2, 4], "float32")
    scale = np.ravel(quantizer.scale_of(kernel, BiasSteps(bias, 2.0**31)))
    assert scale[0] == 1
    np.testing.assert_array_equal(scale[1:], bias[1:] / np.float32(quantizer.integers.highest))


@pytest.mark.parametrize(("kind", "bits", "expected"), [("ternary", 2, 1), ("binary", 1, 1), ("po2", 3, 1)])
def test_gradient_passes_through(kind, bits, expected, rng):
    kernel = tf.constant(rng.normal(size=DENSE).astype("float32"))
    quantizer = built(DENSE, kind=kind, bitwidth=bits)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        y = tf.reduce_sum(quantizer(kernel) * tf.reshape(tf.range(30.0), DENSE))
    np.testing.assert_array_equal(tape.gradient(y, kernel), expected * np.arange(30.0).reshape(DENSE))


def test_no_gradient_beyond_the_largest_power_of_two():
    quantizer = built((3,), kind="po2", bitwidth=3, per_channel=False)
    quantizer.fix(np.array([1.0, 0.5, 0.1], "float32"))
    kernel = tf.constant([1.4, 1.5, -9.0])
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        y = quantizer(kernel)
    assert y.numpy().tolist() == [1, 1, -1]
    assert tape.gradient(y, kernel).numpy().tolist() == [1, 0, 0]


@pytest.mark.parametrize("kind", ["ternary", "binary"])
def test_a_scale_that_is_the_weights_magnitude_is_never_raised(kind, rng):
    kernel = rng.normal(size=DENSE).astype("float32")
    quantizer = built(DENSE, kind=kind)
    bias = BiasSteps(np.full(5, 1e3, "float32"), 1.0)
    np.testing.assert_array_equal(quantizer.scale_of(kernel, bias), quantizer.scale_of(kernel))
    assert not quantizer.raised_channels(kernel, bias).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "trinary"}, "did you mean 'ternary'"),
        ({"kind": "ternary", "bitwidth": 4}, "bitwidth of kind='ternary'=4 is not allowed; give 2"),
        ({"kind": "binary", "bitwidth": 8}, "bitwidth of kind='binary'=8 is not allowed; give 1"),
        ({"kind": "po2", "bitwidth": 6}, "bitwidth of kind='po2'=6 is not allowed; give a whole number from 2 to 5"),
        ({"kind": "po2", "scale": "float"}, "scale of kind='po2'='float' is not known; allowed: 'power_of_two'"),
        ({"kind": "binary", "range": "mse"}, "range of kind='binary'='mse' is not known; allowed: 'max'"),
        ({"kind": "po2", "rounding": "stochastic"}, "rounding of kind='po2'"),
        ({"kind": "binary", "learned_step": True}, "learned_step=True can't be combined with kind='binary'"),
        ({"scale": "power_of_two", "learned_step": True}, "can't be combined with .*scale='power_of_two'"),
        ({"rounding": "stochastic", "learned_step": True}, "rounding with learned_step=True"),
        ({"bitwidth": 17}, "from 2 to 16"),
        ({"bitwidth": 8.0}, "8.0 is not allowed"),
        ({"bitwidth": True}, "True is not allowed"),
        ({"scale": "pot"}, "scale='pot' is not known"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WeightQuantizer(**arguments)
