"""A tree of numbers, text and NumPy arrays in one file, written at once or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from qpipe.storage import flush_to_disk

_TREE = "tree"
_ARRAY = "\0array"


def write_state(path: Path, state: Any) -> None:
    """Writes a state to a file; after a crash the file holds either the old state or the new one.

    Args:
        path: the file; its folder exists.
        state: None, booleans, numbers, text, NumPy arrays, and lists and mappings (with text as keys) of these.

    Raises:
        OSError: the file can't be written; the old one is as it was.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_without_arrays(state, arrays))
    temporary = unfinished(path)
    try:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_TREE: np.frombuffer(text.encode(), "uint8")}, **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_to_disk(path.parent)


def read_state(path: Path) -> Any:
    """Returns what `write_state` wrote.

    Raises:
        OSError: the file can't be read.
        ValueError: it is damaged, or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _with_arrays(json.loads(arrays.pop(_TREE).tobytes()), arrays)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"it is damaged or foreign: {error}") from error


def unfinished(path: Path) -> Path:
    """Returns the file that `write_state` writes before it takes the place of `path`."""
    return path.with_name(f"{path.name}.writing")


def _without_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        name = f"array{len(arrays)}"
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, dict):
        return {key: _without_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(item, arrays) for item in value]
    return value


def _with_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_with_arrays(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {_ARRAY}:
        return arrays[value[_ARRAY]]
    return {key: _with_arrays(item, arrays) for key, item in value.items()}
