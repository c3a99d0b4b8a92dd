"""A sweep that is killed again and again goes on with the same command, and ends as if nothing had been."""

import signal
import subprocess
import time
from collections import Counter

import numpy as np
import pytest
from small_sweep import ENVIRONMENT, SmallSweep

from qpipe.lock import locked
from qpipe.sweep.membership import IDENTITY

BITS = (8, 7, 6, 5, 4, 3)
SWEPT = f"quantizer.weight.bitwidth={','.join(map(str, BITS))}"
LAUNCHERS = {"basic": (), "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")}
KILLS = 5


@pytest.fixture(scope="module", params=LAUNCHERS)
def undisturbed(request, small_files, tmp_path_factory):
    """The launcher, how long an undisturbed sweep with it took, and the metrics of its jobs.

    Launchers give TensorFlow different numbers of threads, on which the order of its float sums depends.
    """
    sweep = SmallSweep(small_files, tmp_path_factory.mktemp("undisturbed") / "runs")
    started = time.perf_counter()
    done = sweep.run(SWEPT, *LAUNCHERS[request.param])
    assert done.returncode == 0, done.stderr
    return request.param, time.perf_counter() - started, finished_metrics(sweep)


def finished_metrics(sweep):
    """Metrics but times of each job, which has finished once; all other attempts were killed."""
    parents, children = sweep.all_runs()
    assert [parent.info.status for parent in parents] == ["FINISHED"]
    assert {run.info.status for run in children} <= {"FINISHED", "KILLED"}
    finished = [run for run in children if run.info.status == "FINISHED"]
    counts = Counter(run.data.tags["swept/bitwidth"] for run in finished)
    assert counts == {str(bits): 1 for bits in BITS}
    return {
        run.data.tags["swept/bitwidth"]: {
            key: value for key, value in run.data.metrics.items() if not key.startswith("time/")
        }
        for run in finished
    }


@pytest.mark.slow
def test_killed_at_random_moments(undisturbed, small_sweep):
    """With joblib two jobs run at once, in processes that outlive the one that is killed."""
    launcher, seconds, metrics = undisturbed
    command = small_sweep.command(SWEPT, *LAUNCHERS[launcher])
    rng = np.random.default_rng(len(launcher))
    for delay in rng.uniform(0.1, 0.5, KILLS) * seconds:
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=small_sweep.folder, env=ENVIRONMENT
        ) as process:
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
    done = small_sweep.run(SWEPT, *LAUNCHERS[launcher])
    assert done.returncode == 0, done.stderr
    assert finished_metrics(small_sweep) == metrics


@pytest.mark.slow
def test_a_job_that_another_process_works_at_is_waited_for(small_sweep):
    """As after a launcher's death: between its looking for results and its run in MLflow a job imports for seconds."""
    swept = "quantizer.weight.bitwidth=8"
    done = small_sweep.run(swept)
    assert done.returncode == 0, done.stderr
    (parent,), (child,) = small_sweep.all_runs()
    small_sweep.client.delete_run(child.info.run_id)
    name = f"{parent.info.run_id}-{child.data.tags[IDENTITY]}.lock"
    with locked(small_sweep.runs / "cache" / "sweeps" / name, "nobody"):
        again = subprocess.Popen(
            small_sweep.command(swept), stderr=subprocess.PIPE, text=True, cwd=small_sweep.folder, env=ENVIRONMENT
        )
        assert again.stderr is not None
        assert next((line for line in again.stderr if "is running in another process: waiting for it" in line), None)
        small_sweep.client.restore_run(child.info.run_id)
    said = again.communicate(timeout=300)[1]
    assert again.returncode == 0
    assert f"has finished before: run {child.info.run_id}" in said
    assert len(small_sweep.all_runs()[1]) == 1
