"""The float output stays; weight ranges of neighbours become equal; caps are respected."""

import keras
import numpy as np
import pytest
from algorithms.small_networks import folded_network, quantized, samples
from keras import layers

import qpipe
from qpipe.algorithms.equalization.apply import equalize, find_pairs
from qpipe.algorithms.equalization.core import below_cap, equalizing_factors
from qpipe.errors import QuantizationError
from qpipe.graph.trace import trace


def chain(activation="relu", bias=0.1):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(5, 3, activation=activation, name="a", bias_initializer=keras.initializers.Constant(bias))(inputs)
    x = layers.ZeroPadding2D(name="pad")(x)
    x = layers.DepthwiseConv2D(3, activation=activation, name="b")(x)
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D(2)(x))
    model = keras.Model(inputs, layers.Dense(4, name="c")(x))
    spread = np.geomspace(0.02, 8.0, 5).astype("float32")
    model.get_layer("a").kernel.assign(model.get_layer("a").kernel * spread)
    return model


def ranges(model, name, axis):
    kernel = np.abs(np.array(model.get_layer(name).kernel))
    return np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1).max(axis=1)


def test_factors_make_ranges_equal():
    first, second = np.array([4.0, 1.0, 0.0, 2.0]), np.array([1.0, 9.0, 3.0, 0.0])
    factors = equalizing_factors(first, second)
    np.testing.assert_allclose(first[:2] / factors[:2], second[:2] * factors[:2])
    np.testing.assert_array_equal(factors[2:], 1.0)


def test_a_cap_keeps_channels_that_reach_it_and_bounds_the_others():
    factors = below_cap(np.array([0.1, 0.1, 4.0, 4.0]), np.array([6.0, 2.7, 2.7, -1.0]), 6.0)
    np.testing.assert_allclose(factors, [1.0, 0.5, 4.0, 4.0])


def test_output_stays_and_ranges_meet():
    model = chain()
    equalized, notes = equalize(model)
    x = samples(16)
    np.testing.assert_allclose(equalized.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ranges(equalized, "a", -1), ranges(equalized, "b", -2), rtol=1e-2)
    np.testing.assert_allclose(ranges(equalized, "b", -2), ranges(equalized, "c", -2), rtol=1e-2)
    assert [note.name for note in notes] == ["a and b", "b and c"]
    assert all(note.change > 1.5 for note in notes)
    assert ranges(model, "a", -1).max() > 100 * ranges(model, "a", -1).min()


def test_a_cap_between_two_layers():
    """The channels whose largest value reaches 6 keep their scale: the others meet, and the output stays."""
    model, x = chain("relu6", bias=0.5), 4.0 * samples(64)
    reached = keras.Model(model.inputs, model.get_layer("a").output).predict(x, verbose=0).max(axis=(0, 1, 2))
    assert (reached >= 6.0).any()
    assert (reached < 5.0).any()
    equalized, _ = equalize(model, x)
    np.testing.assert_allclose(equalized.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5)
    kept = np.array(equalized.get_layer("a").kernel) / np.array(model.get_layer("a").kernel)
    factors = kept.reshape(-1, 5).mean(axis=0)
    np.testing.assert_allclose(factors[reached >= 6.0], 1.0, rtol=1e-6)
    assert (np.abs(np.log(factors[reached < 5.0])) > 0.1).any()
    _, notes = equalize(model)
    assert all("there is a cap between them, and no samples were given" in note.summary("") for note in notes)


def test_folded_layers_and_what_branches():
    model = folded_network()
    folded = qpipe.fold_batchnorm(model)
    pairs = [(pair.first.name, pair.second.name) for pair in find_pairs(trace(folded))]
    assert pairs == [("separable_depthwise", "separable"), ("separable", "classes")]
    equalized, _ = equalize(folded, samples())
    x = samples(16, seed=2)
    np.testing.assert_allclose(equalized.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-3, atol=1e-4)


def test_folded_pairs():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    x = layers.ReLU()(layers.BatchNormalization(name="bn")(layers.Conv2D(4, 3, use_bias=False, name="a")(inputs)))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, use_bias=False, name="b")(x))
    model = keras.Model(inputs, x)
    model.get_layer("bn").gamma.assign([0.01, 1.0, 5.0, 20.0])
    model.get_layer("bn").beta.assign([0.01, 0.5, -0.5, 2.0])
    equalized, notes = equalize(qpipe.fold_batchnorm(model))
    assert [note.name for note in notes] == ["a and b"]
    y = samples(8)
    np.testing.assert_allclose(equalized.predict(y, verbose=0), model.predict(y, verbose=0), rtol=1e-3, atol=1e-4)
    made = np.abs(np.array(equalized.get_layer("a").folded_weights()[0])).reshape(-1, 4).max(axis=0)
    read = np.abs(np.array(equalized.get_layer("b").folded_weights()[0])).max(axis=(0, 1, 3))
    np.testing.assert_allclose(made, read, rtol=1e-2)


def test_it_pays_with_one_scale_for_a_kernel():
    from algorithms.small_networks import output_error

    model, x = chain(), samples(64, seed=7)
    errors = [
        output_error(quantized(which, bits=4, per_channel=False), model, x) for which in (model, equalize(model)[0])
    ]
    assert errors[1] < 0.5 * errors[0]


def test_a_quantized_model_is_refused():
    with pytest.raises(QuantizationError, match="equalize the float model before it is quantized"):
        equalize(quantized(chain()))
