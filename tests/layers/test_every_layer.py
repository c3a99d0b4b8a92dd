"""The test suite that every quantized layer goes through."""

import keras
import numpy as np
import pytest
from layer_cases import CASES, LayerCase, float_model, samples

import qpipe
from qpipe.config.schema import OutputQuantizerConfig, QuantizerConfig, ScaleKind, WeightQuantizerConfig
from qpipe.graph.layer_plan import Treatment
from qpipe.graph.quantization import quantize_with_plan
from qpipe.layers.inventory import output_quantizers
from qpipe.lowering.verification import verify_engine
from qpipe.training.freeze import follow_data, freeze

NEAR_DB = 20.0


def fixed_point() -> QuantizerConfig:
    power = ScaleKind.power_of_two
    activations = OutputQuantizerConfig(scale=power)
    weights = WeightQuantizerConfig(scale=power)
    return QuantizerConfig(input=activations, output=activations, weight=weights, a_quantizer=weights)


def four_bits() -> QuantizerConfig:
    activations = OutputQuantizerConfig(bitwidth=4, symmetric=True)
    return QuantizerConfig(
        input=activations, output=activations, weight=WeightQuantizerConfig(bitwidth=4, per_channel=False)
    )


def assert_exact(model: keras.Model, x: np.ndarray) -> None:
    verification = verify_engine(model, [[x]])
    assert verification.tensors
    assert verification.first_difference is None, verification.summary()


def outputs(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return np.array(keras.tree.flatten(model(x, training=False))[0])


def noise_ratio(model: keras.Model, reference: keras.Model, x: np.ndarray) -> float:
    expected = outputs(reference, x)
    return 10 * np.log10(np.square(expected).sum() / np.square(outputs(model, x) - expected).sum())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_int8(case, tmp_path):
    reference = float_model(case)
    result = quantize_with_plan(reference, QuantizerConfig())
    model = qpipe.calibrate(result.model, samples(case))

    assert all(plan.treatment is not Treatment.float for plan in result.plans)
    assert all(plan.output_bits in (8, None) for plan in result.plans)
    assert result.plans[-1].treatment is Treatment.keeps or result.plans[-1].output_bits == 8
    assert_exact(model, samples(case, seed=1, spread=1.5))
    assert noise_ratio(model, reference, samples(case)) > NEAR_DB

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for name, quantizer in output_quantizers(model).items():
        assert np.array(output_quantizers(loaded)[name].scale).tobytes() == np.array(quantizer.scale).tobytes()
    x = samples(case, seed=2)
    np.testing.assert_array_equal(outputs(loaded, x), outputs(model, x))
    if case.trains:
        assert_trains(loaded, case)


def assert_trains(model: keras.Model, case: LayerCase) -> None:
    follow_data(model)
    before = [np.array(weight) for weight in model.trainable_weights]
    assert before
    model.compile(keras.optimizers.SGD(0.05), "mse", run_eagerly=True)
    x = samples(case, seed=4, spread=2.0)
    for _ in range(2):
        assert np.isfinite(model.train_on_batch(x, np.zeros_like(outputs(model, x))))
    freeze(model)
    moved = [not np.array_equal(old, new) for old, new in zip(before, model.trainable_weights, strict=True)]
    assert all(moved)
    assert_exact(model, x)


@pytest.mark.parametrize("config", [fixed_point, four_bits], ids=lambda config: config.__name__)
@pytest.mark.parametrize("shape", sorted({case.shape for case in CASES}), ids=str)
def test_engine_computes_the_same_integers(shape, config):
    cases = [case for case in CASES if case.shape == shape]
    model = qpipe.calibrate(qpipe.quantize(float_model(*cases), config()), samples(cases[0]))
    assert_exact(model, samples(cases[0], seed=1, spread=1.5))
