"""All runs of an experiment that fit a filter, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def runs_matching(client: MlflowClient, experiment_id: str, condition: str) -> Iterator[Run]:
    """Yields the runs of an experiment, the newest first.

    Args:
        client: of an open store.
        experiment_id: the experiment.
        condition: in MLflow's search language, such as `attributes.status = 'RUNNING'`.
    """
    page_token: str | None = None
    while True:
        runs = client.search_runs(
            [experiment_id], filter_string=condition, order_by=["attributes.start_time DESC"], page_token=page_token
        )
        yield from runs
        page_token = runs.token
        if not page_token:
            return
