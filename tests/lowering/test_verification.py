import dataclasses

import keras
import numpy as np
import pytest

import qpipe
from qpipe.lowering import lower, verification
from qpipe.lowering.verification import verify_engine


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(40, 6, 6, 3)).astype("float32")


@pytest.fixture(scope="module")
def model(x):
    keras.utils.set_random_seed(1)
    i = keras.Input((6, 6, 3))
    y = keras.layers.Conv2D(4, 3, name="first")(i)
    y = keras.layers.MaxPooling2D(name="pool")(y)
    y = keras.layers.Conv2D(3, 2, name="second")(y)
    return qpipe.calibrate(qpipe.quantize(keras.Model(i, y)), x)


def batches(x):
    return ([x[start : start + 16]] for start in range(0, len(x), 16))


def test_every_quantized_tensor_is_compared(model, x):
    compared = verify_engine(model, batches(x))
    assert [name for name in compared.tensors if "quantize" not in name] == ["first", "pool", "second"]
    assert compared.tensors["pool"].values == 40 * 2 * 2 * 4
    assert compared.samples == 40
    assert compared.mismatch_rate == 0.0
    assert compared.largest_lsb == 0
    assert compared.first_difference is None
    assert "very same integers" in compared.summary()


def test_the_engine_notes_its_accumulators(model, x):
    compared = verify_engine(model, batches(x))
    _, tensors = qpipe.integer_predict(model, x, intermediates=True)
    layer = model.get_layer("second")
    weights = layer.integer_weights()
    kernel, bias = np.array(weights.kernel), np.array(weights.bias)
    sums = np.einsum("nhwc,hwco->no", tensors["pool"].centred, kernel) + bias
    notes = compared.notes["second"]
    assert (notes.lowest_accumulator, notes.highest_accumulator) == (min(sums.min(), 0), max(sums.max(), 0))
    assert 2 ** (notes.accumulator_bits - 1) > np.abs(sums).max() >= 2 ** (notes.accumulator_bits - 2)


def test_a_difference_is_found_counted_and_named(model, x, monkeypatch):
    def tampered(model):
        program = lower(model)
        index = next(i for i, step in enumerate(program.steps) if step.layer == "second")
        operator = program.steps[index].operator
        program.steps[index] = dataclasses.replace(
            program.steps[index], operator=dataclasses.replace(operator, bias=operator.bias + 500)
        )
        return program

    monkeypatch.setattr(verification, "lower", tampered)
    compared = verify_engine(model, batches(x))
    assert compared.first_difference == "second"
    assert compared.tensors["first"].differing == 0
    assert 0 < compared.tensors["second"].mismatch_rate <= 1
    assert compared.largest_lsb == compared.tensors["second"].largest_lsb > 0
    metrics = compared.metrics()
    assert metrics["verify/mismatch_rate"] == compared.mismatch_rate > 0
    assert metrics["verify/max_lsb/second"] == compared.largest_lsb
    assert "'second'" in compared.summary()
