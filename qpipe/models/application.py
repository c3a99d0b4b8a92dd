"""Networks of `keras.applications`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qpipe.config.schema import ApplicationModel
from qpipe.errors import ModelError, nearest
from qpipe.models.first_sentence import first_sentence
from qpipe.models.keras_applications import builder_names

if TYPE_CHECKING:
    import keras

_SET_BY_QPIPE = {
    "input_shape": "it follows from the data (data.image_size, data.channels)",
    "input_tensor": "the input follows from the data (data.image_size, data.channels)",
    "classes": "it follows from the data",
    "weights": "model.weights sets it",
}


def build_application(config: ApplicationModel, *, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Builds a network of `keras.applications` for the data's shape and classes.

    Args:
        config: name, weights and further arguments.
        input_shape: (height, width, channels).
        classes: number of classes.

    Raises:
        ModelError: an unknown name or argument, missing weights, or a value that the builder refuses.
    """
    check_application(config)
    import keras

    builder = getattr(keras.applications, config.application)
    _check_arguments(builder, config)
    try:
        model = builder(input_shape=input_shape, classes=classes, weights=config.weights, **config.arguments)
    except Exception as error:
        raise ModelError(
            f"keras.applications.{config.application} refuses input_shape={input_shape}, classes={classes}, "
            f"weights={config.weights}, arguments={config.arguments}: {first_sentence(error)}."
        ) from error
    if config.batchnorm_momentum is not None:
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = config.batchnorm_momentum
    return model


def check_application(config: ApplicationModel) -> None:
    """Checks what can be checked without Keras: the network's name, and that a weights file exists.

    Raises:
        ModelError: `keras.applications` has no such network, or there is no such file.
    """
    names = builder_names()
    if config.application not in names:
        raise ModelError(
            f"model.application='{config.application}' is not in keras.applications; "
            f"{nearest(config.application, names)}"
        )
    if config.weights not in (None, "imagenet") and not Path(config.weights).expanduser().exists():
        raise ModelError(
            f"model.weights={config.weights} is neither null, nor imagenet, nor the path of a file that exists."
        )


def _check_arguments(builder: Callable[..., Any], config: ApplicationModel) -> None:
    allowed = set(inspect.signature(builder).parameters) - set(_SET_BY_QPIPE)
    for name in config.arguments:
        if name in _SET_BY_QPIPE:
            raise ModelError(f"model.arguments.{name} can't be set: {_SET_BY_QPIPE[name]}.")
        if name not in allowed:
            raise ModelError(
                f"model.arguments.{name} is not an argument of keras.applications.{config.application}; "
                f"{nearest(name, allowed)}"
            )
