"""A run: what a job logs, and the status with which it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from qpipe.config.schema import TrackingConfig
from qpipe.tracking.logged_model import log_keras_model
from qpipe.tracking.orphans import close_orphans
from qpipe.tracking.parameters import LONGEST_PARAMETER, LONGEST_TAG, cut, mlflow_key
from qpipe.tracking.provenance import provenance_tags
from qpipe.tracking.store import Store, mlflow_errors, open_store

logger = logging.getLogger("qpipe")

_METRICS_PER_BATCH = 900
_OTHERS_PER_BATCH = 50


class TrackedRun:
    """An MLflow run that is in progress.

    Metrics, parameters and tags are gathered and sent together by `flush`, which the end of the run
    calls too, however it ends. Artifacts and models are sent at once.

    Args:
        store: where the run is.
        run_id: MLflow's id.
    """

    def __init__(self, store: Store, run_id: str):
        self.id = run_id
        self._store = store
        self._metrics: list[tuple[str, float, int, int]] = []
        self._parameters: dict[str, str] = {}
        self._tags: dict[str, str] = {}

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment."""
        return self._store.experiment_id

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking URI; for SQLite with an absolute path."""
        return self._store.location.uri

    @property
    def how_to_open(self) -> str:
        """How the run's page in the MLflow UI is opened, for the terminal."""
        return self._store.location.how_to_open(self.experiment_id, self.id)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Gathers metrics; characters that MLflow refuses in a key become `_`.

        Args:
            metrics: values by key, such as `float/accuracy`.
            step: an epoch's number; None for a metric that has no course.
        """
        now = time.time_ns() // 1_000_000
        self._metrics.extend((mlflow_key(key), float(value), now, step or 0) for key, value in metrics.items())

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Gathers parameters; values longer than MLflow allows are cut with a word."""
        self._parameters.update({mlflow_key(k): cut(str(v), LONGEST_PARAMETER) for k, v in parameters.items()})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Gathers tags; values longer than MLflow allows are cut with a word."""
        self._tags.update({mlflow_key(key): cut(str(value), LONGEST_TAG) for key, value in tags.items()})

    def flush(self) -> None:
        """Sends what was gathered: one request, unless there is more than MLflow takes at once.

        Raises:
            TrackingError: the store refuses or does not answer; what was gathered is kept.
        """
        from mlflow.entities import Metric, Param, RunTag

        while self._metrics or self._parameters or self._tags:
            metrics = self._metrics[:_METRICS_PER_BATCH]
            parameters = dict(list(self._parameters.items())[:_OTHERS_PER_BATCH])
            tags = dict(list(self._tags.items())[:_OTHERS_PER_BATCH])
            with mlflow_errors(self._store.location):
                self._store.client.log_batch(
                    self.id,
                    metrics=[Metric(*metric) for metric in metrics],
                    params=[Param(*item) for item in parameters.items()],
                    tags=[RunTag(*item) for item in tags.items()],
                )
            del self._metrics[: len(metrics)]
            for name in parameters:
                del self._parameters[name]
            for name in tags:
                del self._tags[name]

    def log_json(self, name: str, content: Any) -> None:
        """Stores `content` as a JSON artifact.

        Raises:
            TrackingError: the store refuses or does not answer.
        """
        with mlflow_errors(self._store.location):
            self._store.client.log_dict(self.id, content, name)

    def log_text(self, name: str, content: str) -> None:
        """Stores `content` as a text artifact, such as `config.yaml`.

        Raises:
            TrackingError: the store refuses or does not answer.
        """
        with mlflow_errors(self._store.location):
            self._store.client.log_text(self.id, content, name)

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Stores a copy of a file as an artifact, inside `folder` where one is given.

        Raises:
            TrackingError: the store refuses or does not answer.
        """
        with mlflow_errors(self._store.location):
            self._store.client.log_artifact(self.id, str(path), folder)

    def log_keras_model(
        self, path: Path, *, name: str, input_example: np.ndarray, output_example: Mapping[str, np.ndarray]
    ) -> str:
        """Logs a `.keras` file as a model that `mlflow.pyfunc.load_model` opens in any process with qpipe.

        Args:
            path: the `.keras` file.
            name: `float` or `quantized`.
            input_example: (samples, ...), whose shape and type make the signature.
            output_example: (samples, ...) for each output of the model, alike.

        Returns:
            The model's id: its URI is `models:/<id>`.

        Raises:
            TrackingError: the store refuses or does not answer.
        """
        with mlflow_errors(self._store.location):
            return log_keras_model(
                self._store.client,
                experiment_id=self.experiment_id,
                run_id=self.id,
                path=path,
                name=name,
                input_example=input_example,
                output_example=output_example,
            )

    def end(self, status: str) -> None:
        """Sends what was gathered and ends the run as `FINISHED`, `FAILED` or `KILLED`.

        Raises:
            TrackingError: the store refuses or does not answer.
        """
        try:
            self.flush()
        finally:
            with mlflow_errors(self._store.location):
                self._store.client.set_terminated(self.id, status=status)


@contextmanager
def start_run(
    config: TrackingConfig,
    *,
    runs_dir: Path,
    name: str,
    parameters: Mapping[str, Any],
    tags: Mapping[str, str],
) -> Iterator[TrackedRun]:
    """Opens the store, closes this machine's orphaned runs, and starts a run that ends with the block.

    The run ends FINISHED; FAILED with the tag `error` where the block raises an exception; KILLED where
    it is interrupted (KeyboardInterrupt, or SystemExit as a signal handler raises it).

    Args:
        config: where to log.
        runs_dir: folder of the default database and of its artifacts.
        name: the run's name.
        parameters: parameters, as `flat_parameters` gives them.
        tags: further tags; they win over `config.tags`.

    Yields:
        The run.

    Raises:
        TrackingError: the store does not answer in time, refuses, or can't be written.
    """
    store = open_store(config, runs_dir=runs_dir)
    with mlflow_errors(store.location):
        close_orphans(store.client, store.experiment_id)
        created = store.client.create_run(store.experiment_id, run_name=name, tags=provenance_tags())
    run = TrackedRun(store, created.info.run_id)
    try:
        run.log_parameters(parameters)
        run.set_tags({**config.tags, **tags})
        run.flush()
        yield run
    except BaseException as error:
        _end_after(run, error)
        raise
    run.end("FINISHED")


def _end_after(run: TrackedRun, error: BaseException) -> None:
    message = " ".join(str(error).split())
    run.set_tags({"error": f"{type(error).__name__}: {message}" if message else type(error).__name__})
    try:
        run.end("FAILED" if isinstance(error, Exception) else "KILLED")
    except Exception as second:
        logger.warning("Run %s could not be closed after the error: %s", run.id, second)
