"""Models saved as `.keras` files; Python code inside them runs only where the user trusts the file."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from typing import TYPE_CHECKING

from qpipe.config.schema import FileModel
from qpipe.errors import ModelError
from qpipe.first_sentence import first_sentence
from qpipe.models.own_objects import own_objects
from qpipe.source_path import source_path

if TYPE_CHECKING:
    import keras

_NOT_TRUSTED = "set model.trusted=true if you trust this file, with the module that defines it in the working folder"
_NOWHERE = "its module is neither in the working folder nor among the installed packages"
_MEMBERS = ("config.json", "metadata.json", "model.weights.h5")


def load_file(config: FileModel, modules: Iterable[str] = ()) -> keras.Model:
    """Loads a `.keras` file, without compiling it.

    Args:
        config: the path, and whether the file may run code: of its own, and of the modules that it names.
        modules: further modules with classes and functions of the file, which are imported if it is trusted.

    Raises:
        ModelError: the file is missing, unreadable, truncated, foreign or, unless trusted, holds code.
    """
    check_file(config)
    path = source_path(config.path, "model.path", ModelError)
    import keras

    import qpipe.layers  # noqa: F401  (registers our layers, so that files with them load)

    try:
        custom = own_objects(path, modules) if config.trusted else None
        return keras.saving.load_model(path, custom_objects=custom, compile=False, safe_mode=not config.trusted)
    except Exception as error:
        if not config.trusted and _is_refused_as_unsafe(error):
            raise ModelError(
                f"model.path={path} holds Python code (a Lambda layer or similar) that would run when it is loaded: "
                "set model.trusted=true if you trust this file."
            ) from error
        if unknown := re.search(r"Could not locate (?:class|function) '([^']+)'", str(error)):
            advice = _NOWHERE if config.trusted else _NOT_TRUSTED
            raise ModelError(f"model.path={path} needs {unknown[1]!r}, which Keras does not have: {advice}.") from error
        raise ModelError(f"model.path={path} can't be loaded by Keras: {first_sentence(error)}.") from error


def check_file(config: FileModel) -> None:
    """Checks what can be checked without Keras: that the file is there, whole, and a `.keras` file.

    Raises:
        ModelError: it is missing, unreadable, truncated or foreign.
    """
    path = source_path(config.path, "model.path", ModelError)
    if path.is_dir():
        raise ModelError(f"model.path={path} is a folder; the path of a .keras file is needed.")
    try:
        with zipfile.ZipFile(path) as archive:
            missing = [name for name in _MEMBERS if name not in archive.namelist()]
            damaged = None if missing else archive.testzip()
    except zipfile.BadZipFile:
        raise ModelError(
            f"model.path={path} is not a .keras file, or it is truncated; "
            "an HDF5 or SavedModel file becomes one with model.save('name.keras')."
        ) from None
    except OSError as error:
        raise ModelError(f"model.path={path} can't be read: {error.strerror or error}.") from None
    if missing:
        raise ModelError(f"model.path={path} is a zip archive but not a .keras file: it lacks {missing[0]}.")
    if damaged:
        raise ModelError(f"model.path={path} is damaged: the checksum of its member {damaged} is wrong.")
    if path.suffix != ".keras":
        raise ModelError(f"model.path={path} has to end in .keras: Keras tells formats apart by the ending.")


def _is_refused_as_unsafe(error: BaseException) -> bool:
    message = str(error)
    return "safe_mode" in message or "unsafe" in message
