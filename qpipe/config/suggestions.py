"""What a misspelt key or option was probably meant to be."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qpipe.config import registry, schema
from qpipe.config.catalog import group_options
from qpipe.config.location import config_directories
from qpipe.config.overrides import ADDED_GROUPS
from qpipe.errors import nearest

EXTRAS = {
    ("hydra/launcher", "joblib"): "joblib",
    ("hydra/launcher", "submitit_local"): "submitit",
    ("hydra/launcher", "submitit_slurm"): "submitit",
    ("hydra/launcher", "ray"): "ray",
    ("hydra/launcher", "ray_aws"): "ray",
    ("hydra/sweeper", "optuna"): "optuna",
    ("hydra/sweeper/sampler", "nsgaii"): "optuna",
}
"""Options that come with an extra of the package, and the extra."""


def unknown_key(path: str, kind: Any, wanted: str | None = None) -> str:
    """Says in one sentence that a key does not exist, and what may have been meant.

    Args:
        path: the key's dotted path, such as `model.widht`.
        kind: the dataclass that lacks the key.
        wanted: the longer path that the user wrote, if `path` is only its unknown part.
    """
    parent, _, key = path.rpartition(".")
    start = f"{wanted or path}: there is no such key"
    if parent == "" and key in ADDED_GROUPS:
        return f"{path}: a file of this group must begin with the line '# @package _global_'"
    elsewhere = _kinds_with(parent, key)
    if kind in (schema.ModelConfig, schema.DataConfig):
        kinds = elsewhere or sorted(registry.MODELS if kind is schema.ModelConfig else registry.DATA_SOURCES)
        return f"{start}: its file must begin with 'defaults: [KIND, _self_]', KIND being " + " or ".join(kinds)
    if elsewhere:
        return f"{start} here; it belongs to " + " or ".join(f"{parent}={name}" for name in elsewhere)
    if not dataclasses.is_dataclass(kind):
        return start
    same_name = sorted(full for full in schema_paths() if full.endswith(f".{wanted or path}"))
    if same_name and parent == "":
        return f"{start}; did you mean " + " or ".join(repr(full) for full in same_name[:4]) + "?"
    names = _names(kind)
    if kind is schema.JobConfig:
        names += ADDED_GROUPS
    return f"{start}; {nearest(key, names)}"


def unknown_option(group: str, option: str, config_dir: Path | None) -> str:
    """Says in one sentence that a group has no such option, and what may have been meant."""
    if (extra := EXTRAS.get((group, option))) is not None:
        return f"{group}={option}: its package is not installed: pip install 'qpipe[{extra}]'"
    options = [known.name for known in group_options(config_directories(config_dir)).get(group, [])]
    return f"{group}={option}: there is no such option; {nearest(option, options)}"


def schema_paths() -> set[str]:
    """Returns the dotted paths of all keys of the schema, over all kinds of models and data sources."""
    paths = set(_paths(schema.JobConfig, ""))
    for model in registry.MODELS.values():
        paths |= set(_paths(model, "model."))
    for source in registry.DATA_SOURCES.values():
        paths |= set(_paths(source, "data."))
    return paths


def _paths(kind: type, prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        yield prefix + field.name
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _paths(hints[field.name], f"{prefix}{field.name}.")


def _kinds_with(group: str, key: str) -> list[str]:
    kinds: dict[str, Mapping[str, type]] = {"model": registry.MODELS, "data": registry.DATA_SOURCES}
    return [name for name, kind in kinds.get(group, {}).items() if key in _names(kind)]


def _names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]
