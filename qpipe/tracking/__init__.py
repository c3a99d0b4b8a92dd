"""MLflow: one run per job, with its status, parameters, metrics, artifacts and models."""

from qpipe.tracking.orphans import close_orphans
from qpipe.tracking.parameters import flat_parameters
from qpipe.tracking.run import TrackedRun, start_run

__all__ = ["TrackedRun", "close_orphans", "flat_parameters", "start_run"]
