import os
import signal
import subprocess
import sys
import time

import pytest

from qpipe.sweep.worker import THREAD_VARIABLES, share_cores
from qpipe.tracking.process import is_running, process_start

WORKER = """
import sys, time
from qpipe.sweep.worker import job_of_worker
with job_of_worker():
    print("begun", flush=True)
    time.sleep(2.5)
    open(sys.argv[1], "w").write("done")
time.sleep(600)
"""
LAUNCHER = """
import subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], stdout=subprocess.PIPE, text=True)
worker.stdout.readline()
print(worker.pid, flush=True)
worker.wait()
"""


@pytest.mark.slow
def test_a_worker_whose_launcher_was_killed_finishes_its_job_and_ends(tmp_path):
    result = tmp_path / "result"
    command = [sys.executable, "-c", LAUNCHER, WORKER, str(result)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        worker = int(launcher.stdout.readline())
        started = process_start(worker)
        assert started is not None
        launcher.send_signal(signal.SIGKILL)
    assert is_running(worker, started)
    deadline = time.monotonic() + 30
    while is_running(worker, started) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_running(worker, started)
    assert result.read_text() == "done"


@pytest.mark.parametrize(
    ("at_once", "cores", "threads"), [(1, 8, None), (2, 8, "4"), (3, 8, "2"), (16, 8, "1"), (-1, 4, "1"), (-3, 4, "2")]
)
def test_workers_share_the_cores(at_once, cores, threads, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(os, "environ", {})
    share_cores(at_once)
    assert [os.environ.get(variable) for variable in THREAD_VARIABLES] == [threads, threads]


def test_threads_that_the_user_has_set_stay(monkeypatch):
    monkeypatch.setattr(os, "environ", {THREAD_VARIABLES[0]: "7"})
    share_cores(10**6)
    assert os.environ == dict(zip(THREAD_VARIABLES, ("7", "1"), strict=True))
