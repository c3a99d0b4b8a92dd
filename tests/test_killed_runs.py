"""A run that is killed at any moment goes on when the same command is given again, and ends as if nothing had been."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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
ROUNDING = {"method": "ptq", "adaround": "gram", "adaround.iterations": 2000, "tracking.log_models": "false"}
RANDOM_MOMENTS = 20


def command(folder: Path, runs: Path, settings: dict[str, object]) -> list[str]:
    changes = {key.replace(".", "__"): value for key, value in settings.items()}
    return [sys.executable, "-m", "qpipe", *overrides(folder, **changes, runs_dir=runs)]


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("QPIPE_")}


def run(
    folder: Path, runs: Path, settings: dict[str, object] = CHANGES
) -> tuple[str, dict[str, float], list[np.ndarray]]:
    """Runs the job to its end; returns its output, its metrics without times, and the quantized model's weights."""
    finished = subprocess.run(
        command(folder, runs, settings), capture_output=True, text=True, check=False, cwd=folder, env=environment()
    )
    assert finished.returncode == 0, finished.stderr
    directory = Path(finished.stdout.split("results in ")[1].splitlines()[0])
    metrics = json.loads((directory / "metrics.json").read_text())
    model = keras.saving.load_model(directory / "model" / "quantized.keras")
    compared = {key: value for key, value in metrics.items() if not key.startswith(("time/", "adaround/peak_memory"))}
    return finished.stdout + finished.stderr, compared, model.get_weights()


def run_and_kill(
    folder: Path,
    runs: Path,
    when: Callable[[int, str], bool],
    delay: float = 0.0,
    settings: dict[str, object] = CHANGES,
) -> int:
    """Starts the job, kills it `delay` seconds after the line for which `when` holds, and returns its status."""
    with subprocess.Popen(
        command(folder, runs, settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        for number, line in enumerate(process.stdout):
            if when(number, line):
                time.sleep(delay)
                process.send_signal(signal.SIGKILL)
                break
    return process.returncode


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The files of the job, the lines that it writes, and how it ends."""
    folder = prepare(tmp_path_factory.mktemp("killed"))
    output, metrics, weights = run(folder, folder / "runs")
    assert metrics["train/qat/freeze_step"] == CHANGES["folding.ema_freeze_delay"]
    return folder, output.splitlines(), metrics, weights


def check_end(undisturbed, runs: Path) -> str:
    """Runs the job again and compares how it ends; returns its output."""
    folder, _, metrics, weights = undisturbed
    output, metrics_after, weights_after = run(folder, runs)
    assert metrics_after == metrics
    for after, before in zip(weights_after, weights, strict=True):
        np.testing.assert_array_equal(after, before)
    client = MlflowClient(tracking_uri=f"sqlite:///{runs}/mlflow.db")
    states = {entry.info.status for entry in client.search_runs(["1"])}
    assert "FINISHED" in states
    assert states <= {"FINISHED", "KILLED"}
    assert [path for path in (runs / "cache" / "checkpoints").iterdir() if path.suffix != ".lock"] == []
    return output


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(RANDOM_MOMENTS))
def test_killed_at_a_random_moment(moment, undisturbed):
    folder, lines, _, _ = undisturbed
    rng = np.random.default_rng(moment)
    first, end = lines_of_qat(lines) if moment % 2 else (0, len(lines) - 5)
    last, delay = rng.integers(first, end), rng.uniform(0.0, 0.5)
    status = run_and_kill(folder, folder / f"runs-{moment}", lambda number, _: number == last, delay)
    assert status == -signal.SIGKILL
    check_end(undisturbed, folder / f"runs-{moment}")


def lines_of_qat(lines: list[str]) -> tuple[int, int]:
    """Returns the first line of quantization-aware training and the first behind it."""
    first, end = (
        next(number for number, line in enumerate(lines) if line.startswith(title))
        for title in ("quantization-aware training", "evaluation")
    )
    return first, end


@pytest.mark.slow
def test_killed_in_the_quantized_training(undisturbed):
    folder = undisturbed[0]
    runs = folder / "runs-watched"
    run_and_kill(folder, runs, lambda _, line: "epoch 3/6" in line)
    output = check_end(undisturbed, runs)
    assert "training.qat goes on after epoch" in output
    assert "in the cache: nothing to train" in output


@pytest.mark.slow
@pytest.mark.parametrize("layer", [1, 2])
def test_killed_between_layers_of_the_rounding(layer, tmp_path):
    """The layers that were rounded are taken over, the next one is rounded, and the end is bit by bit the same."""
    folder = prepare(tmp_path)
    _, metrics, weights = run(folder, folder / "undisturbed", ROUNDING)
    runs = folder / "killed"
    status = run_and_kill(folder, runs, lambda _, line: line.startswith(f"layer {layer}/3"), settings=ROUNDING)
    assert status == -signal.SIGKILL
    assert len(list((runs / "cache" / "rounding").glob("*/*.npz"))) == layer
    output, metrics_after, weights_after = run(folder, runs, ROUNDING)
    assert f"{layer} layer(s) were rounded by a run that was interrupted" in output
    assert metrics_after == metrics
    for after, before in zip(weights_after, weights, strict=True):
        np.testing.assert_array_equal(after, before)
    assert list((runs / "cache" / "rounding").iterdir()) == []
