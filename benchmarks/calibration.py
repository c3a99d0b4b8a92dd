"""Time of folding, quantizing and calibrating on 1,024 samples, against one float prediction of the same samples.

    python benchmarks/calibration.py

Prints seconds and the ratio of medians, both in the same process and in turns; tracing is included, the import
of TensorFlow is not.
"""

from __future__ import annotations

import statistics
import time

from qpipe.tensorflow_import import import_tensorflow

import_tensorflow()

import keras  # noqa: E402
import numpy as np  # noqa: E402

import qpipe  # noqa: E402

SAMPLES, SIZE, ROUNDS = 1024, 64, 3


def main() -> None:
    keras.utils.set_random_seed(0)
    samples = np.random.default_rng(0).uniform(-1, 1, (SAMPLES, SIZE, SIZE, 3)).astype("float32")
    prediction, quantization = [], []
    for _ in range(ROUNDS):
        model = keras.applications.MobileNet(input_shape=(SIZE, SIZE, 3), alpha=0.25, weights=None, classes=10)
        prediction.append(seconds(lambda: model.predict(samples, batch_size=64, verbose=0)))  # noqa: B023
        quantization.append(seconds(lambda: qpipe.calibrate(qpipe.quantize(qpipe.fold_batchnorm(model)), samples)))  # noqa: B023
    float_median, quantized_median = statistics.median(prediction), statistics.median(quantization)
    print(f"float prediction of {SAMPLES} samples     {float_median:6.2f} s")
    print(f"fold + quantize + calibrate           {quantized_median:6.2f} s")
    print(f"ratio                                 {quantized_median / float_median:6.2f}")


def seconds(work) -> float:
    """Returns how long `work()` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
