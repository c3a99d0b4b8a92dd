"""Arrays of an `.npz` file; nothing in the file is ever unpickled."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from qpipe.config.schema import NpzData
from qpipe.data.array_checks import checked_part
from qpipe.data.part import Part, SourceParts
from qpipe.errors import DataError, nearest
from qpipe.source_path import source_path


def load_npz(config: NpzData) -> SourceParts[Part]:
    """Loads the parts that `config.keys` names.

    Raises:
        DataError: the file is missing, unreadable, truncated or foreign; a key is missing; an array holds
            Python objects; or images and labels don't fit.
    """
    keys = config.keys
    with _open(config) as file:
        train = _part(file, config, "train", keys.x_train, keys.y_train)
        if train is None:
            raise DataError("data.keys.x_train and data.keys.y_train are null: the training part has to be named.")
        return SourceParts(
            train=train,
            validation=_part(file, config, "validation", keys.x_validation, keys.y_validation),
            test=_part(file, config, "test", keys.x_test, keys.y_test),
        )


def check_file(config: NpzData) -> None:
    """Checks that the file is there and an `.npz` file, without reading its arrays.

    Raises:
        DataError: it is missing, unreadable or foreign.
    """
    _open(config).close()


def _open(config: NpzData) -> np.lib.npyio.NpzFile:
    path = source_path(config.path, "data.path", DataError)
    if path.is_dir():
        raise DataError(f"data.path={path} is a folder; the path of an .npz file is needed.")
    try:
        file = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise DataError(f"data.path={path} is not an .npz file, or it is truncated.") from None
    except OSError as error:
        raise DataError(f"data.path={path} can't be read: {error.strerror or error}.") from None
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise DataError(f"data.path={path} holds a single array (.npy); an .npz file with images and labels is needed.")
    return file


def _part(file: np.lib.npyio.NpzFile, config: NpzData, name: str, x_key: str | None, y_key: str | None) -> Part | None:
    if x_key is None and y_key is None:
        return None
    if x_key is None or y_key is None:
        missing = "x" if x_key is None else "y"
        raise DataError(
            f"data.keys.{missing}_{name} is null, but its partner is '{x_key or y_key}': "
            "name both arrays of a part, or set both to null."
        )
    path = source_path(config.path, "data.path", DataError)
    samples = _array(file, path, f"x_{name}", x_key)
    labels = _array(file, path, f"y_{name}", y_key)
    return checked_part(samples, labels, config, x_name=f"'{x_key}'", y_name=f"'{y_key}'", source=f"in {path}")


def _array(file: np.lib.npyio.NpzFile, path: Path, config_key: str, key: str) -> np.ndarray:
    if key not in file.files:
        advice = nearest(key, file.files)
        splittable = config_key not in ("x_train", "y_train")
        null = f" (data.keys.{config_key}=null splits this part off from the training part)" if splittable else ""
        raise DataError(f"data.keys.{config_key}='{key}' is not in {path}; {advice}{null}")
    try:
        return file[key]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError):
        raise DataError(f"'{key}' in {path} is damaged or truncated.") from None
    except ValueError as error:
        if "pickle" in str(error) or "Object arrays" in str(error):
            raise DataError(
                f"'{key}' in {path} holds Python objects, which are refused because loading them could run code; "
                "save it as an array of numbers."
            ) from None
        raise DataError(f"'{key}' in {path} is damaged or is not an array.") from None
