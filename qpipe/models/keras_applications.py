"""What `keras.applications` offers, read from its files without importing Keras (which takes seconds)."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path


def _package_folder() -> Path:
    spec = importlib.util.find_spec("keras")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("Keras is not installed.")
    return Path(spec.origin).parent / "applications"


@cache
def builder_names() -> tuple[str, ...]:
    """Names of the network builders, such as `MobileNet` and `ResNet50`, in alphabetical order."""
    tree = ast.parse((_package_folder() / "__init__.py").read_text())
    imported = (
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    )
    return tuple(sorted(name for name in imported if name[0].isupper()))


@cache
def preprocess_names() -> tuple[str, ...]:
    """Names of the modules that have a `preprocess_input`, such as `mobilenet`, in alphabetical order."""
    modules = (folder.parent for folder in _package_folder().glob("*/__init__.py"))
    return tuple(sorted(module.name for module in modules if module.name != "imagenet_utils"))
