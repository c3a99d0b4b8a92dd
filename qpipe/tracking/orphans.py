"""Closes runs that say RUNNING although their process is gone (killed, or the machine went down)."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from qpipe.tracking.process import host_name, is_running
from qpipe.tracking.provenance import HOST, PID, PROCESS_START

if TYPE_CHECKING:
    from mlflow import MlflowClient

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
    page_token: str | None = None
    closed: list[str] = []
    while True:
        runs = client.search_runs(
            [experiment_id],
            filter_string=f"attributes.status = 'RUNNING' and tags.`{HOST}` = '{host}'",
            page_token=page_token,
        )
        for run in runs:
            tags = run.data.tags
            if _is_alive(tags.get(PID, ""), tags.get(PROCESS_START, "")):
                continue
            reason = f"process {tags.get(PID)} on {host} ended without closing the run; closed by process {os.getpid()}"
            client.set_tag(run.info.run_id, "error", reason)
            client.set_terminated(run.info.run_id, status="KILLED")
            logger.info("Run %s (%s) was left open: %s.", run.info.run_name, run.info.run_id, reason)
            closed.append(run.info.run_id)
        page_token = runs.token
        if not page_token:
            return closed


def _is_alive(pid: str, started: str) -> bool:
    return pid.isdigit() and is_running(int(pid), started)
