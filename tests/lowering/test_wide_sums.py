"""Sums that float32 does not hold exactly, and sums that reach the end of their buffer."""

import keras
import numpy as np
import pytest

import qpipe
from qpipe.config.schema import OutputQuantizerConfig, QuantizerConfig, WeightQuantizerConfig
from qpipe.lowering.verification import verify_engine


def exact(model, x):
    compared = verify_engine(model, [[x]])
    assert compared.first_difference is None, compared.summary()
    return compared


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_sums_beyond_24_bits_are_exact(bits):
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((3, 3, 400)), keras.layers.Conv2D(5, 3)])
    model.layers[0].kernel.assign(rng.uniform(0.5, 1.0, size=(3, 3, 400, 5)))  # sums that do not cancel
    wide = OutputQuantizerConfig(bitwidth=bits, symmetric=True)
    config = QuantizerConfig(input=wide, output=wide, weight=WeightQuantizerConfig(bitwidth=bits))
    x = rng.uniform(0.5, 1.0, size=(64, 3, 3, 400)).astype("float32")
    compared = exact(qpipe.calibrate(qpipe.quantize(model, config), x), x)
    assert compared.notes[model.layers[0].name].accumulator_bits > 25


@pytest.mark.parametrize("buffer", [20, 32])
def test_a_tiny_channel_with_a_large_bias_leaves_room_for_the_products(buffer):
    """Its scale is raised until its bias and the largest sum of products just fit into the buffer together."""
    rng = np.random.default_rng(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2, name="dense")])
    dense = model.layers[0]
    dense.kernel.assign(np.stack([rng.normal(size=8), np.full(8, 1e-4)], axis=1))
    dense.bias.assign([0.1, 60.0])
    x = rng.uniform(0.5, 1.0, size=(64, 8)).astype("float32")
    quantized = qpipe.quantize(model, QuantizerConfig(buffer_bitwidth=buffer))
    notes = exact(qpipe.calibrate(quantized, x), x).notes["dense"]
    assert quantized.get_layer("dense").raised_channels().tolist() == [False, True]
    assert notes.buffer_saturations == 0
    assert 0.4 * 2 ** (buffer - 1) < notes.highest_accumulator < 2 ** (buffer - 1)


def test_products_that_may_fill_the_buffer_saturate_alike():
    rng = np.random.default_rng(1)
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(2, name="dense")])
    model.layers[0].kernel.assign(rng.uniform(0.5, 1.0, size=(40, 2)))
    x = rng.uniform(0.5, 1.0, size=(64, 40)).astype("float32")
    quantized = qpipe.quantize(model, QuantizerConfig(buffer_bitwidth=16))
    assert exact(qpipe.calibrate(quantized, x), x).notes["dense"].buffer_saturations > 0


def test_average_pooling_of_wide_integers_over_large_windows():
    wide = OutputQuantizerConfig(bitwidth=16)
    model = keras.Sequential([keras.Input((40, 40, 1)), keras.layers.AveragePooling2D(20, 1)])
    x = np.random.default_rng(2).uniform(0.5, 1.0, size=(2, 40, 40, 1)).astype("float32")
    exact(qpipe.calibrate(qpipe.quantize(model, QuantizerConfig(input=wide, output=wide)), x), x)
