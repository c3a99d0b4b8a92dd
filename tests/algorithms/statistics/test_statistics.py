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


@pytest.mark.parametrize("center", [True, False])
def test_normalizations_that_stay_have_the_float_moments_again(center):
    """Behind a sum there is nothing to fold into."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    x = keras.layers.Add()([x, keras.layers.Conv2D(8, 3, padding="same", name="body")(keras.layers.ReLU()(x))])
    x = keras.layers.BatchNormalization(center=center, name="bn")(x)
    outputs = keras.layers.Dense(4, name="classes")(keras.layers.Flatten()(keras.layers.ReLU()(x)))
    model, x = keras.Model(inputs, outputs), samples()
    rng = np.random.default_rng(0)
    bn = model.get_layer("bn")
    bn.gamma.assign(rng.uniform(0.5, 2.0, 8))
    bn.moving_mean.assign(rng.normal(0.0, 0.3, 8))
    bn.moving_variance.assign(rng.uniform(0.3, 1.5, 8))
    ours = quantized(model, bits=2)
    changed, notes = reestimate_statistics(ours, model, x)
    assert {note.name: note.reason for note in notes}["bn"] is None

    def moments(network, name="bn"):
        layer = network.get_layer(name)
        quantizer = getattr(layer, "output_quantizer", None)
        y = keras.Model(network.inputs, layer.output).predict(x, verbose=0)
        y = np.maximum(y * (1.0 if quantizer is None else float(quantizer.scale)), 0.0).reshape(-1, 8)
        return np.concatenate([y.mean(axis=0), y.std(axis=0)])

    wanted = moments(model)
    worse, better = (np.abs(moments(network) - wanted).mean() for network in (ours, changed))
    assert better < 0.7 * worse
    unseen = samples(64, seed=9)
    assert output_error(changed, model, unseen) < output_error(ours, model, unseen)
