"""Model and data files with one thing wrong in each, for tests of what a user is told."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
from small_job import CLASSES, prepare


def write_broken_files(folder: Path) -> Path:
    """Writes the files of a small job and, beside them, broken ones; returns the folder."""
    prepare(folder)
    _write_data(folder)
    _write_models(folder)
    _write_image_folders(folder)
    (folder / "nets.py").write_text(
        "def text(input_shape, classes):\n    return 'no model'\n\n\n"
        "def fails(input_shape, classes):\n    raise RuntimeError('out of order')\n\n\n"
        "def numbers():\n    return 3\n\n\n"
        "def endless():\n    import tensorflow as tf\n\n"
        "    return tf.data.Dataset.from_tensors((tf.zeros((8, 8, 1)), 0)).repeat()\n"
    )
    return folder


def _write_data(folder: Path) -> None:
    with np.load(folder / "small.npz") as file:
        arrays = dict(file)
    labels = arrays["y_train"]
    changes = {
        "no_key": {"y_train": None},
        "pickled": {"y_train": np.array([{"a": 1}] * len(labels), dtype=object)},
        "lengths": {"y_train": labels[:-1]},
        "beyond": {"y_test": np.full_like(arrays["y_test"], 7)},
        "negative": {"y_train": np.where(labels == 0, -1, labels)},
        "fractions": {"y_train": labels + 0.5},
        "not_a_number": {"x_train": np.where(arrays["x_train"] == 0, np.nan, arrays["x_train"].astype("float32"))},
        "text": {"x_train": np.array([["image"]] * len(labels))},
        "empty": {"x_train": arrays["x_train"][:0], "y_train": labels[:0]},
        "one_class": {"y_train": labels * 0},
        "two_sizes": {"x_test": arrays["x_test"][:, :7]},
        "four_classes": {"y_train": np.arange(len(labels)) % (CLASSES + 1)},
        "colour": {"x_train": np.repeat(arrays["x_train"], 3, -1), "x_test": np.repeat(arrays["x_test"], 3, -1)},
    }
    for name, change in changes.items():
        changed = {key: value for key, value in (arrays | change).items() if value is not None}
        np.savez(folder / f"{name}.npz", **changed)
    whole = (folder / "small.npz").read_bytes()
    (folder / "truncated.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "foreign.npz").write_text("x,y\n1,2\n")
    np.save(folder / "single.npy", arrays["x_train"])


def _write_models(folder: Path) -> None:
    import keras

    whole = (folder / "small.keras").read_bytes()
    (folder / "truncated.keras").write_bytes(whole[: len(whole) // 2])
    (folder / "foreign.keras").write_text("not a model")
    with zipfile.ZipFile(folder / "zip.keras", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with zipfile.ZipFile(folder / "small.keras") as archive, zipfile.ZipFile(folder / "no_class.keras", "w") as changed:
        for member in archive.namelist():
            content = archive.read(member)
            if member == "config.json":
                config = json.loads(content)
                config["config"]["layers"][1]["class_name"] = "Conv2DD"
                content = json.dumps(config).encode()
            changed.writestr(member, content)
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(inputs)
    keras.Model(inputs, keras.layers.Lambda(lambda x: x[:, :3])(flat)).save(folder / "code.keras")
    keras.Model(
        inputs,
        keras.layers.Softmax()(keras.layers.LayerNormalization()(keras.layers.Flatten()(inputs)[:, :3])),
    ).save(folder / "no_layers.keras")
    second = keras.Input((2,))
    merged = keras.layers.Concatenate()([flat, second])
    keras.Model([inputs, second], keras.layers.Dense(3)(merged)).save(folder / "two_inputs.keras")
    whole_numbers = keras.Input((8, 8, 1), dtype="int32")
    embedded = keras.layers.Embedding(256, 3)(keras.layers.Flatten()(whole_numbers))
    keras.Model(whole_numbers, keras.layers.GlobalAveragePooling1D()(embedded)).save(folder / "whole_numbers.keras")


def _write_image_folders(folder: Path) -> None:
    import keras

    picture = np.zeros((6, 6, 3), "uint8")
    for name in ("empty_class/cat", "empty_class/dog", "sizes/cat", "sizes/dog", "damaged/cat", "damaged/dog"):
        (folder / name).mkdir(parents=True)
    for index in range(12):
        for path in ("empty_class/cat", "sizes/cat", "sizes/dog", "damaged/cat", "damaged/dog"):
            size = 5 if path == "sizes/dog" else 6
            keras.utils.save_img(folder / path / f"{index}.png", picture[:size, :size])
    image = folder / "damaged" / "dog" / "3.png"
    image.write_bytes(image.read_bytes()[:30])
    (folder / "no_classes").mkdir()
