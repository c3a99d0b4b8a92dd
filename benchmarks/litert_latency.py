"""Time of one sample in LiteRT: qpipe's file against those that TensorFlow's converter writes of the same model.

    QPIPE_DATA=... python benchmarks/litert_latency.py
    python benchmarks/litert_latency.py --model mobilenet

`resnet8` needs the shared data and compares with MLPerf Tiny's own int8 and float files, too. One thread, the
interpreter's default path, files in turns; prints medians and ratios to the converter's int8 file, and the sizes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from qpipe.tensorflow_import import import_tensorflow

import_tensorflow()

import keras  # noqa: E402
import numpy as np  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402
from turns import medians, report  # noqa: E402

import qpipe  # noqa: E402

RUNS_PER_TURN = 20
CALIBRATION_SAMPLES = 256


def resnet8() -> tuple[keras.Model, np.ndarray, dict[str, bytes]]:
    """MLPerf Tiny's ResNet-8 with CIFAR-10 images, and the files that belong to it."""
    folder = Path(os.environ["QPIPE_DATA"])
    with np.load(folder / "cifar10" / "cifar10_lossless_4k1k.npz") as arrays:
        images = arrays["x_train"][:CALIBRATION_SAMPLES].astype("float32")
    files = {
        "MLPerf Tiny's int8 file": (folder / "resnet8" / "resnet8_int8.tflite").read_bytes(),
        "MLPerf Tiny's float file": (folder / "resnet8" / "resnet8_float.tflite").read_bytes(),
    }
    return keras.saving.load_model(folder / "resnet8" / "resnet8.keras"), images, files


def mobilenet() -> tuple[keras.Model, np.ndarray, dict[str, bytes]]:
    """MobileNet V1, alpha 0.25, with random weights and images."""
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNet(input_shape=(64, 64, 3), alpha=0.25, weights=None, classes=10)
    return model, np.random.default_rng(0).uniform(-1, 1, (CALIBRATION_SAMPLES, 64, 64, 3)).astype("float32"), {}


def converted(model: keras.Model, images: np.ndarray | None) -> bytes:
    """Returns the file of TensorFlow's converter: full integer with images to calibrate on, else float."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if images is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def runner(content: bytes, image: np.ndarray) -> Callable[[], None]:
    """Returns what runs a file on one sample a few times."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (detail,) = interpreter.get_input_details()
    scale, zero_point = detail["quantization"]
    values = np.clip(np.rint(image / scale) + zero_point, -128, 127) if scale else image
    interpreter.set_tensor(detail["index"], values[np.newaxis].astype(detail["dtype"]))

    def run() -> None:
        for _ in range(RUNS_PER_TURN):
            interpreter.invoke()

    return run


def main() -> None:
    models = {"resnet8": resnet8, "mobilenet": mobilenet}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=models, default="resnet8")
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    model, images, files = models[arguments.model]()
    quantized = qpipe.calibrate(qpipe.quantize(qpipe.fold_batchnorm(model)), images)
    with tempfile.TemporaryDirectory() as folder:
        ours = qpipe.export_litert(quantized, Path(folder) / "model.tflite").path.read_bytes()
    contents = {
        "the converter's int8 file": converted(model, images),
        "qpipe's int8 file": ours,
        "the converter's float file": converted(model, None),
        **files,
    }
    jobs = {name: runner(content, images[0]) for name, content in contents.items()}
    seconds = {name: value / RUNS_PER_TURN for name, value in medians(jobs, arguments.rounds).items()}
    report(f"{arguments.model}: one sample, one thread", seconds)
    for name, content in contents.items():
        print(f"  {name:28} {len(content):10,} bytes")


if __name__ == "__main__":
    main()
