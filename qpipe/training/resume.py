"""Resuming a training: what a checkpoint holds, and how a training goes on from it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import keras
import numpy as np

from qpipe.training.callback_state import restore, state_of
from qpipe.training.checkpoint import Checkpoint, TrainingState
from qpipe.training.progress import Progress

logger = logging.getLogger("qpipe")


def resumed_state(
    model: keras.Model,
    callbacks: Sequence[keras.callbacks.Callback],
    checkpoint: Checkpoint | None,
    *,
    epochs: int,
    where: str,
) -> TrainingState | None:
    """Puts a compiled model and its optimizer where the last checkpoint of the training left them.

    Args:
        model: all variables of model and optimizer exist.
        callbacks: that have a state; `Resumable` restores it when they have reset themselves.
        checkpoint: of the training; None keeps none.
        epochs: of the whole stage.
        where: config path of the stage, for messages.

    Returns:
        What the checkpoint held; None where there is none that fits.
    """
    state = checkpoint.load() if checkpoint is not None else None
    if checkpoint is None or state is None:
        return None
    if not (
        _fits(model.variables, state.variables)
        and _fits(model.optimizer.variables, state.optimizer)
        and len(callbacks) == len(state.callbacks)
    ):
        checkpoint.reject("it was written for another model")
        return None
    _assign(model.variables, state.variables)
    _assign(model.optimizer.variables, state.optimizer)
    if state.ended or state.epoch >= epochs:
        logger.info("%s is complete in a checkpoint after epoch %d of %d", where, state.epoch, epochs)
    else:
        logger.info("%s goes on after epoch %d of %d from a checkpoint", where, state.epoch, epochs)
    return state


class Resumable(keras.callbacks.Callback):
    """Writes a checkpoint after every epoch, and sets the other callbacks to where a resumed training left them.

    Has to be the last of the callbacks: it acts after the others have reset themselves at the beginning, and after
    they have seen the end of an epoch.

    Args:
        checkpoint: where to write.
        state: what the training goes on from; None at its start.
        progress: holds the metrics of all epochs.
        others: the callbacks that have a state.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        state: TrainingState | None,
        progress: Progress,
        others: Sequence[keras.callbacks.Callback],
    ):
        super().__init__()
        self._checkpoint = checkpoint
        self._state = state
        self._progress = progress
        self._others = others

    def on_train_begin(self, logs=None):
        """Restores the state of the other callbacks."""
        if self._state is not None:
            for callback, state in zip(self._others, self._state.callbacks, strict=True):
                restore(callback, state)

    def on_epoch_end(self, epoch, logs=None):
        """Writes the checkpoint."""
        self._checkpoint.save(
            TrainingState(
                epoch=epoch + 1,
                ended=bool(self.model.stop_training),
                history=self._progress.history,
                variables=_values(self.model.variables),
                optimizer=_values(self.model.optimizer.variables),
                callbacks=[state_of(callback) for callback in self._others],
            )
        )


def _values(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def _fits(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> bool:
    return len(variables) == len(values) and all(
        tuple(variable.shape) == value.shape and variable.dtype == value.dtype.name
        for variable, value in zip(variables, values, strict=True)
    )


def _assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
