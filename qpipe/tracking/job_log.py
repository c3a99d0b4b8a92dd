"""What a job has computed so far, kept in its folder and in its MLflow run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qpipe.storage import whole_file, write_text
from qpipe.tracking.location import without_password
from qpipe.tracking.run import TrackedRun

if TYPE_CHECKING:
    import keras
    import numpy as np

    from qpipe.config.schema import JobConfig


class JobLog:
    """Writes every result to the job's folder first, then to the run; nothing waits for the job's end.

    Args:
        run: the MLflow run.
        directory: the job's folder.
    """

    def __init__(self, run: TrackedRun, directory: Path):
        self.run = run
        self.directory = directory
        self.metrics: dict[str, float] = {}
        self.histories: dict[str, Mapping[str, list[float]]] = {}

    def configuration(self, config: JobConfig) -> None:
        """Stores the resolved configuration as `config.yaml`."""
        from omegaconf import OmegaConf

        text = without_password(OmegaConf.to_yaml(OmegaConf.structured(config)))
        write_text(self.directory / "config.yaml", text)
        self.run.log_text("config.yaml", text)

    @contextmanager
    def timed(self, name: str, stage: AbstractContextManager, times: Mapping[str, float]) -> Iterator[None]:
        """Runs a stage, then records its time and sends what was gathered, also where the stage fails."""
        try:
            with stage:
                yield
        finally:
            if name in times:
                self.record({f"time/{name}_s": times[name]})
            self._write_metrics()
        self.run.flush()

    def record(self, metrics: Mapping[str, float]) -> None:
        """Records metrics that have no course."""
        self.metrics.update(metrics)
        self.run.log_metrics(metrics)

    def history(self, stage: str, history: Mapping[str, list[float]]) -> None:
        """Records the metrics of a training's epochs as `train/<stage>/...` and `val/<stage>/...`."""
        self.histories[stage] = history
        for epoch in range(max((len(values) for values in history.values()), default=0)):
            metrics = {_epoch_key(stage, name): values[epoch] for name, values in history.items()}
            self.metrics.update(metrics)
            self.run.log_metrics(metrics, step=epoch + 1)

    def json(self, name: str, content: Any) -> None:
        """Stores `content` as a JSON file."""
        write_text(self.directory / name, json.dumps(content, indent=2))
        self.run.log_json(name, content)

    def model(self, name: str, model: keras.Model) -> None:
        """Stores a model as `model/<name>.keras`.

        Raises:
            StorageError: the file can't be written.
        """
        path = self._model_path(name)
        with whole_file(path) as temporary:
            model.save(temporary)
        self.run.log_file(path, "model")

    def logged_model(self, name: str, inputs: np.ndarray, outputs: Mapping[str, np.ndarray]) -> None:
        """Registers a stored model as a logged model, with the signature of the examples; outputs by their names."""
        self.run.log_keras_model(self._model_path(name), name=name, input_example=inputs, output_example=outputs)

    def _model_path(self, name: str) -> Path:
        return self.directory / "model" / f"{name}.keras"

    def _write_metrics(self) -> None:
        write_text(self.directory / "metrics.json", json.dumps(self.metrics, indent=2))


def _epoch_key(stage: str, name: str) -> str:
    return f"val/{stage}/{name[4:]}" if name.startswith("val_") else f"train/{stage}/{name}"
