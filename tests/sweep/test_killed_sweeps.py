"""A sweep that is killed at any moment goes on with the same command, and ends as if nothing had been."""

import signal
import subprocess
import time
from collections import Counter

import numpy as np
import pytest
from small_sweep import ENVIRONMENT, SmallSweep

BITS = (8, 5, 4, 3)
SWEPT = f"quantizer.weight.bitwidth={','.join(map(str, BITS))}"
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
RANDOM_MOMENTS = 10


@pytest.fixture(scope="module")
def undisturbed(small_files, tmp_path_factory):
    """An undisturbed sweep: how long it took, and the metrics of each job."""
    sweep = SmallSweep(small_files, tmp_path_factory.mktemp("undisturbed") / "runs")
    started = time.perf_counter()
    done = sweep.run(SWEPT)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - started, finished_metrics(sweep)


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
@pytest.mark.parametrize("moment", range(RANDOM_MOMENTS))
def test_killed_at_a_random_moment(moment, undisturbed, small_sweep):
    """Every other time two jobs run at once, and their processes outlive the one that is killed."""
    seconds, metrics = undisturbed
    options = JOBLIB if moment % 2 else ()
    delay = np.random.default_rng(moment).uniform(0.2, 0.95) * seconds
    with subprocess.Popen(
        small_sweep.command(SWEPT, *options),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=small_sweep.folder,
        env=ENVIRONMENT,
    ) as process:
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    done = small_sweep.run(SWEPT, *options)
    assert done.returncode == 0, done.stderr
    assert finished_metrics(small_sweep) == metrics
