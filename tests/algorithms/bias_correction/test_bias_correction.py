import keras
import numpy as np
import pytest
from algorithms.small_networks import folded_network, output_error, quantized, samples

from qpipe.algorithms.bias_correction.apply import correct_biases_analytically, correct_biases_empirically
from qpipe.algorithms.bias_correction.core import clipped_normal_mean, expected_shift


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0), (-1.0, 2.0)])
def test_mean_of_a_clipped_normal_distribution(bounds):
    """Against a fine numerical integration."""
    mean, deviation = np.array([-1.0, 0.3, 4.0, 7.0, 0.5]), np.array([0.5, 2.0, 3.0, 1.0, 0.0])
    z = np.linspace(-9.0, 9.0, 200_001)
    density = np.exp(-0.5 * z**2)
    values = np.clip(mean[:, None] + deviation[:, None] * z, *bounds)
    np.testing.assert_allclose(
        clipped_normal_mean(mean, deviation, *bounds), values @ density / density.sum(), atol=1e-5
    )


def test_expected_shift_is_the_mean_of_the_shifts():
    rng = np.random.default_rng(0)
    inputs, difference = rng.normal(size=(2, 500, 4)), rng.normal(size=(2, 4, 3))
    expected = (inputs @ difference).mean(axis=1)
    np.testing.assert_allclose(expected_shift(difference, inputs.mean(axis=1)), expected)


def test_empirical_correction_leaves_no_mean_error():
    """Independent of the walk: channel means of the dense layer's output, of two whole models."""
    model, x = folded_network(), samples()
    ours = quantized(model)
    corrected, notes = correct_biases_empirically(ours, model, x)

    def mean_error(which):
        return np.abs(np.mean(which.predict(x, verbose=0) - model.predict(x, verbose=0), axis=0))

    step = float(corrected.get_layer("classes").output_quantizer.scale)
    assert (mean_error(corrected) < step).all()
    assert mean_error(ours).max() > 2 * step
    assert [(note.name, note.reason) for note in notes if note.change is None] == [
        ("separable_depthwise", "it has no bias")
    ]
    unseen = samples(64, seed=9)
    assert output_error(corrected, model, unseen) < output_error(ours, model, unseen)


def test_analytic_correction_takes_the_expected_shift_off():
    """The stem's output feeds a depthwise layer: its mean is that of a clipped normal distribution."""
    model = folded_network()
    ours = quantized(model)
    corrected, notes = correct_biases_analytically(ours, model)
    changed = {note.name for note in notes if note.change is not None}
    assert changed == {"depthwise"}
    assert "does not come from a folded batch normalization" in notes[0].summary("")
    batchnorm = model.get_layer("stem_bn")
    draws = np.random.default_rng(0).normal(size=(200_000, 8)) * np.abs(batchnorm.gamma) + np.array(batchnorm.beta)
    means = np.maximum(draws, 0.0).mean(axis=0)
    layer = ours.get_layer("depthwise")
    kernel, bias = (np.array(part) for part in layer.folded_weights())
    integers = layer.integer_weights()
    difference = np.array(integers.kernel) * np.array(integers.scale) - kernel
    expected = bias - difference[..., 0].sum(axis=(0, 1)) * means
    np.testing.assert_allclose(np.array(corrected.get_layer("depthwise").bias), expected, rtol=0.02, atol=0.01)


def test_models_stay_untouched():
    model, x = folded_network(), samples(16)
    ours = quantized(model)
    before = ours.predict(x, verbose=0)
    for changed, _ in (correct_biases_empirically(ours, model, x), correct_biases_analytically(ours, model)):
        assert np.abs(changed.predict(x, verbose=0) - before).max() > 0
    np.testing.assert_array_equal(ours.predict(x, verbose=0), before)


def test_a_layer_without_a_bias_says_so():
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3, use_bias=False, name="conv")(inputs))
    _, notes = correct_biases_empirically(quantized(model), model, samples(8))
    assert notes[0].summary("") == "conv: it has no bias"
