import sqlite3
from pathlib import Path

import pytest

from qpipe.errors import TrackingError
from qpipe.tracking.location import prepare_database, resolve_location


def test_default_is_a_database_in_runs_dir_with_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    location = resolve_location(None, runs_dir=Path("runs"))
    assert location.uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert location.artifacts == tmp_path / "runs" / "artifacts"
    assert location.how_to_open("1", "2") == (
        f"open MLflow with:  mlflow ui --backend-store-uri sqlite:///{tmp_path}/runs/mlflow.db\n"
        "this run is at:  http://127.0.0.1:5000/#/experiments/1/runs/2?workflowType=machine_learning"
    )


def test_a_path_with_blanks_is_quoted(tmp_path):
    assert "my runs/mlflow.db'\n" in resolve_location(None, runs_dir=tmp_path / "my runs").how_to_open("1", "2")


def test_server_gives_the_page_of_the_run_without_password():
    location = resolve_location("https://me:secret@host:5000/", runs_dir=Path())
    assert location.is_server
    assert location.artifacts is None
    address = "https://me:***@host:5000/#/experiments/1/runs/2?workflowType=machine_learning"
    assert location.how_to_open("1", "2") == f"open MLflow at:  {address}"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("mlruns", r"mlruns is a folder.*tracking\.uri=sqlite:///mlruns/mlflow\.db"),
        ("file:///data/mlruns", r"sqlite:////data/mlruns/mlflow\.db"),
        ("ftp://host", "unknown scheme 'ftp'"),
    ],
)
def test_uri_that_can_not_be_used(uri, message):
    with pytest.raises(TrackingError, match=message):
        resolve_location(uri, runs_dir=Path())


def test_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match=r"can't be written.*runs_dir"):
        prepare_database(tmp_path / "file" / "mlflow.db")


def test_file_that_is_no_database_is_left_alone(tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_text("these are my notes, not a database " * 10)
    before = path.read_bytes()
    with pytest.raises(TrackingError, match="file is not a database"):
        prepare_database(path)
    assert path.read_bytes() == before


def test_database_that_may_only_be_read(tmp_path, monkeypatch):
    path = tmp_path / "mlflow.db"
    connect = sqlite3.connect
    connect(path).execute("CREATE TABLE t (x)")
    monkeypatch.setattr(sqlite3, "connect", lambda file, timeout: connect(f"file:{file}?mode=ro", uri=True))
    with pytest.raises(TrackingError, match="readonly database"):
        prepare_database(path)
