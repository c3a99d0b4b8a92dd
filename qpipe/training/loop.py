"""Training a model, float or quantized, on the training part of a data set."""

from __future__ import annotations

from typing import Literal

import keras

from qpipe.config.schema import TrainingConfig, TrainingStage
from qpipe.data import Dataset
from qpipe.training.callbacks import make_callbacks
from qpipe.training.checkpoint import Checkpoint
from qpipe.training.class_weights import class_weights
from qpipe.training.distribution import distributed, steps_per_epoch, whole_batches
from qpipe.training.freeze import FreezeByRetracing, OnFreeze
from qpipe.training.objective import compile_model, forget_compilation
from qpipe.training.optimizer import make_optimizer
from qpipe.training.precision import precision_of_layers
from qpipe.training.progress import OnBatch, OnEpoch, Progress
from qpipe.training.resume import Resumable, resumed_state
from qpipe.training.streams import training_stream, validation_stream


def fit(
    model: keras.Model,
    config: TrainingConfig,
    stage: Literal["float", "qat"],
    dataset: Dataset,
    *,
    seed: int,
    checkpoint: Checkpoint | None = None,
    on_batch: OnBatch = lambda step, steps: None,
    on_epoch: OnEpoch = lambda epoch, logs: None,
    on_freeze: OnFreeze = lambda step: None,
) -> dict[str, list[float]]:
    """Trains `model` in place, from the last checkpoint on where there is one.

    A resumed training ends with the weights of an undisturbed one, bit by bit. Random numbers that are drawn
    outside of Keras' seed generators (by a callback, say) are not part of a checkpoint.

    Args:
        model: fits the data; its outputs may be probabilities or logits, and are all trained on the same labels.
            Afterwards it is not compiled.
        config: loss, class weights and the stage's settings.
        stage: which of its two stages.
        dataset: its training and validation parts are used.
        seed: decides order and augmentation.
        checkpoint: written after every epoch, unless `config.checkpoints` is false; None keeps none. It stays until
            the caller discards it.
        on_batch: called after every step with its number (from 1) and the number of all steps.
        on_epoch: called after every epoch with its number (from 1) and its metrics.
        on_freeze: called once when all statistics and ranges are frozen, with the number of training steps that they
            hold; a resumed training calls it even where that was before.

    Returns:
        Metrics of all epochs, those before a resume included: `loss`, `val_loss`, and each metric of the task alike;
        where there are several outputs, these begin with the output's name.

    Raises:
        ConfigError: something in `config` does not exist, or does not fit model and data.
    """
    settings: TrainingStage = getattr(config, stage)
    where = f"training.{stage}"
    steps = steps_per_epoch(config, settings, dataset)
    weights = class_weights(config.class_weights, dataset)
    validation = validation_stream(model, dataset)
    checkpoint = checkpoint if config.checkpoints else None
    with distributed(model, config, settings.batch_size) as model, precision_of_layers(model, settings.precision):
        names = compile_model(model, config, dataset, make_optimizer(settings, settings.epochs * steps, where))
        monitors = [*names, *(f"val_{name}" for name in names if validation is not None)]
        callbacks = make_callbacks(settings, monitors, where)
        state = resumed_state(model, callbacks, checkpoint, epochs=settings.epochs, where=where)
        done = state.epoch if state else 0
        left = 0 if state and state.ended else settings.epochs - done
        progress = Progress(
            on_batch,
            on_epoch,
            steps=settings.epochs * steps,
            step=done * steps,
            history=state.history if state else {},
            where=where,
        )
        resumable = [Resumable(checkpoint, state, progress, callbacks)] if checkpoint else []
        stream = training_stream(
            model, dataset, weights, batch_size=settings.batch_size, seed=seed, first_epoch=done, epochs=left
        )
        model.fit(
            whole_batches(stream, config, settings.batch_size),
            initial_epoch=settings.epochs - left,
            epochs=settings.epochs,
            steps_per_epoch=steps,
            validation_data=validation,
            callbacks=[FreezeByRetracing(on_freeze), *callbacks, progress, *resumable],
            shuffle=False,
            verbose=0,
        )
        forget_compilation(model)
    return progress.history
