import signal
import subprocess
import sys
import time

import pytest

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
