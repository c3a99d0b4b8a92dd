import keras
import numpy as np
import pytest

from qpipe.algorithms import calibrate
from qpipe.config.schema import (
    BiasQuantizerConfig,
    LayerRule,
    OutputQuantizerConfig,
    QuantizerConfig,
    WeightQuantizerConfig,
)
from qpipe.graph import quantize
from qpipe.graph.folding import FoldingPlan
from qpipe.graph.quantization import quantize_with_plan
from qpipe.quantizers.observation import Arithmetic, observe
from qpipe.reports.accumulator import needed_accumulator_bits
from qpipe.reports.costs import float_bytes, layer_cost, packed_weight_bytes
from qpipe.reports.layers import layer_report
from qpipe.reports.noise import measure_noise


@pytest.fixture(scope="module")
def float_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(3, 3, strides=2, padding="same", activation="relu", name="conv")(inputs)
    x = keras.layers.DepthwiseConv2D(3, use_bias=False, name="depthwise")(x)
    return keras.Model(inputs, keras.layers.Dense(5, name="dense")(keras.layers.Flatten()(x)))


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(0).normal(size=(96, 6, 6, 2)).astype("float32")


@pytest.fixture(scope="module")
def quantized(float_model, samples):
    rules = [LayerRule(match="dense", weight=None)]
    return calibrate(quantize(float_model, QuantizerConfig(layers=rules)), samples)


def test_costs_count_by_hand(quantized):
    conv, depthwise, dense = (layer_cost(quantized.get_layer(name)) for name in ("conv", "depthwise", "dense"))
    assert (conv.parameters, conv.packed_bytes, conv.multiply_accumulates) == (57, 54 + 12, 9 * 54)
    assert (depthwise.parameters, depthwise.packed_bytes, depthwise.multiply_accumulates) == (27, 27, 27)
    assert (dense.parameters, dense.packed_bytes, dense.multiply_accumulates) == (20, 15 + 20, 15)


def test_narrow_weights_are_packed(float_model):
    narrow = quantize(float_model, QuantizerConfig(weight=WeightQuantizerConfig(bitwidth=3)))
    assert packed_weight_bytes(narrow) == (21 + 12) + 11 + (6 + 20)
    assert float_bytes(float_model) == 4 * (57 + 27 + 20)


def test_noise_is_that_of_the_model_without_quantizers(quantized, float_model, samples):
    noise = measure_noise(quantized, samples)
    assert len(noise) == 4
    assert {"conv", "depthwise", "dense"} < set(noise)
    reference = float_model.predict(samples, verbose=0).astype("float64")
    error = quantized.predict(samples, verbose=0) - reference
    expected = 10 * np.log10(np.sum(reference**2) / np.sum(error**2))
    assert noise["dense"].sqnr_db == pytest.approx(expected, abs=1e-3)
    assert noise["dense"].values == 96 * 5


def test_saturations_are_counted(float_model, samples):
    model = calibrate(quantize(float_model, QuantizerConfig()), samples)
    assert measure_noise(model, samples)["conv"].saturated <= 96 * 27 * 0.01
    loud = measure_noise(model, samples * 4)
    assert loud["conv"].saturated > 0


def test_more_bits_less_noise(float_model, samples):
    ratios = []
    for bits in (4, 6, 8):
        settings = QuantizerConfig(
            input=OutputQuantizerConfig(bitwidth=bits), output=OutputQuantizerConfig(bitwidth=bits)
        )
        ratios.append(measure_noise(calibrate(quantize(float_model, settings), samples), samples)["dense"].sqnr_db)
    assert ratios[0] + 6 < ratios[1] < ratios[2] - 6


def test_needed_accumulator_bits_hold_every_accumulator(quantized, samples):
    layer = quantized.get_layer("conv")
    needed = needed_accumulator_bits(layer)
    integers = layer.integer_weights()
    with observe(Arithmetic.integer):
        x = layer.input_quantizer.to_integers(samples)
        accumulator = np.array(layer.linear_op(x, integers.kernel) + integers.bias)
    assert np.abs(accumulator).max() < 2 ** (needed - 1)
    kernel = np.abs(np.array(integers.kernel)).sum(axis=(0, 1, 2)).max()
    assert 2 ** (needed - 2) <= kernel * 255 + np.abs(np.array(integers.bias)).max()


def test_weights_that_are_cut_off_are_counted_and_said(float_model, samples):
    model = quantize_with_plan(float_model, QuantizerConfig())
    calibrate(model.model, samples)
    noise = measure_noise(model.model, samples)
    assert not any("cut off" in note for note in layer_report(model, FoldingPlan(), noise).notes)
    kernel = np.array(model.model.get_layer("conv").kernel)
    kernel.flat[[0, 5, 9]] = 10.0 * np.abs(kernel).max()
    model.model.get_layer("conv").kernel.assign(kernel)
    report = layer_report(model, FoldingPlan(), noise)
    counted = {row.plan.name: row.saturated_weights for row in report.rows}
    assert (counted["conv"], counted["dense"]) == (3, 0)
    assert (
        "3 weights of 1 layer(s) are cut off at the ends of their grids, most of them in conv: 3 of its 57 parameters"
        in report.notes
    )


def test_a_bias_wider_than_its_accumulator_is_said(float_model):
    rules = [LayerRule(match="conv", buffer_bitwidth=12)]
    notes = quantize_with_plan(float_model, QuantizerConfig(bias=BiasQuantizerConfig(bitwidth=20), layers=rules)).notes
    assert notes == ["conv: its bias has 12 bits, as its buffer_bitwidth, instead of the configured 20"]
