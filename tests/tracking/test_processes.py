import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from qpipe.tracking import close_orphans
from qpipe.tracking.process import host_name, is_running, own_process, process_start
from qpipe.tracking.provenance import HOST, PID, PROCESS_START

START_RUN = """
import os, signal, sys
from pathlib import Path
from qpipe.config.schema import TrackingConfig
from qpipe.tracking import start_run
with start_run(TrackingConfig(), runs_dir=Path(sys.argv[1]), name=sys.argv[2], parameters={}, tags={}) as run:
    run.log_metrics({"a": 1.0})
    print(run.id, flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""

LOAD_MODEL = """
import sys
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
result = model.predict(np.load(sys.argv[3]))
assert isinstance(result, np.ndarray)
np.save(sys.argv[4], result)
"""


def spawn(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_process_is_known_by_its_start():
    pid, started = own_process()
    assert pid == os.getpid()
    assert is_running(pid, started)
    assert not is_running(pid, "another start")
    child = spawn("import time; time.sleep(60)")
    mark = process_start(child.pid)
    assert mark not in (None, started)
    child.kill()
    child.communicate()
    assert not is_running(child.pid, mark)


def test_a_killed_process_leaves_an_orphan_that_the_next_start_closes(client, start, runs_dir):
    killed = spawn(START_RUN, runs_dir, "killed")
    run_id = killed.communicate(timeout=120)[0].strip()
    assert killed.returncode == -signal.SIGKILL
    assert client.get_run(run_id).info.status == "RUNNING"
    with start() as run:
        orphan = client.get_run(run_id)
        assert orphan.info.status == "KILLED"
        assert "ended without closing the run" in orphan.data.tags["error"]
        assert close_orphans(client, run.experiment_id) == []
        assert client.get_run(run.id).info.status == "RUNNING"


def test_only_runs_of_this_machine_whose_process_is_gone_are_closed(client, start):
    pid, started = own_process()
    kinds = {
        "alive": {HOST: host_name(), PID: str(pid), PROCESS_START: started},
        "reused": {HOST: host_name(), PID: str(pid), PROCESS_START: "an earlier process with the same id"},
        "elsewhere": {HOST: "another-machine", PID: "1", PROCESS_START: "x"},
        "unknown": {},
    }
    experiment = client.create_experiment("orphans")
    ids = {kind: client.create_run(experiment, tags=tags).info.run_id for kind, tags in kinds.items()}
    assert close_orphans(client, experiment) == [ids["reused"]]
    assert client.get_run(ids["alive"]).info.status == "RUNNING"
    assert client.get_run(ids["elsewhere"]).info.status == "RUNNING"


def test_two_processes_can_start_at_once_on_a_fresh_database(tmp_path):
    runs_dir = tmp_path / "fresh"
    processes = [spawn(START_RUN, runs_dir, f"job{number}") for number in range(2)]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    fresh = MlflowClient(tracking_uri=f"sqlite:///{runs_dir}/mlflow.db")
    for output, _ in answers:
        assert fresh.get_run(output.strip()).info.status == "FINISHED"


@pytest.mark.slow
def test_logged_models_open_in_a_fresh_process(client, start, tmp_path):
    import keras

    inputs = keras.Input((6, 5, 3))
    outputs = keras.layers.Dense(4, activation="softmax")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(3, 6, 5, 3)).astype(np.float32)
    y = model.predict(x, verbose=0)
    with start() as run:
        example = {"input_example": x, "output_example": {"classes": y}}
        model_id = run.log_keras_model(tmp_path / "model.keras", name="float", **example)
        run.log_keras_model(tmp_path / "model.keras", name="quantized", **example)
    logged = client.get_logged_model(model_id)
    assert (logged.name, str(logged.status)) == ("float", "READY")
    assert {output.model_id for output in client.get_run(run.id).outputs.model_outputs} >= {model_id}
    np.save(tmp_path / "x.npy", x)
    for uri in (f"models:/{model_id}", f"runs:/{run.id}/quantized"):
        loading = spawn(LOAD_MODEL, run.tracking_uri, uri, tmp_path / "x.npy", tmp_path / "y.npy")
        assert loading.wait(120) == 0, loading.communicate()[1]
        np.testing.assert_allclose(np.load(tmp_path / "y.npy"), y, atol=1e-6)


def test_signature_and_requirements_of_a_logged_model(start, tmp_path):
    from mlflow.models import Model

    (tmp_path / "model.keras").write_bytes(b"any file")
    with start() as run:
        model_id = run.log_keras_model(
            tmp_path / "model.keras",
            name="float",
            input_example=np.zeros((2, 6, 5, 3), np.float32),
            output_example={"classes": np.zeros((2, 4), np.float32)},
        )
        folder = run._store.client.get_logged_model(model_id).artifact_location
    signature = Model.load(folder).signature
    assert [tuple(tensor.shape) for tensor in signature.inputs.inputs] == [(-1, 6, 5, 3)]
    assert [tuple(tensor.shape) for tensor in signature.outputs.inputs] == [(-1, 4)]
    requirements = Path(folder, "requirements.txt").read_text()
    assert "qpipe==" in requirements
    assert "keras==" in requirements
    assert "tensorflow" in requirements
