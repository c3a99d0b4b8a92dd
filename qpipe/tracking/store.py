"""Opens the tracking store: proves that it answers, creates database and experiment where they are absent."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from qpipe.config.schema import TrackingConfig
from qpipe.errors import TrackingError
from qpipe.tracking.answer import answer_within, impatient_requests
from qpipe.tracking.location import Location, prepare_database, resolve_location
from qpipe.tracking.parameters import cut
from qpipe.tracking.reachable import check_reachable

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}

_LONGEST_CONNECTING_SECONDS = 3.0
_LONGEST_REASON = 300
_CONNECTION_CAUSE = re.compile(r"\(Caused by \w+\(['\"](?:\w+\([^)]*\): )?(.*)['\"]\)\)")


@dataclass(frozen=True, kw_only=True)
class Store:
    """An open tracking store and the experiment in it."""

    location: Location
    client: MlflowClient
    experiment_id: str


def open_store(config: TrackingConfig, *, runs_dir: Path) -> Store:
    """Opens the store that the configuration names.

    Concurrent first use of a fresh SQLite file fails inside MLflow; a lock file beside it prevents that. What the
    import of MLflow takes (seconds, and more where many jobs start at once) is not counted as a server's time.

    Args:
        config: URI, experiment and timeout.
        runs_dir: folder of the default database.

    Raises:
        TrackingError: the store does not answer in time, refuses, or can't be written.
    """
    location = resolve_location(config.uri, runs_dir=runs_dir)
    if location.database is not None:
        prepare_database(location.database)
    begin = time.monotonic()
    check_reachable(location, min(config.timeout, _LONGEST_CONNECTING_SECONDS))
    remaining = config.timeout - (time.monotonic() - begin)
    _keep_mlflow_quiet()
    from mlflow import MlflowClient

    def first_question() -> Store:
        client = MlflowClient(tracking_uri=location.uri)
        return Store(
            location=location, client=client, experiment_id=_experiment_id(client, location, config.experiment)
        )

    with mlflow_errors(location):
        if location.database is not None:
            with _database_lock(location.database):
                return first_question()
        with impatient_requests(remaining) if location.is_server else nullcontext():
            try:
                return answer_within(remaining, first_question)
            except TimeoutError:
                raise TrackingError(
                    f"The tracking server {location.shown} (tracking.uri) did not answer within "
                    f"{config.timeout:g} s (tracking.timeout)."
                ) from None


@contextmanager
def mlflow_errors(location: Location) -> Iterator[None]:
    """Turns what MLflow raises into a `TrackingError` of one sentence."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise TrackingError(f"tracking.uri: tracking at {location.shown} failed: {_reason(error)}.") from error
    except ModuleNotFoundError as error:
        raise TrackingError(
            f"tracking.uri: tracking at {location.shown} needs the Python package '{error.name}', which is missing."
        ) from error
    except OSError as error:
        place = "" if error.filename is None else f" ({error.filename})"
        reason = f"{error.strerror or error}{place}"
        raise TrackingError(f"tracking.uri: tracking at {location.shown} failed: {reason}.") from error


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    cause = _CONNECTION_CAUSE.search(lines[0])
    reason = cause.group(1) if cause else lines[0]
    return cut(reason.rstrip("."), _LONGEST_REASON)


def _experiment_id(client: MlflowClient, location: Location, name: str) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        artifacts = None if location.artifacts is None else str(location.artifacts)
        try:
            return client.create_experiment(name, artifact_location=artifacts, tags=EXPERIMENT_TAGS)
        except MlflowException:
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"The experiment '{name}' (tracking.experiment) at {location.shown} was deleted: restore it with "
            f"`mlflow experiments restore -x {experiment.experiment_id}`, or choose another name."
        )
    return experiment.experiment_id


@contextmanager
def _database_lock(database: Path) -> Iterator[None]:
    with filelock.FileLock(database.with_name(f"{database.name}.lock")):
        yield


def _keep_mlflow_quiet() -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        import mlflow  # noqa: F401  (sets up its loggers, whose levels are then raised)

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
