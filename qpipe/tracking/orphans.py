"""Closes runs that say RUNNING although their process is gone (killed, or the machine went down)."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from qpipe.tracking.process import host_name, is_running
from qpipe.tracking.provenance import HOST, PID, PROCESS_START
from qpipe.tracking.search import runs_matching

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger("qpipe")


def close_orphans(client: MlflowClient, experiment_id: str) -> list[str]:
    """Ends this machine's orphaned runs of an experiment as KILLED, with a tag `error` that says why.

    Args:
        client: of an open store.
        experiment_id: whose runs are looked at.

    Returns:
        Ids of the runs that were closed.
    """
    host = host_name()
    condition = f"attributes.status = 'RUNNING' and tags.`{HOST}` = '{host}'"
    closed: list[str] = []
    for run in list(runs_matching(client, experiment_id, condition)):
        if is_alive(run):
            continue
        reason = f"process {run.data.tags.get(PID)} on {host} ended without closing the run"
        close_as_killed(client, run, f"{reason}; closed by process {os.getpid()}")
        closed.append(run.info.run_id)
    return closed


def is_alive(run: Run) -> bool:
    """Whether the process that writes a run is one of this machine and still runs."""
    tags = run.data.tags
    pid = tags.get(PID, "")
    return tags.get(HOST) == host_name() and pid.isdigit() and is_running(int(pid), tags.get(PROCESS_START, ""))


def close_as_killed(client: MlflowClient, run: Run, reason: str) -> None:
    """Ends another process' run as KILLED."""
    client.set_tag(run.info.run_id, "error", reason)
    client.set_terminated(run.info.run_id, status="KILLED")
    logger.info("Run %s (%s) was left open: %s.", run.info.run_name, run.info.run_id, reason)
