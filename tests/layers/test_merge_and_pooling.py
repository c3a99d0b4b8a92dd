import integer_reference as reference
import keras
import numpy as np
import pytest

from qpipe.layers import Dequantize, QAdd, QAveragePooling2D, QGlobalAveragePooling2D, Quantize

SHAPE = (4, 9, 7, 3)


def random_integers(quantizer, rng, shape=SHAPE):
    _, lowest, highest = reference.integers_of(quantizer)
    return rng.integers(lowest, highest + 1, size=shape).astype("float32")


@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_add_rounds_once_and_ties_up(activation, symmetric, ranged, rng):
    first, second = ranged(-1.0, 2.0, symmetric=symmetric), ranged(-3.3, 0.4, symmetric=symmetric)
    output = ranged(0.0 if activation else -4.3, 2.4, symmetric=symmetric, signed=activation is None)
    x, y = random_integers(first, rng), random_integers(second, rng)
    result = np.array(QAdd([first, second], output, activation=activation)([x, y]))
    scale, lowest, highest = reference.integers_of(output)
    ratios = [np.float32(quantizer.scale) / scale for quantizer in (first, second)]
    shift = 20 - int(np.floor(np.log2(np.float64(max(ratios)))))
    multipliers = [int(np.rint(np.float64(ratio) * 2.0**shift)) for ratio in ratios]
    total = x.astype(np.int64) * multipliers[0] + y.astype(np.int64) * multipliers[1]
    exact = (total + (1 << (shift - 1))) >> shift
    lowest = max(lowest, 0) if activation else lowest
    highest = min(highest, np.rint(np.float32(6) / scale)) if activation == "relu6" else highest
    np.testing.assert_array_equal(result, np.clip(exact, lowest, highest))
    in_float64 = x * (float(first.scale) / float(scale)) + y * (float(second.scale) / float(scale))
    not_a_tie = np.abs(in_float64 - np.floor(in_float64) - 0.5) > 1e-3
    np.testing.assert_array_equal(result[not_a_tie], np.clip(np.rint(in_float64), lowest, highest)[not_a_tie])


def test_add_in_training_lies_on_the_grid(ranged, rng):
    output = ranged(-4.0, 4.0)
    output.fix()
    y = np.array(
        QAdd([ranged(), ranged()], output)(list(rng.normal(size=(2, *SHAPE)).astype("float32")), training=True)
    )
    steps = np.rint(y / np.float32(output.scale))
    np.testing.assert_array_equal(steps.astype("float32") * np.float32(output.scale), y)


@pytest.mark.parametrize("pool", [(2, 2), (2, 3), (7, 6)])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("low", "high", "symmetric"), [(-1.0, 2.0, False), (-1.0, 1.0, True), (0.0, 1.0, False)])
def test_average_pooling_rounds_half_away_from_zero(pool, padding, low, high, symmetric, ranged, rng):
    quantizer = ranged(low, high, symmetric=symmetric)
    x = random_integers(quantizer, rng, (20, *SHAPE[1:]))
    zero_point = int(quantizer.zero_point) - (0 if symmetric else 128)  # as int8 stores it
    q = x.astype("int64") + zero_point
    layer = QAveragePooling2D(pool, strides=(2, 1), padding=padding, input_quantizer=quantizer)
    sums = sum(patch for _, _, patch in reference.patches(q, pool, (2, 1), (1, 1), padding))
    counts = sum(patch for _, _, patch in reference.patches(np.ones_like(q), pool, (2, 1), (1, 1), padding))
    expected = np.sign(sums) * ((2 * np.abs(sums) + counts) // (2 * counts)) - zero_point
    np.testing.assert_array_equal(layer(x), expected)
    assert layer.compute_output_shape((None, *SHAPE[1:]))[1:] == expected.shape[1:]


@pytest.mark.parametrize("keepdims", [False, True])
def test_global_average_pooling_requantizes(keepdims, ranged, rng):
    source, output = ranged(-1.0, 2.0), ranged(-0.3, 0.4)
    x = random_integers(source, rng)
    layer = QGlobalAveragePooling2D(keepdims, input_quantizer=source, output_quantizer=output)
    scale, lowest, highest = reference.integers_of(output)
    exact = x.astype("int64").sum(axis=(1, 2), keepdims=keepdims) / 63 * (float(source.scale) / float(scale))
    expected = np.clip(np.rint(exact), lowest, highest)
    assert np.abs(exact - np.floor(exact) - 0.5).min() > 1e-4
    np.testing.assert_array_equal(layer(x), expected)
    assert layer.compute_output_shape((4, *SHAPE[1:])) == expected.shape


def test_boundaries_are_inverse_on_the_grid(ranged, rng):
    quantizer = ranged(-1.0, 2.0)
    quantizer.fix()
    x = rng.normal(size=SHAPE).astype("float32")
    real = np.array(Dequantize(quantizer)(Quantize(quantizer)(x)))
    inside = (x > -1) & (x < 2)
    assert np.abs(real - x)[inside].max() <= float(quantizer.scale) * 0.5001
    np.testing.assert_array_equal(Dequantize(quantizer)(Quantize(quantizer)(real)), real)
    np.testing.assert_array_equal(Dequantize(quantizer)(Quantize(quantizer)(real, training=True), training=True), real)


def test_zero_padding_and_max_pooling_pass_integers_through(ranged, rng):
    quantizer = ranged(-1.0, 2.0)
    x = random_integers(quantizer, rng)
    dequantize = Dequantize(quantizer)
    for layer in (keras.layers.ZeroPadding2D(1), keras.layers.MaxPooling2D(3, 2, "same"), keras.layers.Flatten()):
        np.testing.assert_array_equal(dequantize(layer(x)), layer(np.array(dequantize(x))))
