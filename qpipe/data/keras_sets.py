"""Image sets of `keras.datasets`, which Keras downloads into its own folder."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from qpipe import keras_source
from qpipe.config.schema import KerasData
from qpipe.data.array_checks import checked_part
from qpipe.data.part import Part, SourceParts
from qpipe.errors import DataError, nearest
from qpipe.first_sentence import first_sentence

_FILES = {
    "mnist": "mnist.npz",
    "fashion_mnist": "fashion-mnist/train-images-idx3-ubyte.gz and its three companions",
    "cifar10": "cifar-10-batches-py-target_archive (cifar-10-python.tar.gz under this name)",
    "cifar100": "cifar-100-python-target_archive (cifar-100-python.tar.gz under this name)",
}
"""For each image set, the files that Keras looks for in its folder before it downloads them."""


def check_set(config: KerasData) -> None:
    """Checks the names of the set and of its arguments, without importing Keras.

    Raises:
        DataError: there is no such set, it holds no images, or its `load_data` has no such argument.
    """
    name = config.dataset
    if name not in _FILES:
        if name in keras_source.modules("keras.datasets"):
            allowed = ", ".join(repr(name) for name in _FILES)
            raise DataError(f"data.dataset={name!r} holds no images; allowed: {allowed}")
        raise DataError(f"data.dataset={name!r} is unknown; {nearest(name, _FILES)}")
    allowed_arguments = keras_source.arguments(f"keras.datasets.{name}", "load_data")
    for argument in config.arguments:
        if argument not in allowed_arguments:
            raise DataError(
                f"data.arguments.{argument}: keras.datasets.{name}.load_data has no argument {argument!r}; "
                f"{nearest(argument, allowed_arguments)}"
            )


def load_set(config: KerasData) -> SourceParts[Part]:
    """Loads a training and a test part.

    Raises:
        DataError: the name or an argument is wrong, or the files can't be downloaded.
    """
    check_set(config)
    name = config.dataset
    load_data = importlib.import_module(f"keras.datasets.{name}").load_data
    try:
        (x_train, y_train), (x_test, y_test) = load_data(**config.arguments)
    except Exception as error:
        raise _failure(config, error) from error
    source = f"of keras.datasets.{name}"
    return SourceParts(
        train=checked_part(x_train, y_train, config, x_name="x_train", y_name="y_train", source=source),
        test=checked_part(x_test, y_test, config, x_name="x_test", y_name="y_test", source=source),
    )


def _failure(config: KerasData, error: Exception) -> DataError:
    name = config.dataset
    if not isinstance(error, OSError) and "URL fetch failure" not in str(error):
        arguments = " ".join(f"data.arguments.{key}={value}" for key, value in config.arguments.items())
        given = f" with {arguments}" if arguments else ""
        return DataError(f"data.dataset={name}{given} can't be loaded: {first_sentence(error)}.")
    folder = Path(os.environ.get("KERAS_HOME", "~/.keras")) / "datasets"
    return DataError(
        f"data.dataset={name} could not be downloaded ({first_sentence(error)}); without a network, put the file "
        f"{_FILES[name]} into {folder}, or set KERAS_HOME to a folder whose subfolder datasets has it."
    )
