"""Eight jobs that log at once: into one fresh SQLite file, and to a server that has just been started."""

import subprocess
import sys

import pytest
from mlflow import MlflowClient
from mlflow_server import running_server

JOBS = 8
JOB = """
import sys
from pathlib import Path
from qpipe.config.schema import TrackingConfig
from qpipe.tracking import start_run

uri = sys.argv[2] or None
parameters = {f"quantizer.key{number}": str(number) for number in range(130)}
names = {"name": sys.argv[3], "parameters": parameters, "tags": {}}
with start_run(TrackingConfig(uri=uri, timeout=60), runs_dir=Path(sys.argv[1]), **names) as run:
    for step in range(1, 11):
        run.log_metrics({f"train/qat/metric{number}": step / 10 for number in range(6)}, step=step)
        run.flush()
    run.log_json("layers.json", {"layers": list(range(100))})
    run.log_text("config.yaml", "name: job")
"""


def log_at_once(runs_dir, uri):
    """Runs the jobs and checks that everything of each has arrived."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", JOB, str(runs_dir), uri, f"job{number}"], stderr=subprocess.PIPE, text=True
        )
        for number in range(JOBS)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * JOBS, errors
    client = MlflowClient(tracking_uri=uri or f"sqlite:///{runs_dir}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("qpipe").experiment_id])
    assert sorted(run.info.run_name for run in runs) == [f"job{number}" for number in range(JOBS)]
    for run in runs:
        assert run.info.status == "FINISHED"
        assert len(run.data.params) == 130
        assert run.data.metrics == {f"train/qat/metric{number}": 1.0 for number in range(6)}
        assert len(client.get_metric_history(run.info.run_id, "train/qat/metric0")) == 10
        assert {entry.path for entry in client.list_artifacts(run.info.run_id)} == {"layers.json", "config.yaml"}


@pytest.mark.slow
def test_into_a_fresh_database(tmp_path):
    log_at_once(tmp_path / "runs", "")


@pytest.mark.slow
def test_to_a_server(tmp_path):
    with running_server(tmp_path / "server.db", tmp_path / "artifacts") as address:
        log_at_once(tmp_path / "runs", address)
