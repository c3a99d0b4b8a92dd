"""The float model: trained once and cached, or taken as it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import keras

from qpipe.config.fingerprint import fingerprint
from qpipe.config.schema import JobConfig
from qpipe.data import Dataset
from qpipe.models import FloatModelCache, build_model, check_savable, model_identity
from qpipe.models.build import load_built
from qpipe.models.cache import CachedModel
from qpipe.training.check_with_data import check_before_training
from qpipe.training.checkpoint import Checkpoints
from qpipe.training.identity import training_identity, versions
from qpipe.training.loop import fit
from qpipe.training.progress import OnBatch, OnEpoch
from qpipe.training.seeds import seed_stage


@dataclass(frozen=True)
class FloatModel:
    """A float model.

    Attributes:
        model: the Keras model, not compiled.
        history: metrics per epoch; empty if it was not trained.
        cached: whether it came from the cache.
        key: hash of all that determines it, its data included.
    """

    model: keras.Model
    history: dict[str, list[float]]
    cached: bool
    key: str


def float_model(
    config: JobConfig,
    dataset: Dataset,
    cache: FloatModelCache,
    checkpoints: Checkpoints,
    *,
    before_training: Callable[[keras.Model], object],
    on_batch: OnBatch,
    on_epoch: OnEpoch,
) -> FloatModel:
    """Returns the float model of a job.

    A trained model is always loaded from the cache's file, so that a job sees the same model whether it was
    trained just now or by an earlier job. A training that was killed goes on from its last checkpoint.

    Args:
        config: the job. Of quantization-aware training all that can be is checked here, before anything is trained.
        dataset: what the model is trained on.
        cache: where trained models are kept.
        checkpoints: where trainings are kept that are under way.
        before_training: called with the untrained model where it is about to be trained; it may refuse the job.
        on_batch: progress of the training, as in `fit`.
        on_epoch: metrics of the training, as in `fit`.

    Raises:
        QpipeError: something in the configuration of model or training does not exist or does not fit, or the cache
            can't be written.
    """
    key = _key(config, dataset)
    if not config.model.train:
        model = _build(config, dataset)
        check_before_training(config, dataset, model)
        return FloatModel(model, {}, cached=False, key=key)
    with cache.lock(key):
        entry = cache.load(key)
        cached = entry is not None
        if entry is None:
            model = _build(config, dataset)
            check_before_training(config, dataset, model)
            check_savable(config.model, model)
            before_training(model)
            with checkpoints.open(key) if config.training.checkpoints else nullcontext() as checkpoint:
                seed_stage(config.seed, "float")
                history = fit(
                    model,
                    config.training,
                    "float",
                    dataset,
                    seed=config.seed,
                    checkpoint=checkpoint,
                    on_batch=on_batch,
                    on_epoch=on_epoch,
                )
                entry = cache.store(key, model, history, {"name": config.name, "training": _plain(config)})
                if checkpoint is not None:
                    checkpoint.discard()
    model = _loaded(config, entry)
    if cached:
        check_before_training(config, dataset, model)
    return FloatModel(model, entry.history, cached, key)


def _build(config: JobConfig, dataset: Dataset) -> keras.Model:
    seed_stage(config.seed, "build")
    return build_model(config.model, dataset.signature)


def _loaded(config: JobConfig, entry: CachedModel) -> keras.Model:
    seed_stage(config.seed, "load")
    return load_built(config.model, entry.model_path)


def _key(config: JobConfig, dataset: Dataset) -> str:
    trained = training_identity(config.training, config.training.float) if config.model.train else None
    return fingerprint(model_identity(config.model), dataset.fingerprint, trained, config.seed, versions())


def _plain(config: JobConfig) -> dict[str, Any]:
    return {name: getattr(value, "name", value) for name, value in asdict(config.training.float).items()}
