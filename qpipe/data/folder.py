"""A folder of images with a sub-folder for each class: which files there are and what they show."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qpipe.config.schema import FolderData, Task
from qpipe.data.part import SourceParts
from qpipe.data.samples import ArraySamples
from qpipe.errors import DataError
from qpipe.source_path import source_path

logger = logging.getLogger("qpipe")

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_VALIDATION_FOLDERS = ("validation", "val")


@dataclass(frozen=True, kw_only=True)
class FilePart:
    """Image files of one part and their classes; nothing of them has been read.

    Attributes:
        files: paths (samples,), of objects.
        y: class numbers.
    """

    files: np.ndarray
    y: ArraySamples

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: np.ndarray) -> FilePart:
        """The files at `indices`, in that order."""
        return FilePart(files=self.files[indices], y=self.y.take(indices))


@dataclass
class _Walk:
    """What is found in a folder, and what is passed over."""

    passed_over: list[Path] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=dict)


def check_folder(config: FolderData) -> None:
    """Checks folders and file names without opening a file.

    Raises:
        DataError: see `load_folder`.
    """
    _list_parts(config)


def load_folder(config: FolderData) -> SourceParts[FilePart]:
    """Lists the images of each part; hidden files and folders are ignored.

    Files in class folders that are no images by their ending are passed over with one warning, as are folders below
    the classes.

    Raises:
        DataError: the folder is missing, has no class sub-folders or only one, a class folder is empty, parts have
            different classes, or the task is not a classification of images.
    """
    parts, passed_over = _list_parts(config)
    if passed_over:
        logger.warning(
            "data.path=%s: %d files or folders are passed over, such as %s: images are %s files in a class's folder.",
            config.path,
            len(passed_over),
            passed_over[0],
            ", ".join(IMAGE_SUFFIXES),
        )
    names = tuple(parts["train"])
    return SourceParts(
        train=_part(parts["train"]),
        validation=_part(parts["validation"]) if "validation" in parts else None,
        test=_part(parts["test"]) if "test" in parts else None,
        class_names=names,
    )


def _part(classes: dict[str, list[str]]) -> FilePart:
    files = np.array([file for listed in classes.values() for file in listed], dtype=object)
    numbers = np.repeat(np.arange(len(classes), dtype=np.int64), [len(listed) for listed in classes.values()])
    return FilePart(files=files, y=ArraySamples(numbers, np.dtype(np.int64)))


def _list_parts(config: FolderData) -> tuple[dict[str, dict[str, list[str]]], list[Path]]:
    """Returns the files of each class of each part, and what is passed over."""
    if config.task is not Task.classification or not config.images:
        key, value = ("images", "false") if not config.images else ("task", config.task.value)
        raise DataError(
            f"data.{key}={value} does not fit a folder of images in classes; allowed: data.task="
            "classification with data.images=true"
        )
    root = source_path(config.path, "data.path", DataError)
    if not root.is_dir():
        raise DataError(f"data.path={root} is a file; a folder with a sub-folder of images for each class is needed.")
    folders = _part_folders(root)
    walks = {name: _classes(folder) for name, folder in folders.items()}
    passed_over = [path for walk in walks.values() for path in walk.passed_over]
    if len(folders) > 1 or folders["train"] != root:
        passed_over += [path for path in _entries(root) if path not in folders.values()]
    for name, walk in walks.items():
        if list(walk.classes) != list(walks["train"].classes):
            _refuse_other_classes(folders[name], set(walk.classes), folders["train"], set(walks["train"].classes))
    return {name: walk.classes for name, walk in walks.items()}, passed_over


def _part_folders(root: Path) -> dict[str, Path]:
    """Folders of the parts: `root` itself, unless it has a sub-folder `train` with sub-folders of its own."""
    train = root / "train"
    if not train.is_dir() or not any(entry.is_dir() for entry in _entries(train)):
        return {"train": root}
    validation = [root / name for name in _VALIDATION_FOLDERS if (root / name).is_dir()]
    if len(validation) > 1:
        raise DataError(f"data.path={root} has both 'validation' and 'val'; one of them is needed.")
    folders = {"train": train}
    if validation:
        folders["validation"] = validation[0]
    if (root / "test").is_dir():
        folders["test"] = root / "test"
    return folders


def _classes(folder: Path) -> _Walk:
    walk = _Walk()
    for entry in _entries(folder):
        if entry.is_dir():
            walk.classes[entry.name] = _images(entry, walk)
        else:
            walk.passed_over.append(entry)
    if not walk.classes:
        raise DataError(f"data.path: {folder} has no sub-folders; one sub-folder of images for each class is needed.")
    if len(walk.classes) == 1:
        only = next(iter(walk.classes))
        raise DataError(f"data.path: {folder} has only one sub-folder, {only!r}; at least two classes are needed.")
    return walk


def _images(folder: Path, walk: _Walk) -> list[str]:
    entries = _entries(folder)
    found = [str(entry) for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file()]
    if not found:
        below = "; it has sub-folders, which are not searched" if any(entry.is_dir() for entry in entries) else ""
        endings = ", ".join(IMAGE_SUFFIXES)
        raise DataError(f"data.path: the class folder {folder} has no images ({endings}){below}.")
    if len(found) < len(entries):
        images = set(found)
        walk.passed_over += [entry for entry in entries if str(entry) not in images]
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"data.path: {folder} can't be read: {error.strerror or error}.") from None


def _refuse_other_classes(folder: Path, classes: set[str], train: Path, expected: set[str]) -> None:
    more, fewer = sorted(classes - expected), sorted(expected - classes)
    verb, example = ("has", more[0]) if more else ("lacks", fewer[0])
    raise DataError(
        f"data.path: {folder} {verb} the class {example!r}, unlike {train}: all parts need the same class sub-folders."
    )
