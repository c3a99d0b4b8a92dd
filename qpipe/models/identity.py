"""What determines an untrained model: the part of the float-model cache's key that comes from `model`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from qpipe import targets
from qpipe.config.schema import FileModel, LayersModel, ModelConfig
from qpipe.content import sha256, targets_in, with_contents
from qpipe.errors import ModelError
from qpipe.models.layer_list import read_layer_list
from qpipe.models.own_objects import own_objects
from qpipe.source_path import source_path


def model_identity(config: ModelConfig) -> dict[str, Any]:
    """Returns plain data that is equal for equal untrained models (with the same seed and packages).

    Files that a value names count with their name and content, whatever folder they are in. Of `_target_`,
    of layers of the user's own and of what a trusted file names, the source of the module that the path names and of
    the one that defines the target counts; modules that these import are not looked at.

    Args:
        config: any kind of model.

    Returns:
        `kind`, `config`, and under `sources` the SHA-256 (hex) of the modules' files.
    """
    files = {path: targets.source_files(path) for path in target_paths(config)}
    if isinstance(config, FileModel) and config.trusted:
        named = own_objects(source_path(config.path, "model.path", ModelError))
        files |= {name: [file] for name, value in named.items() if (file := targets.defining_file(value)) is not None}
    return {
        "kind": type(config).__name__,
        "config": with_contents(asdict(config)),
        "sources": {path: [sha256(file) for file in found] for path, found in sorted(files.items())},
    }


def target_paths(config: ModelConfig) -> list[str]:
    """Returns the dotted paths that a model's configuration names, in alphabetical order."""
    paths = set(targets_in(asdict(config)))
    if isinstance(config, LayersModel):
        paths |= {layer.target for layer in read_layer_list(config).entries if layer.keras_class is None}
    return sorted(paths)
