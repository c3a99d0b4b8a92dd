"""What a configuration names, by its content: files and the source of `_target_`s, for keys of caches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qpipe.targets import TARGET


def with_contents(value: Any, *, is_argument: bool = False) -> Any:
    """Returns plain data with name and SHA-256 in the place of each text that is the path of a file.

    Args:
        value: mappings, lists and scalars; values inside a mapping count as arguments.
        is_argument: whether a text is looked at; a name on its own, such as `adam`, is left as it is.
    """
    if isinstance(value, Mapping):
        return {name: with_contents(inner, is_argument=True) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [with_contents(inner, is_argument=is_argument) for inner in value]
    if is_argument and isinstance(value, str) and os.path.isfile(path := os.path.expanduser(value)):
        return {"file": os.path.basename(path), "sha256": sha256(Path(path))}
    return value


def targets_in(value: Any) -> Iterator[str]:
    """Yields the dotted path of every `_target_` in plain data."""
    if isinstance(value, Mapping):
        if isinstance(value.get(TARGET), str):
            yield value[TARGET]
        for inner in value.values():
            yield from targets_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from targets_in(inner)


def sha256(path: Path) -> str:
    """Returns the SHA-256 (hex) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
