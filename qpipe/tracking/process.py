"""Which process this is, in a way that survives the reuse of process ids."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

_PROC = Path("/proc")


def host_name() -> str:
    """This machine's name."""
    return socket.gethostname()


def process_start(pid: int) -> str | None:
    """When a process of this machine started, as a mark that no other process with the same id ever has.

    Args:
        pid: the process id.

    Returns:
        An opaque mark; None where no such process runs (one that has ended but is not reaped yet counts as gone).
    """
    if (_PROC / "self" / "stat").exists():
        return _start_from_proc(pid)
    return _start_from_ps(pid)


def is_running(pid: int, started: str) -> bool:
    """Whether the process that had `pid` and the mark `started` still runs on this machine."""
    return process_start(pid) == started


def own_process() -> tuple[int, str]:
    """Id and start mark of this process."""
    pid = os.getpid()
    return pid, process_start(pid) or "unknown"


def _start_from_proc(pid: int) -> str | None:
    try:
        status = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    state, *fields = status.rpartition(")")[2].split()
    if state in ("Z", "X"):
        return None
    ticks_since_boot = fields[18]
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = "unknown-boot"
    return f"{boot}/{ticks_since_boot}"


def _start_from_ps(pid: int) -> str | None:
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return " ".join(answer.stdout.split()) or None
