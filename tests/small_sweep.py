"""Sweeps of a small job, from the command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from small_job import overrides

PTQ = {
    "method": "ptq",
    "training.qat.epochs": ...,
    "training.qat.batch_size": ...,
    "training.qat.learning_rate": ...,
    "folding.ema_freeze_delay": ...,
    "tracking.log_models": "false",
}
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("QPIPE_")}


@dataclass(frozen=True)
class SmallSweep:
    """Files of a small job, and a folder for its runs."""

    folder: Path
    runs: Path

    def command(self, *swept: str, **changes: object) -> list[str]:
        settings = {key.replace(".", "__"): value for key, value in PTQ.items()} | {"runs_dir": self.runs} | changes
        return [sys.executable, "-m", "qpipe", "--multirun", *overrides(self.folder, **settings), *swept]

    def run(self, *swept: str, **changes: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*swept, **changes),
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=ENVIRONMENT,
            timeout=600,
        )

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=f"sqlite:///{self.runs}/mlflow.db")

    def all_runs(self):
        """The parents, the newest first, and the children."""
        runs = list(self.client.search_runs(["1"]))
        parents = [run for run in runs if "qpipe.sweep.command" in run.data.tags]
        return parents, [run for run in runs if "mlflow.parentRunId" in run.data.tags]
