"""Composes YAML files and overrides into one typed configuration, through Hydra."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write

from qpipe.config.errors import plain_errors
from qpipe.config.location import conf_directory
from qpipe.config.overrides import rewrite_overrides
from qpipe.config.registry import register_schema
from qpipe.config.schema import JobConfig
from qpipe.config.suggestions import unknown_key
from qpipe.errors import ConfigError

CONFIG_NAME = "config"
VERSION_BASE = "1.3"


@contextmanager
def composed(overrides: Sequence[str], config_dir: Path | None = None) -> Iterator[DictConfig]:
    """Composes the configuration, with Hydra initialized as long as the context is open.

    Args:
        overrides: as on the command line, for one job.
        config_dir: the user's own configuration folder, searched after the package's.

    Yields:
        The whole tree, the `hydra` node included, with interpolations unresolved.

    Raises:
        ConfigError: a file, key, option or value is wrong.
    """
    register_schema()
    arguments = rewrite_overrides(overrides)
    if config_dir is not None:
        if any(argument.lstrip("+").startswith("hydra.searchpath=") for argument in arguments):
            raise ConfigError("hydra.searchpath: give either --config-dir or hydra.searchpath, not both")
        arguments.append(f"hydra.searchpath=[{_quoted(f'file://{config_dir}')}]")
    with initialize_config_dir(str(conf_directory()), job_name="qpipe", version_base=VERSION_BASE):
        with plain_errors(config_dir):
            tree = compose(CONFIG_NAME, arguments, return_hydra_config=True)
        check_keys(tree)
        yield tree


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def job_tree(tree: DictConfig) -> DictConfig:
    """Returns a copy of the tree without the `hydra` node."""
    tree = copy.deepcopy(tree)
    with read_write(tree), open_dict(tree):
        tree.pop("hydra", None)
    return tree


def to_job_config(tree: DictConfig) -> JobConfig:
    """Resolves interpolations and turns a composed tree into the schema's objects.

    Raises:
        ConfigError: a key is unknown, a `???` was not set, or an interpolation can't be resolved.
    """
    tree = job_tree(tree)
    check_keys(tree)
    with plain_errors():
        missing = sorted(OmegaConf.missing_keys(tree))
        if missing:
            raise ConfigError(f"{missing[0]} is not set: give it on the command line as {missing[0]}=...")
        config = OmegaConf.to_object(tree)
    assert isinstance(config, JobConfig)
    return config


def check_keys(node: Any, path: str = "") -> None:
    """Refuses keys that the schema does not have: Hydra itself takes them where they are added with `+`.

    Raises:
        ConfigError: names the key's path and the nearest match.
    """
    if isinstance(node, ListConfig) and not (node._is_none() or node._is_missing()):
        for index in range(len(node)):
            check_keys(node._get_node(index), f"{path}[{index}]")
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing() or node._is_interpolation():
        return
    kind = OmegaConf.get_type(node)
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else None
    for key in node:
        inner = f"{path}.{key!s}" if path else str(key)
        if inner == "hydra":
            continue
        if fields is not None and key not in fields:
            raise ConfigError(unknown_key(inner, kind))
        check_keys(node._get_node(key), inner)
