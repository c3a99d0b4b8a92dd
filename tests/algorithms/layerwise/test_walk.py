"""The walk gives each layer the inputs that the layers before it give, in both models."""

import keras
import numpy as np
import pytest
from algorithms.small_networks import folded_network, output_error, quantized, samples

import qpipe
from qpipe.algorithms.layerwise.sample_store import SampleStore
from qpipe.algorithms.layerwise.walk import walk
from qpipe.errors import QuantizationError
from qpipe.graph.plain import with_plain_layers

NAMES = ["stem", "depthwise", "separable_depthwise", "separable", "classes"]


def test_inputs_and_targets_are_those_of_the_two_models():
    model = folded_network()
    ours, x = with_plain_layers(quantized(model, bits=8)), samples(20)
    seen = []
    with SampleStore(2**30) as store:
        for data in walk(ours, model, x, store, batch_size=8):
            seen.append(data.layer.name)
            if data.layer.name == "depthwise":
                inputs, target = (np.concatenate(parts) for parts in zip(*data.batches(), strict=True))
    assert seen == NAMES
    relu = keras.Model(model.inputs, model.get_layer("stem_relu").output)(x)
    folded = keras.Model(model.inputs, model.get_layer("depthwise_bn").output)(x)
    np.testing.assert_allclose(target, folded, rtol=1e-4, atol=1e-4)
    scale = float(ours.get_layer("stem").output_quantizer.scale)
    assert 0 < np.abs(inputs - relu).max() < 8 * scale
    np.testing.assert_allclose(np.rint(inputs / scale), inputs / scale, atol=1e-3)


def test_a_layer_that_changes_gives_later_layers_other_inputs():
    """Others optimize every layer on the float model's inputs: errors of earlier layers would not be seen."""
    model = folded_network()
    ours, x = with_plain_layers(quantized(model)), samples(10)
    with SampleStore(2**30) as store:
        for data in walk(ours, model, x, store):
            if data.layer.name == "stem":
                data.layer.kernel.assign(np.zeros(data.layer.kernel.shape))
                data.layer.bias.assign(np.full(8, 0.5))
            if data.layer.name == "depthwise":
                inputs = next(data.batches())[0]
                reference = next(data.batches(asymmetric=False))[0]
    scale = float(ours.get_layer("stem").output_quantizer.scale)
    np.testing.assert_allclose(inputs, 0.5, atol=scale)
    np.testing.assert_allclose(
        reference, keras.Model(model.inputs, model.get_layer("stem_relu").output)(x), rtol=1e-4, atol=1e-5
    )


def test_every_layer_of_both_models_is_computed_once(monkeypatch):
    from qpipe.algorithms.layerwise.graph_run import GraphRun

    runs = []
    original = GraphRun._run
    monkeypatch.setattr(GraphRun, "_run", lambda self, node: (runs.append((id(self), node.name)), original(self, node)))
    model = folded_network()
    with SampleStore(2**30) as store:
        list(walk(with_plain_layers(quantized(model)), model, samples(10), store))
    assert len(runs) == len(set(runs)) > 8


def test_the_folded_model_serves_as_well():
    model = folded_network()
    ours, x = with_plain_layers(quantized(model)), samples(10)
    targets = []
    for reference in (model, qpipe.fold_batchnorm(model)):
        with SampleStore(2**30) as store:
            targets.append([next(data.batches())[1] for data in walk(ours, reference, x, store)])
    for first, second in zip(*targets, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-4)


def test_another_float_model_is_refused():
    ours = with_plain_layers(quantized(folded_network()))
    inputs = keras.Input((6, 6, 3))
    other = keras.Model(inputs, keras.layers.Conv2D(8, 3, name="other")(inputs))
    with SampleStore(2**30) as store, pytest.raises(QuantizationError, match="has no layer 'stem'"):
        list(walk(ours, other, samples(4), store))


def test_plain_layers_compute_the_same_integers_and_survive_saving(tmp_path):
    model = quantized(folded_network())
    plain = with_plain_layers(model)
    assert type(plain.get_layer("stem")).__name__ == "QConv2D"
    assert type(model.get_layer("stem")).__name__ == "QConv2DBatchnorm"
    expected = model.predict(samples(16, seed=3), verbose=0)
    np.testing.assert_array_equal(plain.predict(samples(16, seed=3), verbose=0), expected)
    plain.save(tmp_path / "plain.keras")
    loaded = keras.saving.load_model(tmp_path / "plain.keras")
    np.testing.assert_array_equal(loaded.predict(samples(16, seed=3), verbose=0), expected)


def test_a_float_layer_that_is_shared_stays_shared():
    """Layers that are called several times stay in float; the plain copy of the model and rounding live with them."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(inputs)
    shared = keras.layers.Conv2D(8, 3, padding="same", name="shared")
    x = keras.layers.Add()([x, shared(x)])
    x = keras.layers.Add()([x, shared(keras.layers.ReLU()(x))])
    model = keras.Model(inputs, keras.layers.Dense(4, name="classes")(keras.layers.Flatten()(x)))
    ours, unseen = quantized(model), samples(64, seed=7)
    plain = with_plain_layers(ours)
    np.testing.assert_array_equal(plain.predict(unseen, verbose=0), ours.predict(unseen, verbose=0))
    assert sum(layer.name == "shared" for layer in plain.layers) == 1
    assert output_error(qpipe.adaround(ours, model, samples()), model, unseen) < output_error(ours, model, unseen)
