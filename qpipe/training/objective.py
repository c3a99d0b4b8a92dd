"""Compiling a model for a training stage: optimizer, losses and metrics of its outputs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from qpipe.config.schema import Task, TrainingConfig
from qpipe.data import Dataset
from qpipe.errors import ConfigError
from qpipe.first_sentence import first_sentence
from qpipe.training.loss import WHERE as LOSS
from qpipe.training.loss import make_loss
from qpipe.training.metrics import make_metrics
from qpipe.training.outputs import gives_probabilities


def compile_model(
    model: keras.Model, config: TrainingConfig, dataset: Dataset, optimizer: keras.optimizers.Optimizer
) -> list[str]:
    """Compiles a model, and creates the variables of optimizer, loss and metrics.

    With these the training step is traced once, not twice, and a loss that does not fit is found before training.

    Args:
        model: fits the data.
        config: names the loss, and the weights of classes.
        dataset: what the model is trained on.
        optimizer: of the stage.

    Returns:
        Names of the metrics that are measured.

    Raises:
        ConfigError: there is no such loss, or it can't compare the model's outputs with the labels.
    """
    _compile(model, config, dataset, optimizer)
    optimizer.build(model.trainable_variables)
    return _create_metric_variables(model, config, dataset)


def measured_metrics(model: keras.Model, config: TrainingConfig, dataset: Dataset) -> list[str]:
    """Returns the names of the metrics that a training of `model` would measure; the model is as it was afterwards.

    Args:
        model: fits the data.
        config: names the loss, and the weights of classes.
        dataset: what the model would be trained on.

    Raises:
        ConfigError: there is no such loss, or it can't compare the model's outputs with the labels.
    """
    _compile(model, config, dataset, keras.optimizers.SGD())
    try:
        return _create_metric_variables(model, config, dataset)
    finally:
        forget_compilation(model)


def forget_compilation(model: keras.Model) -> None:
    """Makes a model what it was before `compile_model`: it is saved without optimizer, and traced anew when called."""
    model.compiled = False
    model.optimizer = None
    model.train_function = model.test_function = model.predict_function = None


def per_output(model: keras.Model, value: Any) -> Any:
    """Returns labels as Keras wants them: one for each output, where there are several."""
    return value if len(model.outputs) == 1 else (value,) * len(model.outputs)


def _compile(
    model: keras.Model, config: TrainingConfig, dataset: Dataset, optimizer: keras.optimizers.Optimizer
) -> None:
    signature = dataset.signature
    from_logits = [not gives_probabilities(model, output) for output in range(len(model.outputs))]
    losses = [make_loss(config.loss, signature.task, from_logits=logits) for logits in from_logits]
    metrics = [make_metrics(signature, from_logits=logits) for logits in from_logits]
    single = len(model.outputs) == 1
    model.compile(
        optimizer=optimizer,
        loss=losses[0] if single else losses,
        metrics=metrics[0] if single else metrics,
        jit_compile=False,
    )


def _create_metric_variables(model: keras.Model, config: TrainingConfig, dataset: Dataset) -> list[str]:
    signature = dataset.signature
    samples = 3 if signature.classes == 2 else 2  # one, or one per class, would let labels broadcast against outputs
    output = np.full((samples, *signature.output_shape), 1.0 / signature.classes, "float32")
    label = np.zeros(output.shape[:-1], "int64") if signature.task is Task.classification else np.zeros_like(output)
    labels, outputs = per_output(model, label), per_output(model, output)
    weights = None if config.class_weights is None else np.ones(label.shape, "float32")
    try:
        model.compute_loss(y=labels, y_pred=outputs, sample_weight=weights)
    except Exception as error:
        raise ConfigError(
            f"{LOSS}: {config.loss!r} can't compare outputs of shape {('samples', *output.shape[1:])} with labels of "
            f"shape {('samples', *label.shape[1:])}: {first_sentence(error)}"
        ) from error
    model.compute_metrics(None, labels, outputs)
    names = list(model.get_metrics_result())
    model.reset_metrics()
    return names
