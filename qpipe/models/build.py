"""From a model configuration to a Keras model that is known to fit the data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qpipe.config.schema import ApplicationModel, CallableModel, FileModel, LayersModel, ModelConfig
from qpipe.errors import ModelError
from qpipe.models.application import build_application, check_application
from qpipe.models.callable_model import build_callable, check_callable
from qpipe.models.fit import check_fit
from qpipe.models.identity import target_paths
from qpipe.models.layer_list import read_layer_list
from qpipe.models.layer_model import build_layers
from qpipe.models.saved_file import check_file, load_file
from qpipe.signature import Signature

if TYPE_CHECKING:
    import keras


def check_model_source(config: ModelConfig) -> None:
    """Checks what can be checked without Keras: names, arguments, layer lists and files.

    Raises:
        ConfigError: a layer list or a dotted path is wrong.
        ModelError: the model is unknown, missing, unreadable or foreign.
    """
    if isinstance(config, ApplicationModel):
        check_application(config)
    elif isinstance(config, FileModel):
        check_file(config)
    elif isinstance(config, LayersModel):
        read_layer_list(config)
    elif isinstance(config, CallableModel):
        check_callable(config)


def build_model(config: ModelConfig, signature: Signature) -> keras.Model:
    """Builds or loads the float model.

    Fresh weights depend on Keras' global seed (`keras.utils.set_random_seed`).

    Args:
        config: any kind of model.
        signature: shapes of a sample and of its output, as the data has them.

    Returns:
        A model with one input (samples, *input_shape) and outputs (samples, *output_shape), not compiled.

    Raises:
        ConfigError: a layer list, a dotted path or an argument is wrong.
        ModelError: the model is unknown, missing, unreadable, unsafe, or does not fit the data.
    """
    model = _built(config, signature)
    check_fit(model, signature)
    return model


def load_built(config: ModelConfig, path: Path) -> keras.Model:
    """Loads a model that was built from a configuration and then saved.

    Code in it is the user's own and may run, unless it came with a file that is not trusted.

    Args:
        config: what the model was built from.
        path: the `.keras` file.

    Raises:
        ModelError: the file can't be loaded.
    """
    trusted = not isinstance(config, FileModel) or config.trusted
    modules = [target.rpartition(".")[0] for target in target_paths(config)]
    return load_file(FileModel(path=str(path), trusted=trusted), modules)


def _built(config: ModelConfig, signature: Signature) -> keras.Model:
    if isinstance(config, ApplicationModel):
        return build_application(config, signature)
    if isinstance(config, FileModel):
        return load_file(config)
    if isinstance(config, LayersModel):
        return build_layers(config, signature)
    if isinstance(config, CallableModel):
        return build_callable(config, signature)
    raise ModelError(f"model is of the kind {type(config).__name__}, which can't be built.")
