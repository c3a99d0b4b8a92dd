"""What can be checked of `training` before anything is trained, once the data and a model are there."""

from __future__ import annotations

import keras

from qpipe.config.schema import JobConfig, MethodName
from qpipe.data import Dataset
from qpipe.training.callbacks import check_callbacks
from qpipe.training.class_weights import class_weights
from qpipe.training.distribution import steps_per_epoch
from qpipe.training.objective import measured_metrics
from qpipe.training.optimizer import make_optimizer


def check_before_training(config: JobConfig, dataset: Dataset, model: keras.Model) -> None:
    """Finds mistakes in the settings of all training stages that the job runs.

    Callbacks are not made, as that may write files; all else is.

    Args:
        config: the job.
        dataset: what the models are trained on.
        model: the float model, trained or not; it is as it was afterwards. Where it has several outputs, the names of
            those of the quantized model differ, and what `training.qat` monitors is left to the training.

    Raises:
        ConfigError: the first mistake.
    """
    training = config.training
    stages = {"float": config.model.train, "qat": config.method.name is MethodName.qat}
    used = [name for name, is_used in stages.items() if is_used]
    if not used:
        return
    class_weights(training.class_weights, dataset)
    names = measured_metrics(model, training, dataset)
    monitors = [*names, *(f"val_{name}" for name in names if len(dataset.validation))]
    for name in used:
        stage, where = getattr(training, name), f"training.{name}"
        make_optimizer(stage, stage.epochs * steps_per_epoch(training, stage, dataset), where)
        is_known = name == "float" or len(model.outputs) == 1
        check_callbacks(stage, monitors if is_known else None, where)
