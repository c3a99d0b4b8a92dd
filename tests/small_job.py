"""A job that runs in seconds: a small residual network in a `.keras` file, and images that are easy to tell apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CLASSES = 3


def write_images(path: Path, samples: int = 192, size: int = 8, seed: int = 0) -> Path:
    """Writes grey images, dark or bright in a place that depends on their class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % CLASSES
    images = rng.integers(0, 120, (samples, size, size, 1))
    for index, label in enumerate(labels):
        images[index, 2 * label : 2 * label + 3] += 110
    split = samples * 3 // 4
    np.savez(
        path,
        x_train=images[:split].astype("uint8"),
        y_train=labels[:split],
        x_test=images[split:].astype("uint8"),
        y_test=labels[split:],
    )
    return path


def write_model(path: Path, size: int = 8, seed: int = 0) -> Path:
    """Writes an untrained network with folded convolutions, an Add, a batch normalization that stays, and a dropout."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    inputs = keras.Input((size, size, 1), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.BatchNormalization(momentum=0.8, name="stem_bn")(x)
    x = layers.ReLU(6.0, name="stem_relu")(x)
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    y = layers.BatchNormalization(momentum=0.8, name="depthwise_bn")(y)
    x = layers.Add(name="add")([x, y])
    x = layers.BatchNormalization(momentum=0.8, name="kept_bn")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.1, name="dropout")(x)
    outputs = layers.Dense(CLASSES, activation="softmax", name="classes")(x)
    keras.Model(inputs, outputs, name="small").save(path)
    return path


def overrides(folder: Path, **changes: object) -> list[str]:
    """Returns the overrides of a small job whose files and runs are in `folder`; `changes` with `.` written `__`."""
    settings: dict[str, object] = {
        "name": "small",
        "model": "file",
        "model.path": folder / "small.keras",
        "model.train": "true",
        "data": "npz",
        "data.path": folder / "small.npz",
        "data.calibration_samples": 64,
        "training.float.epochs": 4,
        "training.float.batch_size": 16,
        "training.float.learning_rate": 0.02,
        "training.qat.epochs": 2,
        "training.qat.batch_size": 16,
        "training.qat.learning_rate": 0.001,
        "folding.ema_freeze_delay": 10,
        "runs_dir": folder / "runs",
    }
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    return [f"{key}={value}" for key, value in settings.items() if value is not ...]


def prepare(folder: Path) -> Path:
    """Writes model and data into `folder`, and returns it."""
    write_model(folder / "small.keras")
    write_images(folder / "small.npz")
    return folder
