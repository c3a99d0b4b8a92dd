import keras
import numpy as np
import pytest
from small_job import write_images

from qpipe.algorithms import calibrate
from qpipe.config.schema import FoldingConfig, NpzData, QuantizerConfig, Schedule, TrainingStage
from qpipe.data import load_dataset
from qpipe.errors import ConfigError
from qpipe.graph import fold_batchnorm
from qpipe.graph.quantization import quantize_with_plan
from qpipe.layers.inventory import freezing_parts, output_quantizers, quantized_linear_layers
from qpipe.training import fit, follow_data, freeze
from qpipe.training.loop import gives_probabilities
from qpipe.training.optimizer import make_optimizer

DELAY = 7


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load_dataset(NpzData(path=str(write_images(tmp_path_factory.mktemp("data") / "images.npz"))), seed=0)


def quantized_model(dataset, delay):
    keras.utils.set_random_seed(1)
    inputs = keras.Input(dataset.input_shape)
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.5)(x))
    outputs = keras.layers.Dense(dataset.classes, activation="softmax")(keras.layers.Flatten()(x))
    folded = fold_batchnorm(keras.Model(inputs, outputs), FoldingConfig(ema_freeze_delay=delay))
    model = quantize_with_plan(folded, QuantizerConfig(), ema_freeze_delay=delay).model
    calibrate(model, dataset.calibration_inputs(64, 0))
    follow_data(model)
    return model


STAGE = TrainingStage(epochs=2, batch_size=16, learning_rate=0.01)


def states(model):
    layer = model.get_layer("conv")
    quantizers = output_quantizers(model).values()
    tracked = [keras.ops.convert_to_numpy(variable) for part in quantizers for variable in (part.low, part.high)]
    return [np.array(layer.moving_mean), np.array(layer.moving_variance), *tracked]


def test_statistics_freeze_after_exactly_the_delay(dataset):
    model = quantized_model(dataset, DELAY)
    seen = {}
    fit(
        model,
        STAGE,
        dataset,
        seed=0,
        where="training.qat",
        on_batch=lambda step, steps: seen.update({step: states(model)}),
    )
    assert len(seen) == 2 * dataset.steps_per_epoch(16)
    assert all(any((a != b).any() for a, b in zip(seen[s], seen[s + 1], strict=True)) for s in range(1, DELAY))
    for step in range(DELAY, len(seen)):
        for before, after in zip(seen[step], seen[step + 1], strict=True):
            np.testing.assert_array_equal(before, after)
    assert all(int(part.steps) == DELAY for part in freezing_parts(model))


def test_retracing_at_the_freeze_gives_what_the_conditional_gives(dataset, monkeypatch):
    retraced = quantized_model(dataset, DELAY)
    history = fit(retraced, STAGE, dataset, seed=0, where="")
    monkeypatch.setattr("qpipe.training.loop.FreezeByRetracing", keras.callbacks.Callback)
    conditional = quantized_model(dataset, DELAY)
    expected = fit(conditional, STAGE, dataset, seed=0, where="")
    assert history["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for value, reference in zip(retraced.get_weights(), conditional.get_weights(), strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-4, atol=1e-6)


def test_same_seed_same_weights(dataset):
    weights = []
    for _ in range(2):
        model = quantized_model(dataset, None)
        fit(model, STAGE, dataset, seed=3, where="")
        weights.append(model.get_weights())
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)


def test_freeze_stores_scales_and_ranges(dataset):
    model = quantized_model(dataset, None)
    fit(model, STAGE, dataset, seed=0, where="")
    inputs = dataset.inputs("test")
    before = model.predict(inputs, verbose=0)
    freeze(model)
    assert all(layer.kernel_quantizer.fixed for layer in quantized_linear_layers(model))
    assert all(quantizer.fixed for quantizer in output_quantizers(model).values())
    np.testing.assert_array_equal(model.predict(inputs, verbose=0), before)


def test_gives_probabilities_looks_at_the_last_activation():
    inputs = keras.Input((4,))
    assert gives_probabilities(keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(inputs)))
    assert gives_probabilities(keras.Model(inputs, keras.layers.Softmax()(keras.layers.Dense(2)(inputs))))
    assert not gives_probabilities(keras.Model(inputs, keras.layers.Dense(2)(inputs)))


def test_unknown_optimizer_names_the_nearest():
    with pytest.raises(ConfigError, match=r"training\.float\.optimizer: .*'rmsprp'; did you mean 'rmsprop'\?"):
        make_optimizer(TrainingStage(optimizer="rmsprp"), 10, "training.float")


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        (Schedule.constant, 0.0, [1.0, 1.0, 1.0]),
        (Schedule.cosine, 0.0, [1.0, 0.5, 0.0]),
        (Schedule.constant, 0.5, [0.0, 1.0, 1.0]),
        (Schedule.cosine, 0.5, [0.0, 1.0, 0.0]),
    ],
)
def test_learning_rate_at_start_middle_and_end(schedule, warmup, expected):
    stage = TrainingStage(learning_rate=1.0, schedule=schedule, warmup_fraction=warmup)
    optimizer = make_optimizer(stage, 100, "training.float")
    rates = []
    for step in (0, 50, 100):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx(expected, abs=1e-6)
