"""The cache of trained float models: one folder per key, written at once or not at all."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qpipe.content import sha256
from qpipe.errors import ModelError
from qpipe.lock import locked
from qpipe.storage import flush_to_disk

if TYPE_CHECKING:
    import keras

logger = logging.getLogger("qpipe")

_MODEL, _HISTORY, _METADATA, _CHECKSUMS = "model.keras", "history.json", "metadata.json", "sha256.json"
_ABANDONED_AFTER_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class CachedModel:
    """One entry.

    Attributes:
        model_path: the `.keras` file.
        history: metrics per epoch, as Keras' `History.history`.
        metadata: what `store` was given.
    """

    model_path: Path
    history: dict[str, Any]
    metadata: dict[str, Any]


class FloatModelCache:
    """Trained float models under keys that hash what determines them.

    Args:
        folder: where the entries are; it is created when it is first written to.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def load(self, key: str) -> CachedModel | None:
        """Finds an entry and verifies its checksums; a damaged one is reported and removed.

        Args:
            key: the hash of what determines the model.

        Returns:
            The entry, or None where there is none (any more).
        """
        entry = self.folder / key
        if not entry.is_dir():
            return None
        try:
            checksums = json.loads((entry / _CHECKSUMS).read_text())
            for name in (_MODEL, _HISTORY, _METADATA):
                if sha256(entry / name) != checksums[name]:
                    raise ValueError(f"the checksum of {name} is wrong")
            return CachedModel(
                model_path=entry / _MODEL,
                history=json.loads((entry / _HISTORY).read_text()),
                metadata=json.loads((entry / _METADATA).read_text()),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("The cached float model in %s is damaged (%s): it is removed and made again.", entry, error)
            self._remove(entry)
            return None

    def store(
        self, key: str, model: keras.Model, history: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> CachedModel:
        """Writes an entry; where another job has written it meanwhile, that one stays and is returned.

        Args:
            key: the hash of what determines the model.
            model: the trained model.
            history: metrics per epoch: lists of numbers.
            metadata: anything serializable as JSON.

        Raises:
            ModelError: the folder can't be written, or the disk is full; nothing half-written is left.
        """
        if (existing := self.load(key)) is not None:
            return existing
        temporary: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            temporary = Path(tempfile.mkdtemp(dir=self.folder, prefix=f".writing-{key}-"))
            _write_entry(temporary, model, history, metadata)
            if not _renamed(temporary, self.folder / key):
                logger.info("Another job has stored the float model %s first; its copy is used.", key)
        except OSError as error:
            raise ModelError(
                f"The trained float model can't be stored in {self.folder} ({error.strerror or error}): "
                "free some space, get permission, or set runs_dir to another folder."
            ) from error
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
        stored = self.load(key)
        if stored is None:
            raise ModelError(f"The float model {key} was written to {self.folder}, but can't be read back.")
        return stored

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Holds the entry while a job looks it up and trains it; other jobs with the same key wait, and say so.

        Raises:
            ModelError: the lock file can't be written.
        """
        try:
            lock = locked(self.folder / f"{key}.lock", "Another job trains the same float model")
        except OSError as error:
            raise ModelError(
                f"The cache of float models in {self.folder} can't be written ({error.strerror or error}): "
                "get permission, or set runs_dir to another folder."
            ) from error
        with lock:
            yield

    def _remove(self, entry: Path) -> None:
        try:
            grave = Path(tempfile.mkdtemp(dir=self.folder, prefix=".removing-"))
            entry.rename(grave / entry.name)
            shutil.rmtree(grave)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ModelError(
                f"The damaged cache entry {entry} can't be removed ({error.strerror or error}): remove it yourself."
            ) from error

    def _remove_abandoned(self) -> None:
        for left_over in (*self.folder.glob(".writing-*"), *self.folder.glob(".removing-*")):
            try:
                age = time.time() - left_over.stat().st_mtime
            except FileNotFoundError:
                continue
            if age > _ABANDONED_AFTER_SECONDS:
                shutil.rmtree(left_over, ignore_errors=True)


def _write_entry(folder: Path, model: keras.Model, history: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    model.save(folder / _MODEL)
    (folder / _HISTORY).write_text(json.dumps(dict(history), default=float))
    (folder / _METADATA).write_text(json.dumps(dict(metadata)))
    names = (_MODEL, _HISTORY, _METADATA)
    (folder / _CHECKSUMS).write_text(json.dumps({name: sha256(folder / name) for name in names}))
    for name in (*names, _CHECKSUMS):
        flush_to_disk(folder / name)
    flush_to_disk(folder)


def _renamed(source: Path, target: Path) -> bool:
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        return False
    flush_to_disk(target.parent)
    return True
