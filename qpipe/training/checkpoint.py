"""Checkpoints of trainings: one file per key, which goes away when the training's result is safe."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from qpipe.config.fingerprint import fingerprint
from qpipe.config.schema import JobConfig
from qpipe.training.identity import training_identity, versions
from qpipe.training.state_file import read_state, unfinished, write_state

logger = logging.getLogger("qpipe")

KEPT_SECONDS = 30 * 24 * 3600.0


@dataclass(kw_only=True)
class TrainingState:
    """A training after a whole epoch.

    Attributes:
        epoch: epochs that are done.
        ended: whether a callback has ended the training.
        history: metrics of these epochs.
        variables: all of the model's: weights, moving statistics, step counts, seed generators.
        optimizer: all of the optimizer's.
        callbacks: plain state of each callback.
    """

    epoch: int
    ended: bool
    history: dict[str, list[float]]
    variables: list[np.ndarray]
    optimizer: list[np.ndarray]
    callbacks: list[dict[str, Any]]


def qat_key(config: JobConfig, float_key: str) -> str:
    """Returns the key of a quantization-aware training: a hash of all that determines its result.

    Args:
        config: the job.
        float_key: hash of all that determines the float model, its data and the seed included.
    """
    training = config.training
    return fingerprint(
        "qat",
        float_key,
        config.folding,
        config.quantizer,
        config.adaround,
        config.post_training,
        config.data.calibration_samples,
        config.seed,
        training_identity(training, training.qat),
        versions(),
    )


class Checkpoint:
    """The checkpoint of one training; only the job that has it open reads and writes it.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path):
        self.path = path
        self._has_warned = False

    def load(self) -> TrainingState | None:
        """Returns the last state; None where there is none, or where it was damaged, which is reported."""
        if not self.path.exists():
            return None
        try:
            content = read_state(self.path)
        except (OSError, ValueError) as error:
            self.reject(str(error))
            return None
        if not isinstance(content, dict) or set(content) != {entry.name for entry in fields(TrainingState)}:
            self.reject("it is damaged or foreign: it holds something else")
            return None
        return TrainingState(**content)

    def save(self, state: TrainingState) -> bool:
        """Writes a state over the last one; where that fails, it says so once and the last one stays.

        Returns:
            Whether the state was written.
        """
        try:
            write_state(self.path, vars(state))
        except OSError as error:
            if not self._has_warned:
                logger.warning(
                    "The checkpoint %s can't be written (%s): the training goes on, but can't be resumed from here.",
                    self.path,
                    error.strerror or error,
                )
            self._has_warned = True
            return False
        return True

    def reject(self, reason: str) -> None:
        """Removes a checkpoint that is of no use, and reports it."""
        logger.warning("The checkpoint %s is removed, and the training starts anew: %s.", self.path, reason)
        self.discard()

    def discard(self) -> None:
        """Removes the checkpoint, because the result is safe elsewhere."""
        try:
            for path in (self.path, unfinished(self.path)):
                path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("The checkpoint %s can't be removed (%s).", self.path, error.strerror or error)


class Checkpoints:
    """A folder of checkpoints under keys that hash what determines a training's result.

    Args:
        folder: created when it is first used.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    @contextmanager
    def open(self, key: str) -> Iterator[Checkpoint | None]:
        """Holds the checkpoint of a key.

        Checkpoints that no job has touched for 30 days are removed.

        Yields:
            The checkpoint; None where another job holds it or the folder can't be written, which is reported.
        """
        lock = filelock.FileLock(self.folder / f"{key}.lock")
        if not self._acquired(lock):
            yield None
            return
        try:
            self._remove_abandoned()
            yield Checkpoint(self.folder / f"{key}.npz")
        finally:
            lock.release()

    def _acquired(self, lock: filelock.BaseFileLock) -> bool:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            os.utime(lock.lock_file)
        except filelock.Timeout:
            logger.info("Another job trains the same: this one keeps no checkpoints (%s).", lock.lock_file)
        except OSError as error:
            lock.release()
            logger.warning(
                "Checkpoints can't be kept in %s (%s): the training goes on, but can't be resumed.",
                self.folder,
                error.strerror or error,
            )
        return lock.is_locked

    def _remove_abandoned(self) -> None:
        oldest = time.time() - KEPT_SECONDS
        for lock_path in self.folder.glob("*.lock"):
            files = [lock_path, *self.folder.glob(f"{lock_path.stem}.npz*")]
            try:
                if max(path.stat().st_mtime for path in files) < oldest:
                    _remove_unless_held(lock_path, files)
            except OSError:
                continue


def _remove_unless_held(lock_path: Path, files: list[Path]) -> None:
    try:
        with filelock.FileLock(lock_path, timeout=0):
            for path in reversed(files):
                path.unlink(missing_ok=True)
    except filelock.Timeout:
        return
