"""Models that a function of the user's own returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qpipe import targets
from qpipe.config.schema import CallableModel
from qpipe.errors import ModelError
from qpipe.signature import Signature

if TYPE_CHECKING:
    import keras

_WHERE = "model._target_"


def check_callable(config: CallableModel) -> None:
    """Checks the dotted paths of the function and inside its arguments, without importing them.

    Raises:
        ConfigError: a module does not exist, or Keras has no such name or argument.
    """
    targets.check_target(config._target_, _WHERE, config.arguments)
    targets.check_targets(config.arguments, "model.arguments")


def build_callable(config: CallableModel, signature: Signature) -> keras.Model:
    """Calls the user's function.

    Args:
        config: dotted path and arguments.
        signature: the function is offered `input_shape` and `classes`.

    Raises:
        ConfigError: there is no such function, it has no such argument, or it raises an error.
        ModelError: it returns something else than a Keras model.
    """
    model = targets.call(
        config._target_,
        config.arguments,
        _WHERE,
        "model.arguments",
        input_shape=signature.input_shape,
        classes=signature.classes,
    )
    import keras

    if not isinstance(model, keras.Model):
        raise ModelError(f"{_WHERE}: {config._target_} returned a {type(model).__name__}; a Keras model is needed.")
    return model
