"""What `quantized_step.py` measures of other libraries: run by it, with the Python of their environment.

    python benchmarks/quantized_step_peers.py tfmot|qkeras [--rounds 60]

- tfmot: `tensorflow-model-optimization` with its default 8-bit scheme, on Keras 2 (`tf-keras`).
- qkeras: `qkeras-v3`, 8-bit kernels (per channel) and 8-bit outputs of the ReLUs, the batch normalizations in float;
  its inference is that of the same model.

Each quantized model is timed against its own library's float model.
"""

from __future__ import annotations

import argparse
import os

from turns import medians, report

BATCH, SIZE, CLASSES = 64, 32, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=MODELS)
    parser.add_argument("--rounds", type=int, default=60, help="turns of every model")
    options = parser.parse_args()
    keras, float_model, quantized_model = MODELS[options.library]()
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.uniform(-1, 1, (BATCH, SIZE, SIZE, 3)).astype("float32")
    labels = np.eye(CLASSES, dtype="float32")[generator.integers(0, CLASSES, BATCH)]
    models = {"float": float_model, "not folded": quantized_model}
    for model in models.values():
        model.compile(keras.optimizers.Adam(1e-4), "categorical_crossentropy", jit_compile=False)
        model.train_on_batch(images, labels)
    inference = {name: lambda m=m: m.predict_on_batch(images) for name, m in models.items()}
    training = {name: lambda m=m: m.train_on_batch(images, labels) for name, m in models.items()}
    report(f"{options.library}, inference", medians(inference, options.rounds))
    report(f"{options.library}, training step", medians(training, options.rounds))


def tfmot_models():
    """Returns Keras 2, the float model, and the one that TF-MOT quantizes."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow_model_optimization as tfmot
    import tf_keras

    return tf_keras, mobilenet(tf_keras), tfmot.quantization.keras.quantize_model(mobilenet(tf_keras))


def qkeras_models():
    """Returns Keras 3, the float model, and the one that QKeras quantizes."""
    import keras
    from qkeras.utils import model_quantize

    weights = "quantized_bits(8, 0, 1, alpha='auto')"
    scheme = {
        "QConv2D": {"kernel_quantizer": weights, "bias_quantizer": weights},
        "QDepthwiseConv2D": {"depthwise_quantizer": weights, "bias_quantizer": weights},
        "QActivation": {"relu": "quantized_relu(8, 3)", "relu6": "quantized_relu(8, 3)"},
    }
    return keras, mobilenet(keras), model_quantize(mobilenet(keras), scheme, 8)


def mobilenet(keras):
    """Returns the float model of either Keras."""
    return keras.applications.MobileNet(input_shape=(SIZE, SIZE, 3), alpha=0.25, weights=None, classes=CLASSES)


MODELS = {"tfmot": tfmot_models, "qkeras": qkeras_models}

if __name__ == "__main__":
    main()
