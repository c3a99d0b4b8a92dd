"""Classes and functions of the user's own that a `.keras` file names; Keras loads registered ones only."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from qpipe import targets
from qpipe.errors import QpipeError

_KNOWN = ("keras", "qpipe", "builtins")
_FUNCTION = "function"
"""What Keras writes in the place of a function's class; its module is not in the file."""

_LAMBDA = "__lambda__"


def own_objects(path: Path, modules: Iterable[str] = ()) -> dict[str, Any]:
    """Imports what a `.keras` file names of modules outside Keras and this package.

    Modules of the working folder are found. A function is looked for in `modules` and in those of the file's classes.
    What can't be imported is left out: Keras names it when it loads the file.

    Args:
        path: a `.keras` file whose code is trusted.
        modules: further modules of the user's own.

    Returns:
        Classes and functions under the names by which Keras looks them up.
    """
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    named = [part for part in _parts(config) if isinstance(part.get("class_name"), str)]
    classes = [part for part in named if str(part.get("module")).split(".")[0] not in (*_KNOWN, "None")]
    functions = {str(part["config"]) for part in named if part["class_name"] == _FUNCTION}
    found: dict[str, Any] = {}
    for part in classes:
        _find(found, part["module"], part["class_name"], part.get("registered_name") or part["class_name"])
    for module in dict.fromkeys([*modules, *(part["module"] for part in classes)]):
        for name in functions - found.keys():
            _find(found, module, name, name)
    return found


def names_own_code(config: Any) -> bool:
    """Whether a serialized model holds anything but what Keras and this package define: a class, function or lambda."""
    return any(
        part["class_name"] in (_FUNCTION, _LAMBDA) or str(part.get("module")).split(".")[0] not in (*_KNOWN, "None")
        for part in _parts(config)
        if isinstance(part.get("class_name"), str)
    )


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    """Yields every mapping in a configuration."""
    if isinstance(config, dict):
        yield config
        for inner in config.values():
            yield from _parts(inner)
    elif isinstance(config, list):
        for inner in config:
            yield from _parts(inner)


def _find(found: dict[str, Any], module: str, name: str, registered: str) -> None:
    try:
        found[registered] = targets.locate(f"{module}.{name}", "model")
    except QpipeError:
        return
