import keras
import numpy as np
import pytest
import tensorflow as tf

from qpipe.errors import QuantizationError
from qpipe.quantizers import OutputQuantizer
from qpipe.quantizers.observation import Arithmetic, observe

RELU, RELU6 = (0.0, float("inf")), (0.0, 6.0)


def ranged(low, high, **arguments) -> OutputQuantizer:
    quantizer = OutputQuantizer(**arguments)
    quantizer.set_range(low, high)
    return quantizer


def state(quantizer):
    return [np.array(variable) for variable in quantizer.weights]


@pytest.mark.parametrize(
    ("symmetric", "signed", "expected"),
    [(True, True, (-128, 127)), (True, False, (0, 255)), (False, True, (0, 255)), (False, False, (0, 255))],
)
def test_unsigned_where_values_cannot_be_negative(symmetric, signed, expected):
    assert OutputQuantizer(symmetric=symmetric, signed=signed).integers == expected


def test_a_non_negative_symmetric_output_uses_every_bit():
    assert float(ranged(0.0, 5.1, symmetric=True, signed=False).scale) == pytest.approx(5.1 / 255)
    assert float(ranged(-1.0, 5.08, symmetric=True).scale) == pytest.approx(5.08 / 127)


@pytest.mark.parametrize("scale", ["float", "power_of_two"])
@pytest.mark.parametrize(("low", "high"), [(-1.37, 2.9), (0.0, 3.3), (-7.1, 0.0), (0.5, 2.0), (-0.003, 900.0)])
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_asymmetric_zero_is_exact(low, high, scale, bits):
    quantizer = ranged(low, high, bitwidth=bits, scale=scale)
    zero_point = float(quantizer.zero_point)
    assert zero_point.is_integer()
    assert 0 <= zero_point <= 2**bits - 1
    assert np.array(quantizer(np.zeros(3, "float32"))).tolist() == [0, 0, 0]
    assert np.array(quantizer.to_integers(np.zeros(3, "float32"))).tolist() == [0, 0, 0]


@pytest.mark.parametrize("symmetric", [True, False])
def test_values_lie_on_the_grid(symmetric, rng):
    quantizer = ranged(-2.0, 3.0, bitwidth=5, symmetric=symmetric)
    x = rng.normal(size=400).astype("float32") * 3
    scale, zero_point = np.float32(quantizer.scale), float(quantizer.zero_point)
    lowest, highest = (-16, 15) if symmetric else (0, 31)
    expected = np.clip(np.rint(x / scale) + zero_point, lowest, highest) - zero_point
    np.testing.assert_array_equal(quantizer(x), expected.astype("float32") * scale)
    np.testing.assert_array_equal(quantizer.to_integers(x), expected)


