"""A run that is killed at any moment goes on when the same command is given again, and ends as if nothing had been."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from mlflow import MlflowClient
from small_job import overrides, prepare

import qpipe.layers  # noqa: F401  (registers our layers, so that the saved models load)

CHANGES = {
    "training.float.epochs": 4,
    "training.qat.epochs": 6,
    "folding.ema_freeze_delay": 20,
    "data.augmentation.shift": 0.1,
    "tracking.log_models": "false",
}
RANDOM_MOMENTS = 20


def command(folder: Path, runs: Path) -> list[str]:
    changes = {key.replace(".", "__"): value for key, value in CHANGES.items()}
    return [sys.executable, "-m", "qpipe", *overrides(folder, **changes, runs_dir=runs)]


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("QPIPE_")}


def run(folder: Path, runs: Path) -> tuple[str, dict[str, float], list[np.ndarray]]:
    """Runs the job to its end; returns its output, its metrics without times, and the quantized model's weights."""
    finished = subprocess.run(
        command(folder, runs), capture_output=True, text=True, check=False, cwd=folder, env=environment()
    )
    assert finished.returncode == 0, finished.stderr
    directory = Path(finished.stdout.split("results in ")[1].splitlines()[0])
    metrics = json.loads((directory / "metrics.json").read_text())
    model = keras.saving.load_model(directory / "model" / "quantized.keras")
    compared = {key: value for key, value in metrics.items() if not key.startswith("time/")}
    return finished.stdout + finished.stderr, compared, model.get_weights()


def kill_after(folder: Path, runs: Path, seconds: float) -> bool:
    """Starts the job and kills it after `seconds`; returns whether it was still running."""
    with subprocess.Popen(
        command(folder, runs), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, env=environment()
    ) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            return True
    return False


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The files of the job, how long it takes, and how it ends."""
    folder = prepare(tmp_path_factory.mktemp("killed"))
    started = time.monotonic()
    _, metrics, weights = run(folder, folder / "runs")
    return folder, time.monotonic() - started, metrics, weights


def check_that_it_goes_on(undisturbed, share: float) -> str:
    folder, seconds, metrics, weights = undisturbed
    runs = folder / f"runs-{share:.4f}"
    kill_after(folder, runs, share * seconds)
    output, metrics_after, weights_after = run(folder, runs)
    assert metrics_after == metrics
    for after, before in zip(weights_after, weights, strict=True):
        np.testing.assert_array_equal(after, before)
    client = MlflowClient(tracking_uri=f"sqlite:///{runs}/mlflow.db")
    states = [entry.info.status for entry in client.search_runs(["1"])]
    assert states.count("FINISHED") == 1
    assert set(states) <= {"FINISHED", "KILLED"}
    assert list((runs / "cache" / "checkpoints").glob("*.npz")) == []
    return output


@pytest.mark.slow
@pytest.mark.parametrize("share", np.random.default_rng(7).uniform(0.02, 1.0, RANDOM_MOMENTS).tolist())
def test_killed_at_a_random_moment(share, undisturbed):
    check_that_it_goes_on(undisturbed, share)


def test_killed_in_the_quantized_training(undisturbed):
    folder, _, metrics, weights = undisturbed
    runs = folder / "runs-watched"
    with subprocess.Popen(
        command(folder, runs),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder,
        env=environment(),
    ) as process:
        for line in process.stdout:
            if "epoch 3/6" in line:
                process.send_signal(signal.SIGKILL)
                break
    output, metrics_after, weights_after = run(folder, runs)
    assert "training.qat goes on after epoch" in output
    assert "in the cache: nothing to train" in output
    assert metrics_after == metrics
    for after, before in zip(weights_after, weights, strict=True):
        np.testing.assert_array_equal(after, before)
