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


def test_a_tiny_channel_with_a_large_bias_saturates_alike():
    """Its scale is raised until the bias just fits into the buffer, and the products push it over the end."""
    rng = np.random.default_rng(1)
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(2, name="dense")])
    dense = model.layers[0]
    dense.kernel.assign(np.stack([rng.normal(size=40), np.full(40, 1e-4)], axis=1))
    dense.bias.assign([0.1, 60.0])
    x = rng.uniform(0.5, 1.0, size=(64, 40)).astype("float32")
    compared = exact(qpipe.calibrate(qpipe.quantize(model), x), x)
    assert compared.notes["dense"].buffer_saturations > 0


def test_average_pooling_of_wide_integers_over_large_windows():
    wide = OutputQuantizerConfig(bitwidth=16)
    model = keras.Sequential([keras.Input((40, 40, 1)), keras.layers.AveragePooling2D(20, 1)])
    x = np.random.default_rng(2).uniform(0.5, 1.0, size=(2, 40, 40, 1)).astype("float32")
    exact(qpipe.calibrate(qpipe.quantize(model, QuantizerConfig(input=wide, output=wide)), x), x)
