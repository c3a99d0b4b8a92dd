"""The float model: trained once and cached, or taken as it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy
import tensorflow

import qpipe
from qpipe.config.fingerprint import fingerprint
from qpipe.config.schema import FileModel, JobConfig, ModelConfig
from qpipe.data import Dataset
from qpipe.models import FloatModelCache, build_model
from qpipe.models.saved_file import load_file
from qpipe.training.loop import fit
from qpipe.training.seeds import seed_stage


@dataclass(frozen=True)
class FloatModel:
    """A float model, its metrics per epoch (empty if it was not trained), and whether it came from the cache."""

    model: keras.Model
    history: dict[str, list[float]]
    cached: bool


def float_model(
    config: JobConfig,
    dataset: Dataset,
    cache: FloatModelCache,
    *,
    on_batch: Callable[[int, int], None],
    on_epoch: Callable[[int, Mapping[str, float]], None],
) -> FloatModel:
    """Returns the float model of a job.

    A trained model is always loaded from the cache's file, so that a job sees the same model whether it was
    trained just now or by an earlier job.

    Args:
        config: the job.
        dataset: what the model is trained on.
        cache: where trained models are kept.
        on_batch: progress of the training, as in `fit`.
        on_epoch: metrics of the training, as in `fit`.
    """
    if not config.model.train:
        return FloatModel(_build(config, dataset), {}, cached=False)
    key = _key(config, dataset)
    with cache.lock(key):
        entry = cache.load(key)
        cached = entry is not None
        if entry is None:
            model = _build(config, dataset)
            stage = config.training.float
            seed_stage(config.seed, "float")
            history = fit(
                model,
                stage,
                dataset,
                seed=config.seed,
                where="training.float",
                on_batch=on_batch,
                on_epoch=on_epoch,
            )
            entry = cache.store(key, model, history, {"name": config.name, "training": _plain(stage)})
    trusted = isinstance(config.model, FileModel) and config.model.trusted
    model = load_file(FileModel(path=str(entry.model_path), trusted=trusted))
    return FloatModel(model, entry.history, cached)


def _build(config: JobConfig, dataset: Dataset) -> keras.Model:
    seed_stage(config.seed, "build")
    return build_model(config.model, input_shape=dataset.input_shape, classes=dataset.classes)


def _key(config: JobConfig, dataset: Dataset) -> str:
    versions = {package.__name__: package.__version__ for package in (keras, tensorflow, numpy, qpipe)}
    return fingerprint(
        _identity(config.model), dataset.fingerprint, config.training.float, config.seed, versions, _backend_precision()
    )


def _identity(config: ModelConfig) -> dict[str, Any]:
    """What determines the untrained model: its configuration, with the content of files for their paths."""
    identity: dict[str, Any] = {"kind": type(config).__name__}
    for name, value in asdict(config).items():
        if isinstance(value, str) and Path(value).is_file():
            value = hashlib.sha256(Path(value).read_bytes()).hexdigest()
        identity[name] = value
    return identity


def _backend_precision() -> str:
    return f"{keras.backend.backend()}/{keras.config.floatx()}/{keras.config.dtype_policy().name}"


def _plain(stage) -> dict[str, Any]:
    return {name: getattr(value, "name", value) for name, value in asdict(stage).items()}
