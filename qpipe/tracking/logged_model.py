"""Logs a `.keras` file as an MLflow model with signature and pinned requirements."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qpipe.tracking.provenance import pinned

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature


def log_keras_model(
    client: MlflowClient,
    *,
    experiment_id: str,
    run_id: str,
    path: Path,
    name: str,
    input_example: np.ndarray,
    output_example: Mapping[str, np.ndarray],
) -> str:
    """Logs a model that `mlflow.pyfunc.load_model` opens without this process.

    MLflow's own way infers requirements by loading the model in another process, which takes most of a
    minute, and works on a global tracking URI; this one does neither.

    Args:
        client: of an open store.
        experiment_id: the run's experiment.
        run_id: the run that made the model.
        path: the `.keras` file.
        name: name of the model within the run.
        input_example: (samples, ...), of which shape and type are recorded.
        output_example: (samples, ...) by the names of the outputs, alike.

    Returns:
        The model's id; its URIs are `models:/<id>` and `runs:/<run id>/<name>`.
    """
    import mlflow
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.models import Model

    requirements = [pin for pin in map(pinned, ("qpipe", "keras", "tensorflow", "numpy")) if pin is not None]
    model = client.create_logged_model(experiment_id, name=name, source_run_id=run_id, model_type="keras")
    try:
        with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*input example was not provided")
            folder = Path(temporary) / "model"
            mlflow.pyfunc.save_model(
                str(folder),
                loader_module="qpipe.tracking.keras_loader",
                data_path=str(path),
                mlflow_model=Model(
                    artifact_path=model.artifact_location,
                    model_uuid=model.model_id,
                    run_id=run_id,
                    model_id=model.model_id,
                ),
                signature=_signature(input_example, output_example),
                pip_requirements=requirements,
            )
            client.log_model_artifacts(model.model_id, str(folder))
    except BaseException:
        client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
        raise
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model.model_id


def _signature(inputs: np.ndarray, outputs: Mapping[str, np.ndarray]) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    names = list(outputs) if len(outputs) > 1 else [None]
    tensors = zip(names, outputs.values(), strict=True)
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(inputs.dtype), (-1, *inputs.shape[1:]))]),
        outputs=Schema([TensorSpec(np.dtype(array.dtype), (-1, *array.shape[1:]), name) for name, array in tensors]),
    )
