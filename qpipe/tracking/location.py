"""Where runs are logged: the tracking URI, and the folder for artifacts beside a database file."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from qpipe.errors import TrackingError

UI_ADDRESS = "http://127.0.0.1:5000"
"""Where `mlflow ui` listens, unless it is told otherwise."""
MODEL_TRAINING = "workflowType=machine_learning"
"""Lets the MLflow UI open a page in the layout for trained models: MLflow 3.17 goes by this, or else by what the switch
at the top has left in the browser, and not by the experiment's tag `mlflow.experimentKind`."""
_SQLITE = "sqlite:///"


@dataclass(frozen=True, kw_only=True)
class Location:
    """A tracking store.

    Attributes:
        uri: MLflow's tracking URI; for SQLite with an absolute path.
        database: the SQLite file; None for other stores.
    """

    uri: str
    database: Path | None = None

    @property
    def shown(self) -> str:
        """The URI as messages show it, without a password."""
        return without_password(self.uri)

    @property
    def is_server(self) -> bool:
        """Whether an MLflow server is spoken to over HTTP."""
        return urlsplit(self.uri).scheme in ("http", "https")

    @property
    def artifacts(self) -> Path | None:
        """Folder for artifacts; None where the store decides."""
        return None if self.database is None else self.database.parent / "artifacts"

    def how_to_open(self, experiment_id: str, run_id: str) -> str:
        """Says how the run's page is opened: its address, and for a database the command that it takes first."""
        page = f"/#/experiments/{experiment_id}/runs/{run_id}?{MODEL_TRAINING}"
        if self.is_server:
            return f"open MLflow at:  {self.shown.rstrip('/')}{page}"
        command = f"mlflow ui --backend-store-uri {shlex.quote(self.shown)}"
        return f"open MLflow with:  {command}\nthis run is at:  {UI_ADDRESS}{page}"


def without_password(text: str) -> str:
    """`text` with the password of every URI in it masked."""
    return re.sub(r"(://[^/:@\s]*):[^/@\s]+@", r"\1:***@", text)


def resolve_location(uri: str | None, *, runs_dir: Path) -> Location:
    """Resolves `tracking.uri`.

    Args:
        uri: MLflow's tracking URI; None is `mlflow.db` in `runs_dir`.
        runs_dir: folder of the default database.

    Raises:
        TrackingError: a plain path or a `file:` URI, which MLflow 3 refuses, or an unknown scheme.
    """
    if uri is None:
        return _sqlite(runs_dir / "mlflow.db")
    if uri.startswith(_SQLITE):
        return _sqlite(Path(os.path.expanduser(uri.removeprefix(_SQLITE))))
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https", "databricks") or uri == "databricks":
        return Location(uri=uri)
    if scheme.partition("+")[0] in ("postgresql", "mysql", "mssql"):
        return Location(uri=uri)
    if scheme in ("", "file"):
        raise TrackingError(
            f"tracking.uri={uri} is a folder, and MLflow 3 keeps no runs in folders any more: "
            f"use a database file, such as tracking.uri=sqlite:///{urlsplit(uri).path.rstrip('/')}/mlflow.db."
        )
    raise TrackingError(
        f"tracking.uri={uri} has the unknown scheme '{scheme}'; "
        "allowed: sqlite:///..., http://..., https://..., postgresql://..., mysql://..., mssql://..., databricks."
    )


def prepare_database(database: Path) -> None:
    """Makes the folder of a SQLite database and proves that the file can be written.

    Raises:
        TrackingError: the folder or the file can't be written, or the file is no database.
    """
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(database, timeout=15.0)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE qpipe_write_check (x)")
            connection.rollback()
        finally:
            connection.close()
    except OSError as error:
        raise TrackingError(
            f"The folder {database.parent} for runs can't be written ({error.strerror or error}): "
            "set runs_dir or tracking.uri to another place."
        ) from error
    except sqlite3.Error as error:
        raise TrackingError(
            f"The tracking database {database} can't be written ({error}): "
            "set runs_dir or tracking.uri to another place."
        ) from error


def _sqlite(database: Path) -> Location:
    absolute = database.absolute()
    return Location(uri=f"{_SQLITE}{absolute}", database=absolute)
