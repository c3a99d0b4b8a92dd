"""From a model configuration to a Keras model that is known to fit the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qpipe.config.schema import ApplicationModel, FileModel, ModelConfig
from qpipe.errors import ModelError
from qpipe.models.application import build_application, check_application
from qpipe.models.fit import check_fit
from qpipe.models.saved_file import check_file, load_file

if TYPE_CHECKING:
    import keras


def check_model_source(config: ModelConfig) -> None:
    """Checks what can be checked without Keras: names and files.

    Raises:
        ModelError: the model is unknown, missing, unreadable or foreign.
    """
    if isinstance(config, ApplicationModel):
        check_application(config)
    elif isinstance(config, FileModel):
        check_file(config)


def build_model(config: ModelConfig, *, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Builds or loads the float model.

    Fresh weights depend on Keras' global seed (`keras.utils.set_random_seed`).

    Args:
        config: `ApplicationModel` or `FileModel`.
        input_shape: (height, width, channels) of the data.
        classes: number of classes of the data.

    Returns:
        A model with one input (samples, *input_shape) and one output (samples, classes), not compiled.

    Raises:
        ModelError: the model is unknown, missing, unreadable, unsafe, or does not fit the data.
    """
    if isinstance(config, ApplicationModel):
        model = build_application(config, input_shape=input_shape, classes=classes)
    elif isinstance(config, FileModel):
        model = load_file(config)
    else:
        raise ModelError(f"model is of the kind {type(config).__name__}; allowed: ApplicationModel, FileModel.")
    check_fit(model, input_shape=input_shape, classes=classes)
    return model
