"""Sums of more than two tensors in a LiteRT file: the engine's formula in int32."""

import keras
import numpy as np
import pytest
from keras import layers as k
from small_networks_to_export import samples

import qpipe
from qpipe.config.schema import OutputQuantizerConfig, QuantizerConfig, ScaleKind

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed; there is none for Windows")
SHAPE = (8, 8, 4)


@pytest.mark.parametrize("scale", ScaleKind, ids=lambda scale: scale.name)
@pytest.mark.parametrize("bits", [8, 5])
@pytest.mark.parametrize("terms", [3, 8])
def test_the_very_same_integers(terms, bits, scale, tmp_path):
    keras.utils.set_random_seed(terms)
    inputs = keras.Input(SHAPE, name="signal")
    spread = [keras.initializers.RandomNormal(stddev=0.1 * 2**index) for index in range(terms)]
    total = k.Add(name="sum")([k.Conv2D(4, 1, kernel_initializer=each)(inputs) for each in spread])
    output = OutputQuantizerConfig(bitwidth=bits, symmetric=scale is ScaleKind.power_of_two, scale=scale)
    model = keras.Model(inputs, k.ReLU(6.0)(total))
    x = samples(SHAPE, 256)
    calibrated = qpipe.calibrate(qpipe.quantize(model, QuantizerConfig(input=output, output=output)), x)
    exported = qpipe.export_litert(calibrated, tmp_path / "model.tflite")
    assert "RIGHT_SHIFT" in exported.operators
    comparison = qpipe.verify(calibrated, exported.path, x)
    assert comparison.first_difference is None
    assert len(np.unique(comparison.predictions[0])) > 10
