import keras
import numpy as np
import pytest
from small_job import write_images
from small_training import arrays, assert_same_weights, quantized_network, training

from qpipe.config.schema import NpzData, Task
from qpipe.data import load_dataset
from qpipe.layers.inventory import freezing_parts, output_quantizers, quantized_linear_layers
from qpipe.training.freeze import freeze
from qpipe.training.loop import fit

DELAY = 7


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load_dataset(NpzData(path=str(write_images(tmp_path_factory.mktemp("data") / "images.npz"))), seed=0)


def states(model):
    layer = model.get_layer("conv")
    quantizers = output_quantizers(model).values()
    tracked = [keras.ops.convert_to_numpy(variable) for part in quantizers for variable in (part.low, part.high)]
    return [np.array(layer.moving_mean), np.array(layer.moving_variance), *tracked]


def test_statistics_freeze_after_exactly_the_delay(dataset):
    model = quantized_network(dataset, DELAY)
    seen = {}
    fit(model, training(), "qat", dataset, seed=0, on_batch=lambda step, steps: seen.update({step: states(model)}))
    assert len(seen) == 2 * dataset.steps_per_epoch(16)
    assert all(any((a != b).any() for a, b in zip(seen[s], seen[s + 1], strict=True)) for s in range(1, DELAY))
    for step in range(DELAY, len(seen)):
        for before, after in zip(seen[step], seen[step + 1], strict=True):
            np.testing.assert_array_equal(before, after)
    assert all(int(part.steps) == DELAY for part in freezing_parts(model))


def test_retracing_at_the_freeze_gives_what_the_conditional_gives(dataset, monkeypatch):
    retraced = quantized_network(dataset, DELAY)
    history = fit(retraced, training(), "qat", dataset, seed=0)
    monkeypatch.setattr("qpipe.training.loop.FreezeByRetracing", lambda on_freeze: keras.callbacks.Callback())
    conditional = quantized_network(dataset, DELAY)
    expected = fit(conditional, training(), "qat", dataset, seed=0)
    assert history["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for value, reference in zip(retraced.get_weights(), conditional.get_weights(), strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-4, atol=1e-6)


def test_same_seed_same_weights(dataset):
    models = [quantized_network(dataset, None) for _ in range(2)]
    for model in models:
        fit(model, training(), "qat", dataset, seed=3)
    assert_same_weights(*models)


def test_freeze_stores_scales_and_ranges(dataset):
    model = quantized_network(dataset, None)
    fit(model, training(epochs=1), "qat", dataset, seed=0)
    inputs = dataset.inputs("test")
    before = model.predict(inputs, verbose=0)
    freeze(model)
    assert all(layer.kernel_quantizer.fixed for layer in quantized_linear_layers(model))
    assert all(quantizer.fixed for quantizer in output_quantizers(model).values())
    np.testing.assert_array_equal(model.predict(inputs, verbose=0), before)


def test_trained_model_is_saved_without_its_optimizer(rng, tmp_path):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    fit(
        model,
        training(epochs=1, schedule="linear", warmup_fraction=0.5),
        "float",
        arrays(rng, (3,), Task.regression),
        seed=0,
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not loaded.compiled
    assert_same_weights(loaded, model)


def test_no_epochs_train_nothing(rng):
    data = arrays(rng, (3,), Task.regression)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    before = model.get_weights()
    assert fit(model, training(epochs=0), "float", data, seed=0) == {}
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_loss_that_is_no_number_is_reported(rng, caplog):
    data = arrays(rng, (3,), Task.regression)
    data.y[:] = 1e30
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    fit(model, training(epochs=1), "qat", data, seed=0)
    assert "training.qat: the loss is nan after epoch 1" in caplog.text
