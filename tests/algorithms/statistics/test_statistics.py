import keras
import numpy as np
import pytest
from algorithms.small_networks import folded_network, output_error, quantized, samples

from qpipe.algorithms.statistics.apply import reestimate_statistics
from qpipe.algorithms.statistics.core import factor_and_mean


def test_factor_and_offset_bring_the_moments_back():
    rng = np.random.default_rng(0)
    y = rng.normal(2.0, 3.0, (1000, 4))
    wanted_mean, wanted_variance = np.array([0.0, 1.0, -1.0, 5.0]), np.array([9.0, 4.0, 16.0, 9.0])
    factor, offset = factor_and_mean(y.mean(axis=0), y.var(axis=0), wanted_mean, wanted_variance)
    np.testing.assert_allclose((factor * y + offset).mean(axis=0), wanted_mean, atol=1e-9)
    np.testing.assert_allclose((factor * y + offset).var(axis=0), wanted_variance)


def test_channels_that_died_keep_their_scale():
    factor, offset = factor_and_mean(np.array([1.0, 1.0]), np.array([0.0, 1.0]), np.zeros(2), np.array([4.0, 900.0]))
    np.testing.assert_array_equal(factor, [1.0, 1.0])
    np.testing.assert_array_equal(offset, [-1.0, -1.0])


def test_folded_layers_have_the_float_moments_again():
    model, x = folded_network(), samples()
    ours = quantized(model, bits=3)
    changed, notes = reestimate_statistics(ours, model, x)
    reasons = {note.name: note.reason for note in notes}
    assert {name for name, reason in reasons.items() if reason is None} == {"stem", "depthwise"}
    assert reasons["classes"] == "no batch normalization was folded into it"
    before, after = ours.get_layer("stem"), changed.get_layer("stem")
    np.testing.assert_array_equal(np.array(after.integer_weights().kernel), np.array(before.integer_weights().kernel))
    assert (np.array(after.kernel_quantizer.scale) != np.array(before.kernel_quantizer.scale)).any()
    np.testing.assert_array_equal(np.array(after.kernel_quantizer(after.kernel)), np.array(after.kernel))
    unseen = samples(64, seed=9)
    assert output_error(changed, model, unseen) < output_error(ours, model, unseen)


def test_one_scale_for_all_channels_is_left_alone():
    model = folded_network()
    _, notes = reestimate_statistics(quantized(model, per_channel=False), model, samples(16))
    assert {note.reason for note in notes if note.name == "stem"} == {
        "its weights have no float scale for each channel"
    }


def network_with_a_sum(offset=0.0, variance=(0.3, 1.5), **arguments) -> keras.Model:
    """A batch normalization behind a sum: there is nothing to fold it into. `offset` is the mean of its input."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 3))
    stem = keras.layers.Conv2D(8, 3, padding="same", bias_initializer=keras.initializers.Constant(offset), name="stem")
    x = stem(inputs)
    x = keras.layers.Add()([x, keras.layers.Conv2D(8, 3, padding="same", name="body")(keras.layers.ReLU()(x))])
    before = keras.Model(inputs, x)
    x = keras.layers.BatchNormalization(name="bn", **arguments)(x)
    model = keras.Model(inputs, keras.layers.Dense(4, name="classes")(keras.layers.Flatten()(x)))
    rng = np.random.default_rng(0)
    bn = model.get_layer("bn")
    if bn.scale:
        bn.gamma.assign(rng.choice([-1.0, 1.0], 8) * rng.uniform(0.5, 2.0, 8))
    bn.moving_mean.assign(before.predict(samples(), verbose=0).mean(axis=(0, 1, 2)))
    bn.moving_variance.assign(rng.uniform(*variance, 8))
    return model


def moments(model: keras.Model) -> np.ndarray:
    layer = model.get_layer("bn")
    quantizer = getattr(layer, "output_quantizer", None)
    y = keras.Model(model.inputs, layer.output).predict(samples(), verbose=0)
    y = (y * (1.0 if quantizer is None else float(quantizer.scale))).reshape(-1, 8)
    return np.concatenate([y.mean(axis=0), y.std(axis=0)])


@pytest.mark.parametrize(
    "case",
    [{}, {"center": False}, {"scale": False}, {"offset": 3.0}, {"variance": (1e-4, 3e-4)}],
    ids=["plain", "center", "scale", "far from 0", "small variance"],
)
@pytest.mark.parametrize("bits", [2, 8])
def test_normalizations_that_stay_have_the_float_moments_again(case, bits):
    model = network_with_a_sum(**case)
    ours = quantized(model, bits=bits)
    changed, notes = reestimate_statistics(ours, model, samples())
    reason = {note.name: note.reason for note in notes}["bn"]
    wanted = moments(model)
    worse, better = (np.sum((moments(network) - wanted) ** 2) for network in (ours, changed))
    if reason is None:
        assert better < worse
    else:
        assert reason == "its moments don't get closer to the float ones"
        assert better == worse
    if bits == 2 and case in ({}, {"offset": 3.0}):
        assert reason is None
        assert better < 0.5 * worse


def test_statistics_that_bring_it_no_closer_are_taken_back(monkeypatch):
    model = network_with_a_sum()
    ours = quantized(model, bits=2)
    monkeypatch.setattr("qpipe.algorithms.statistics.apply.distance", lambda *moments: 1.0)
    changed, notes = reestimate_statistics(ours, model, samples(16))
    assert {note.name: note.reason for note in notes}["bn"] == "its moments don't get closer to the float ones"
    for before, after in zip(ours.get_layer("bn").weights, changed.get_layer("bn").weights, strict=True):
        np.testing.assert_array_equal(before, after)