@pytest.mark.parametrize(("bounds", "high"), [(RELU, 4.0), (RELU6, 4.0), (RELU6, 6.0), (RELU6, 9.0)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_fused_activation_clamps_integers(bounds, high, symmetric, rng):
    quantizer = ranged(0.0, high, symmetric=symmetric, signed=False)
    scale = np.float32(quantizer.scale)
    x = rng.uniform(-3, 12, size=500).astype("float32")
    cap = min(255, np.rint(np.float32(bounds[1]) / scale))
    expected = np.clip(np.rint(x / scale), 0, cap)
    np.testing.assert_array_equal(quantizer.real(x, bounds, False), expected * scale)
    np.testing.assert_array_equal(quantizer.requantize(np.rint(x / scale), np.float32(1.0), bounds), expected)
    assert expected.min() == 0
    assert expected.max() == cap


def test_relu6_of_a_signed_range_clamps_at_the_zero_point():
    quantizer = ranged(-4.0, 8.0, signed=True)
    y = np.array(quantizer.real(np.array([-3.0, 0.0, 3.0, 7.0], "float32"), RELU6, False))
    step = float(quantizer.scale)
    np.testing.assert_allclose(y, [0, 0, 3, 6], atol=step / 2)
    assert y[0] == 0


def test_the_first_batch_sets_the_range_and_later_ones_move_it(rng):
    quantizer = OutputQuantizer(momentum=0.9)
    low = high = None
    for step in range(6):
        x = rng.normal(size=50).astype("float32") * (step + 1)
        quantizer(x, training=True)
        quantizer.settle()
        low = float(x.min()) if low is None else 0.9 * low + 0.1 * float(x.min())
        high = float(x.max()) if high is None else 0.9 * high + 0.1 * float(x.max())
        assert float(quantizer.low) == pytest.approx(low, rel=1e-5)
        assert float(quantizer.high) == pytest.approx(high, rel=1e-5)
    assert float(quantizer.scale) == pytest.approx((high - low) / 255, rel=1e-5)


def test_a_calibrated_range_is_moved_not_replaced():
    quantizer = ranged(0.0, 10.0, momentum=0.5)
    y = quantizer(np.array([0.0, 20.0], "float32"), training=True)
    assert np.array(y)[1] == pytest.approx(10), "the step quantizes with the range that it found"
    quantizer.settle()
    assert float(quantizer.high) == 15


def test_tracking_sees_the_fused_activation():
    quantizer = OutputQuantizer(signed=False)
    quantizer.real(np.array([-5.0, 3.0, 9.0], "float32"), RELU6, True)
    assert [float(quantizer.low), float(quantizer.high)] == [0, 6]


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("delay", [1, 3])
def test_freezes_after_exactly_n_steps_bit_for_bit(delay, in_graph, rng):
    quantizer = OutputQuantizer(ema_freeze_delay=delay)
    step = tf.function(lambda x: quantizer(x, training=True)) if in_graph else lambda x: quantizer(x, training=True)
    batches = [rng.normal(size=20).astype("float32") * (number + 1) for number in range(delay + 3)]
    states = []
    for x in batches:
        step(tf.constant(x))
        states.append(np.array([quantizer.low, quantizer.high, quantizer.scale, quantizer.zero_point]))
    expected = np.array([batches[0].min(), batches[0].max()])
    for x in batches[1:delay]:
        expected += 0.01 * (np.array([x.min(), x.max()]) - expected)
    for state in states[delay:]:
        np.testing.assert_array_equal(states[delay], state)
    np.testing.assert_allclose(states[delay][:2], expected, rtol=1e-5)
    assert int(quantizer.steps) == delay


@pytest.mark.parametrize("training", [False, True])
def test_a_fixed_range_stays(training):
    quantizer = ranged(-1.0, 1.0)
    quantizer.fix()
    before = state(quantizer)
    quantizer(np.array([-50.0, 50.0], "float32"), training=training)
    for old, new in zip(before, state(quantizer), strict=True):
        np.testing.assert_array_equal(old, new)


def uncalibrated_uses():
    x = np.ones(3, "float32")
    return {
        "inference": lambda quantizer: quantizer(x),
        "integers": lambda quantizer: quantizer.to_integers(x),
        "requantize": lambda quantizer: quantizer.requantize(x, 1.0),
        "traced": lambda quantizer: tf.function(quantizer)(x),
    }


@pytest.mark.parametrize("use", uncalibrated_uses())
def test_an_uncalibrated_output_is_an_error(use):
    with pytest.raises(QuantizationError, match=r"conv_output: .*never calibrated"):
        uncalibrated_uses()[use](OutputQuantizer(name="conv_output"))


@pytest.mark.parametrize("arguments", [{"ema_freeze_delay": 0}, {"fixed": True}])
def test_training_an_uncalibrated_output_that_does_not_track_is_an_error(arguments):
    with pytest.raises(QuantizationError, match="never calibrated"):
        OutputQuantizer(**arguments)(np.ones(3, "float32"), training=True)


def test_a_range_that_is_not_finite_is_an_error():
    with pytest.raises(QuantizationError, match="not finite"):
        OutputQuantizer().set_range(0.0, float("nan"))


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("bounds", [(float("-inf"), float("inf")), RELU, RELU6])
def test_saturations_are_counted(bounds, in_graph):
    quantizer = ranged(0.0, 2.55, symmetric=True, signed=False)
    accumulator = np.array([-3.0, 0.0, 255.0, 256.0, 599.0, 700.0], "float32")

    def saturated(accumulator):
        with observe(Arithmetic.integer) as observation:
            quantizer.requantize(accumulator, 1.0, bounds)
        return observation.seen[0][2]

    count = (tf.function(saturated) if in_graph else saturated)(tf.constant(accumulator))
    assert int(count) == {float("-inf"): 4, 0.0: 3}[bounds[0]]


def test_saving_keeps_the_range_bit_for_bit(rng, tmp_path):
    inputs = keras.Input((3,))
    quantizer = ranged(-1.234567, 2.345678, bitwidth=7, momentum=0.8, ema_freeze_delay=5, name="q")
    model = keras.Model(inputs, quantizer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").get_layer("q")
    for old, new in zip(state(quantizer), state(loaded), strict=True):
        np.testing.assert_array_equal(old, new)
    assert loaded.get_config() == quantizer.get_config()


@pytest.mark.parametrize("first", [[0.0, 1.0], [-1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
def test_no_value_of_a_range_means_unset(first):
    """The first batch sets the range, whatever it is; the second moves it, also where the first was 0 or 1."""
    quantizer = OutputQuantizer(momentum=0.75)
    quantizer(np.array(first, "float32"), training=True)
    low, high = min(first[0], 0.0), first[1]
    assert [float(quantizer.low), float(quantizer.high)] == [low, high]
    quantizer(np.array([0.0, 5.0], "float32"), training=True)
    quantizer.settle()
    assert [float(quantizer.low), float(quantizer.high)] == [0.75 * low, 0.75 * high + 0.25 * 5.0]


@pytest.mark.parametrize(
    ("arguments", "signed", "integers"),
    [({}, False, (0, 255)), ({"symmetric": True}, True, (-128, 127)), ({"bitwidth": 5}, False, (0, 31))],
)
def test_the_format_says_what_the_integers_stand_for(arguments, signed, integers):
    quantizer = ranged(-1.5, 2.5, **arguments)
    found = quantizer.format()
    assert (found.bitwidth, found.signed, found.narrow, found.integers) == (quantizer.bitwidth, signed, False, integers)
    assert found.scale.dtype == np.float32
    assert found.scale == np.float32(quantizer.scale)
    assert found.zero_point == int(quantizer.zero_point)
    with pytest.raises(QuantizationError, match=r"conv_output: .*never calibrated"):
        OutputQuantizer(name="conv_output", **arguments).format()


def test_parameters_that_a_definition_gives_stay(rng, tmp_path):
    quantizer = OutputQuantizer(signed=False, name="q")
    quantizer.set_parameters(2.0**-8, 0)
    x = rng.uniform(0, 1, size=(5, 3)).astype("float32")
    quantizer(x * 100, training=True)
    np.testing.assert_array_equal(quantizer(x), np.clip(np.rint(x * 256), 0, 255) / 256)
    assert [float(quantizer.low), float(quantizer.high)] == [0, 255 / 256]
    inputs = keras.Input((3,))
    keras.Model(inputs, quantizer(inputs)).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").get_layer("q")
    assert loaded.fixed
    assert loaded.format().scale == np.float32(2.0**-8)


@pytest.mark.parametrize(
    ("arguments", "parameters", "message"),
    [
        ({}, (0.0, 0), "scale 0.0 and zero point 0"),
        ({}, (float("nan"), 0), "scale nan"),
        ({}, (0.5, 1.5), "zero point 1.5"),
        ({}, (0.5, 256), "q: the zero point 256 is not allowed; give 0 to 255"),
        ({"symmetric": True}, (0.5, 1), "the zero point 1 is not allowed; give 0 to 0"),
        ({"scale": "power_of_two"}, (0.3, 0), "0.3 is no power of two"),
    ],
)
def test_parameters_that_are_not_allowed(arguments, parameters, message):
    with pytest.raises(QuantizationError, match=message):
        OutputQuantizer(name="q", **arguments).set_parameters(*parameters)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bitwidth": 1}, "bitwidth=1 is not allowed; give a whole number from 2 to 16"),
        ({"members": 0}, "members=0 is not allowed; give a whole number of at least 1"),
        ({"rounding": "stochastik"}, "did you mean 'stochastic'"),
        ({"range": "max"}, "did you mean 'minmax'"),
    ],
)
def test_unknown_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        OutputQuantizer(**arguments)


def test_bounds_above_zero_clamp_below_too():
    quantizer = ranged(-4.0, 8.0)
    y = np.array(quantizer.real(np.array([-3.0, -1.0, 0.0, 7.0], "float32"), (-1.0, 1.0), False))
    step = float(quantizer.scale)
    np.testing.assert_allclose(y, [-1, -1, 0, 1], atol=step / 2)
    np.testing.assert_array_equal(y / np.float32(quantizer.scale), np.rint(y / np.float32(quantizer.scale)))
