"""Networks of `keras.applications`."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qpipe import keras_source
from qpipe.config.schema import ApplicationModel, Task
from qpipe.errors import ModelError, nearest
from qpipe.first_sentence import first_sentence
from qpipe.signature import Signature
from qpipe.source_path import source_path

if TYPE_CHECKING:
    import keras

IMAGENET = "imagenet"
IMAGENET_CLASSES = 1000
HEAD = "predictions"
"""Name of the dense layer that is put on a network without its own classifier."""
OUTPUT_ACTIVATION = {Task.classification: "softmax", Task.multilabel: "sigmoid", Task.regression: "linear"}

_MODULE = "keras.applications"
_SET_BY_QPIPE = {
    "input_shape": "it follows from the data (data.image_size, data.channels)",
    "input_tensor": "the input follows from the data (data.image_size, data.channels)",
    "classes": "it follows from the data",
    "weights": "model.weights sets it",
}
_DOWNLOAD_FAILED = "URL fetch failure"
"""How Keras' message opens where a file can't be fetched."""


def check_application(config: ApplicationModel) -> None:
    """Checks what can be checked without Keras: names of network and arguments, and that a weights file exists.

    Raises:
        ModelError: `keras.applications` has no such network, it has no such argument, or there is no such file.
    """
    names = keras_source.classes(_MODULE)
    if config.application not in names:
        raise ModelError(
            f"model.application='{config.application}' is not in {_MODULE}; {nearest(config.application, names)}"
        )
    if config.weights is not None and config.weights != IMAGENET:
        _weights_file(config.weights)
    allowed = set(keras_source.arguments(_MODULE, config.application)) - set(_SET_BY_QPIPE)
    for name in config.arguments:
        if name in _SET_BY_QPIPE:
            raise ModelError(f"model.arguments.{name} can't be set: {_SET_BY_QPIPE[name]}.")
        if name not in allowed:
            raise ModelError(
                f"model.arguments.{name} is not an argument of {_MODULE}.{config.application}; "
                f"{nearest(str(name), allowed)}"
            )


def build_application(config: ApplicationModel, signature: Signature) -> keras.Model:
    """Builds a network of `keras.applications` for the data's shape and classes.

    Args:
        config: name, weights and further arguments.
        signature: shapes of a sample and of its output; the task decides the activation of the output.

    Raises:
        ModelError: an unknown name or argument, data that are no images, weights that are missing, can't be
            downloaded or do not fit, or a value that the builder refuses.
    """
    check_application(config)
    if len(signature.input_shape) != 3:
        raise ModelError(
            f"model.application: {_MODULE}.{config.application} takes images (height, width, channels), "
            f"the data gives samples of shape {signature.input_shape}."
        )
    import keras

    new_head = _needs_new_head(config, signature)
    arguments = dict(config.arguments)
    if new_head:
        arguments["include_top"] = False
    elif "classifier_activation" in keras_source.arguments(_MODULE, config.application):
        arguments.setdefault("classifier_activation", OUTPUT_ACTIVATION[signature.task])
    model = _built(config, arguments, signature)
    if new_head:
        model = _with_head(model, signature)
    if config.batchnorm_momentum is not None:
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = config.batchnorm_momentum
    return model


def _needs_new_head(config: ApplicationModel, signature: Signature) -> bool:
    if config.arguments.get("include_top") is False:
        return True
    is_imagenet = signature.classes == IMAGENET_CLASSES and signature.task is Task.classification
    return config.weights == IMAGENET and not is_imagenet


def _built(config: ApplicationModel, arguments: dict[str, Any], signature: Signature) -> keras.Model:
    import keras

    builder = getattr(keras.applications, config.application)
    downloaded = IMAGENET if config.weights == IMAGENET else None
    try:
        model = builder(input_shape=signature.input_shape, classes=signature.classes, weights=downloaded, **arguments)
    except Exception as error:
        if _DOWNLOAD_FAILED in str(error):
            raise ModelError(
                f"model.weights={IMAGENET}: the weights of {config.application} can't be downloaded "
                f"({first_sentence(error)}); model.weights=null or the path of a weights file works without the "
                "network."
            ) from error
        raise ModelError(
            f"model.application: {_MODULE}.{config.application} refuses input_shape={signature.input_shape}, "
            f"classes={signature.classes}, weights={config.weights}, arguments={config.arguments}: "
            f"{first_sentence(error)}{_advice(str(error))}."
        ) from error
    if config.weights is not None and downloaded is None:
        _load_weights(model, config)
    return model


def _advice(message: str) -> str:
    """What to set where Keras finds the images too small."""
    if least := re.search(r"at least (\d+)x(\d+)", message):
        return f"; data.image_size=[{least[1]},{least[2]}] or more enlarges the images"
    if "would be negative" in message or "Negative dimension" in message:
        return "; data.image_size=[HEIGHT,WIDTH] enlarges the images"
    return ""


def _weights_file(weights: str) -> Path:
    needed = f"null, {IMAGENET} or the path of a weights file is needed"
    path = source_path(weights, "model.weights", ModelError, needed)
    if not path.is_file():
        raise ModelError(f"model.weights={path} is a folder; {needed}.")
    return path


def _load_weights(model: keras.Model, config: ApplicationModel) -> None:
    assert config.weights is not None
    path = _weights_file(config.weights)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Skipping nested container")  # the error says as much
            model.load_weights(path)
    except Exception as error:
        raise ModelError(
            f"model.weights={config.weights} can't be loaded into {_MODULE}.{config.application}: "
            f"{first_sentence(error)}; a file is needed that the same network, with the same arguments and classes, "
            "has saved."
        ) from error


def _with_head(base: keras.Model, signature: Signature) -> keras.Model:
    """Puts a global average pooling, unless the network has one, and a dense layer on a network."""
    import keras

    features = base.outputs[0]
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D(name="head_pooling")(features)
    activation = OUTPUT_ACTIVATION[signature.task]
    scores = keras.layers.Dense(signature.classes, activation=activation, name=HEAD)(features)
    return keras.Model(base.inputs[0], scores, name=base.name)
