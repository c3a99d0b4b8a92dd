"""The network and the batch on which training steps are timed: MobileNet, alpha 0.25, 32x32 pixels, 10 classes."""

from __future__ import annotations

BATCH, SIZE, CLASSES = 64, 32, 10


def network_and_batch():
    """Returns the float model, with random weights, and one batch of images and labels, with fixed seeds."""
    from qpipe.tensorflow_import import import_tensorflow

    import_tensorflow()
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    images = generator.uniform(-1, 1, (BATCH, SIZE, SIZE, 3)).astype("float32")
    labels = keras.utils.to_categorical(generator.integers(0, CLASSES, BATCH), CLASSES)
    model = keras.applications.MobileNet(input_shape=(SIZE, SIZE, 3), alpha=0.25, weights=None, classes=CLASSES)
    return model, images, labels


def compiled(model):
    """Compiles a model as every timed one is, and returns it."""
    import keras

    model.compile(keras.optimizers.Adam(1e-4), "categorical_crossentropy", jit_compile=False)
    return model


def freeze_statistics_and_ranges(model) -> None:
    """Brings a model to where `ema_freeze_delay` is over."""
    from qpipe.layers.batch_statistics import BatchStatistics
    from qpipe.layers.inventory import output_quantizers

    for layer in model.layers:
        if isinstance(layer, BatchStatistics):
            layer.ema_freeze_delay = 0
    for quantizer in output_quantizers(model).values():
        quantizer.fix()
