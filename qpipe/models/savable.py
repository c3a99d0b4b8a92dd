"""Whether a model of the user's own code survives being saved and loaded, found out before it is trained."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from qpipe.config.schema import ApplicationModel, FileModel, LayersModel, ModelConfig
from qpipe.errors import ModelError
from qpipe.first_sentence import first_sentence
from qpipe.models.build import load_built
from qpipe.models.identity import target_paths
from qpipe.models.own_objects import names_own_code

if TYPE_CHECKING:
    import keras

_CULPRIT = re.compile(
    r"Object (\w+) was created"
    r"|Could not locate (?:class|function) '([^']+)'"
    r"|<class '([^']+)'> could not be deserialized"
    r"|Error when deserializing class '([^']+)'"
)
"""Where Keras' and Python's messages name the class or function that can't be saved or loaded."""
_INNER = "Exception encountered: "
"""What precedes the message of the innermost error where Keras nests them."""
_ADVICE = (
    "give its class a get_config, register it with keras.saving.register_keras_serializable, "
    "or move the function into the module that the configuration names"
)


def check_savable(config: ModelConfig, model: keras.Model) -> None:
    """Saves a freshly built model into a temporary folder and loads it; nothing is done for Keras' own layers.

    Args:
        config: what the model was built from.
        model: as `build_model` returns it.

    Raises:
        ModelError: it can't be saved, or can't be loaded again.
    """
    if isinstance(config, ApplicationModel | FileModel) or not target_paths(config):
        return
    try:
        if not names_own_code(json.loads(model.to_json())):
            return
        with tempfile.TemporaryDirectory(prefix="qpipe-") as folder:
            path = Path(folder) / "model.keras"
            model.save(path)
            load_built(config, path)
    except Exception as error:
        cause = error.__cause__ if isinstance(error, ModelError) and error.__cause__ else error
        name = _culprit(str(cause))
        culprit = f" because of {name!r}" if name else ""
        reason = first_sentence(ValueError(str(cause).rpartition(_INNER)[2]))
        where = "model.layers" if isinstance(config, LayersModel) else "model._target_"
        raise ModelError(
            f"{where}: the model can't be saved and loaded again{culprit} ({reason}): {_ADVICE}."
        ) from error


def _culprit(message: str) -> str | None:
    """Name of the innermost class or function of the user's own that a message of Keras names."""
    names = [next(filter(None, found.groups())) for found in _CULPRIT.finditer(message)]
    return next((name for name in reversed(names) if not name.startswith("keras.")), None)
