import json
import logging
import math
import platform
from pathlib import Path

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

import qpipe.tracking.run as run_module
from qpipe.config.schema import TrackingConfig
from qpipe.errors import DataError, TrackingError


def test_a_run_that_ends_well_is_finished_with_all_that_was_logged(client, start, tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"png")
    config = TrackingConfig(tags={"team": "a", "kind": "config"})
    with start(config=config, parameters={"quantizer.weight.bitwidth": "8"}, tags={"kind": "argument"}) as run:
        run.log_metrics({"float/accuracy": 0.97, "odd[0]": 1.0})
        run.log_metrics({"train/loss": 1.0}, step=1)
        run.log_metrics({"train/loss": math.nan}, step=2)
        run.log_parameters({"added": 3})
        run.log_json("layers.json", {"layers": [1]})
        run.log_text("config.yaml", "a: 1\n")
        run.log_file(picture, folder="plots")
    logged = client.get_run(run.id)
    assert logged.info.status == "FINISHED"
    assert logged.info.run_name == "test"
    assert logged.data.params == {"quantizer.weight.bitwidth": "8", "added": "3"}
    assert logged.data.metrics["float/accuracy"] == 0.97
    assert logged.data.metrics["odd_0_"] == 1.0
    assert [metric.step for metric in client.get_metric_history(run.id, "train/loss")] == [1, 2]
    assert (logged.data.tags["team"], logged.data.tags["kind"]) == ("a", "argument")
    assert "error" not in logged.data.tags
    folder = Path(client.download_artifacts(run.id, "", str(tmp_path)))
    assert json.loads((folder / "layers.json").read_text()) == {"layers": [1]}
    assert (folder / "config.yaml").read_text() == "a: 1\n"
    assert (folder / "plots" / "picture.png").read_bytes() == b"png"


def test_experiment_and_provenance(client, start, runs_dir):
    with start() as run:
        pass
    experiment = client.get_experiment(run.experiment_id)
    assert experiment.name == "qpipe"
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment.artifact_location == str(runs_dir / "artifacts")
    tags = client.get_run(run.id).data.tags
    assert tags["qpipe.version.python"] == platform.python_version()
    assert tags["qpipe.version.numpy"] == np.__version__
    assert {"qpipe.host", "qpipe.pid", "qpipe.process_start", "qpipe.version.keras", "qpipe.version.tensorflow"} <= set(
        tags
    )
    assert run.how_to_open.startswith(
        f"open MLflow with:  mlflow ui --backend-store-uri sqlite:///{runs_dir}/mlflow.db"
    )
    assert f"/runs/{run.id}?" in run.how_to_open


@pytest.mark.parametrize(
    ("error", "status", "tag"),
    [
        (DataError("data.path=x does not\nexist."), "FAILED", "DataError: data.path=x does not exist."),
        (ZeroDivisionError(), "FAILED", "ZeroDivisionError"),
        (KeyboardInterrupt(), "KILLED", "KeyboardInterrupt"),
        (SystemExit(143), "KILLED", "SystemExit: 143"),
    ],
)
def test_an_error_sets_the_status_and_flushes(client, start, error, status, tag):
    ids = []

    def job():
        with start() as run:
            ids.append(run.id)
            run.log_metrics({"before": 1.0})
            raise error

    with pytest.raises(type(error)) as caught:
        job()
    assert caught.value is error
    logged = client.get_run(ids[0])
    assert logged.info.status == status
    assert logged.data.tags["error"] == tag
    assert logged.data.metrics == {"before": 1.0}


def test_an_error_while_closing_does_not_hide_the_first(start, monkeypatch, caplog):
    def refuse(*args, **kwargs):
        raise MlflowException("the store is gone")

    def job():
        with start() as run:
            monkeypatch.setattr(run._store.client, "log_batch", refuse)
            monkeypatch.setattr(run._store.client, "set_terminated", refuse)
            raise DataError("the first")

    with caplog.at_level(logging.WARNING, logger="qpipe"), pytest.raises(DataError, match="the first"):
        job()
    assert "the store is gone" in caplog.text


def test_a_flush_is_one_request_unless_there_is_more_than_mlflow_takes(client, start, monkeypatch):
    with start() as run:
        batches = []
        log_batch = run._store.client.log_batch
        monkeypatch.setattr(run._store.client, "log_batch", lambda *a, **k: (batches.append(k), log_batch(*a, **k)))
        run.log_metrics({f"a/{i}": i for i in range(200)})
        run.set_tags({"x": 1})
        run.flush()
        run.flush()
        assert len(batches) == 1
        run.log_metrics({f"b/{i}": i for i in range(1500)}, step=3)
        run.log_parameters({f"p{i}": i for i in range(120)})
        run.flush()
        assert len(batches) == 4
    logged = client.get_run(run.id)
    assert len(logged.data.metrics) == 1700
    assert len(logged.data.params) == 120


def test_what_could_not_be_sent_is_sent_later(client, start, monkeypatch):
    def refuse(*args, **kwargs):
        raise MlflowException("busy\nmore lines")

    with start() as run:
        run.log_metrics({"kept": 2.0})
        with monkeypatch.context() as patch:
            patch.setattr(run._store.client, "log_batch", refuse)
            with pytest.raises(TrackingError, match=r"failed: busy\.$"):
                run.flush()
    assert client.get_run(run.id).data.metrics == {"kept": 2.0}


def test_long_values_and_odd_keys_are_accepted(client, start):
    with start(parameters={"long": "x" * 9000, "a@b": 1}, tags={"t[0]": "y" * 9000}) as run:
        pass
    logged = client.get_run(run.id)
    assert logged.data.params["long"].endswith("(cut)")
    assert logged.data.params["a_b"] == "1"
    assert logged.data.tags["t_0_"].endswith("(cut)")


def test_orphans_are_closed_before_the_run_is_made(client, start, monkeypatch):
    order = []
    monkeypatch.setattr(run_module, "close_orphans", lambda *args: order.append(len(client.search_runs(args[1]))))
    with start() as run:
        assert len(client.search_runs(run.experiment_id)) == order[0] + 1
