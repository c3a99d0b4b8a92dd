"""MLPerf Tiny's ResNet-8 as a LiteRT file, against MLPerf Tiny's own int8 file: size, integers, predictions."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

import qpipe
from qpipe.config.schema import OutputQuantizerConfig, OutputRange, QuantizerConfig, WeightQuantizerConfig

interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not installed; none for Windows")
DATA = os.environ.get("QPIPE_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="QPIPE_DATA names no folder with the shared data")
SAMPLES = 200


@pytest.fixture(scope="module")
def images():
    with np.load(Path(DATA) / "cifar10" / "cifar10_lossless_4k1k.npz") as arrays:
        return {
            "train": arrays["x_train"][:256].astype("float32"),
            "test": arrays["x_test"][:SAMPLES].astype("float32"),
        }


@pytest.fixture(scope="module")
def folded():
    return qpipe.fold_batchnorm(keras.saving.load_model(Path(DATA) / "resnet8" / "resnet8.keras"))


@pytest.fixture(scope="module")
def reference():
    return Path(DATA) / "resnet8" / "resnet8_int8.tflite"


def exported(folded, images, path, width: int):
    config = QuantizerConfig(
        weight=WeightQuantizerConfig(bitwidth=width), output=OutputQuantizerConfig(range=OutputRange.percentile)
    )
    model = qpipe.calibrate(qpipe.quantize(folded, config), images["train"])
    return model, qpipe.export_litert(model, path)


def predictions(path, x):
    runner = interpreter.Interpreter(str(path))
    (given,) = runner.get_input_details()
    runner.resize_tensor_input(given["index"], x.shape)
    runner.allocate_tensors()
    scale, zero_point = given["quantization"]
    assert (scale, zero_point) == (pytest.approx(1.0, abs=0.01), -128)
    runner.set_tensor(given["index"], (x - 128).astype(np.int8))
    runner.invoke()
    return runner.get_tensor(runner.get_output_details()[0]["index"]).argmax(axis=-1)


def test_eight_bits(folded, images, reference, tmp_path):
    model, file = exported(folded, images, tmp_path / "model.tflite", 8)
    assert file.bytes <= 1.03 * reference.stat().st_size
    comparison = qpipe.verify(model, file.path, images["test"])
    assert comparison.first_difference is None, comparison.summary()
    ours = predictions(file.path, images["test"])
    np.testing.assert_array_equal(ours, comparison.predictions[0].argmax(axis=-1))
    assert np.mean(ours == predictions(reference, images["test"])) > 0.95


def test_four_bits(folded, images, reference, tmp_path):
    model, file = exported(folded, images, tmp_path / "model.tflite", 4)
    assert file.bytes <= 0.6 * reference.stat().st_size
    comparison = qpipe.verify(model, file.path, images["test"][:64])
    assert file.bound.is_kept(comparison), comparison.summary()
