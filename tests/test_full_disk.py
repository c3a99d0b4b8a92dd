"""A disk that is full while something is saved: one sentence, a FAILED run that keeps its results, no half a file."""

import errno
import json
import os
import re

import keras
import pytest
from mlflow import MlflowClient
from small_job import overrides, prepare

from qpipe.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("full"))


@pytest.mark.parametrize(
    ("part_of_path", "results"),
    [("model/.*float.keras", set()), ("model/.*quantized.keras", {"quantized/accuracy", "size/packed_weight_bytes"})],
)
def test_full_disk_while_a_model_is_saved(folder, monkeypatch, capfd, part_of_path, results):
    save = keras.Model.save

    def full(model, path, *args, **kwargs):
        if re.search(part_of_path, str(path)):
            path.write_bytes(b"PK\x03\x04 half a file")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return save(model, path, *args, **kwargs)

    monkeypatch.setattr(keras.Model, "save", full)
    runs = folder / f"runs-{len(results)}"
    arguments = overrides(folder, runs_dir=runs, method="ptq", model__train="false", folding__ema_freeze_delay="null")
    assert main(arguments) == 1
    output = capfd.readouterr().err
    assert re.search(r"error: .*\.keras can't be written \(No space left on device\): free some space", output)
    assert "Traceback" not in output
    directory = next((runs / "jobs").rglob("metrics.json")).parent
    assert list((directory / "model").glob("*" + part_of_path.rsplit("*")[-1])) == []
    assert results <= json.loads((directory / "metrics.json").read_text()).keys()
    client = MlflowClient(tracking_uri=f"sqlite:///{runs}/mlflow.db")
    (run,) = client.search_runs(["1"])
    assert run.info.status == "FAILED"
    assert results <= run.data.metrics.keys()
    assert "No space left" in run.data.tags["error"]
