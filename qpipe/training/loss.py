"""What a training minimizes, by the task, by name or by `_target_`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from qpipe import targets
from qpipe.config.schema import Task
from qpipe.errors import ConfigError, nearest
from qpipe.training.names import loss_names, matching

WHERE = "training.loss"
_BY_TASK = {
    Task.classification: "SparseCategoricalCrossentropy",
    Task.multilabel: "BinaryCrossentropy",
    Task.regression: "MeanSquaredError",
}
_OF_CLASS_NUMBERS = ("SparseCategoricalCrossentropy", "CategoricalGeneralizedCrossEntropy")
_OF_ONE_HOT = ("CategoricalCrossentropy", "CategoricalFocalCrossentropy", "CategoricalHinge")


def make_loss(config: Any, task: Task, *, from_logits: bool) -> Callable[..., Any]:
    """Returns the loss of one output of a model.

    Losses of Keras that compare with one-hot labels (`categorical_crossentropy`, for its label smoothing) get the
    class numbers of a classification as such.

    Args:
        config: `training.loss`: null, a name, or a mapping with `_target_`.
        task: what the labels mean.
        from_logits: whether the output is no probability; passed on to losses that ask for it.

    Raises:
        ConfigError: there is no such loss, it refuses its arguments, or it can't compare class numbers.
    """
    if isinstance(config, Mapping):
        loss = _from_target(config, from_logits)
    else:
        loss = _by_name(_BY_TASK[task] if config is None else _class_name(config), from_logits)
    return _for_class_numbers(loss) if task is Task.classification else loss


def _class_name(config: str) -> str:
    known = loss_names()
    name = matching(config, known)
    if name is None:
        raise ConfigError(f"{WHERE}: unknown loss {config!r}; {nearest(config.lower(), known)}")
    return name


def _by_name(name: str, from_logits: bool) -> keras.losses.Loss:
    kind = getattr(keras.losses, name)
    takes_logits = "from_logits" in inspect.signature(kind).parameters
    return kind(from_logits=from_logits) if takes_logits else kind()


def _from_target(config: Mapping[str, Any], from_logits: bool) -> Callable[..., Any]:
    path = config[targets.TARGET]
    target = targets.locate(path, WHERE)
    if not inspect.isclass(target) and list(inspect.signature(target).parameters)[:2] == ["y_true", "y_pred"]:
        arguments = {name: value for name, value in config.items() if name != targets.TARGET}
        if "from_logits" in inspect.signature(target).parameters:
            arguments.setdefault("from_logits", from_logits)
        return functools.partial(target, **arguments)
    loss = targets.instantiated(config, WHERE, from_logits=from_logits)
    if not callable(loss):
        raise ConfigError(f"{WHERE}: {path} returned a {type(loss).__name__}; a Keras loss is needed")
    return loss


def _for_class_numbers(loss: Callable[..., Any]) -> Callable[..., Any]:
    original = loss.func if isinstance(loss, functools.partial) else type(loss)
    name = original.__name__
    kind = matching(name, loss_names())
    if getattr(keras.losses, name, None) is not original or kind is None or kind in _OF_CLASS_NUMBERS:
        return loss
    if kind in _OF_ONE_HOT:
        return OneHotLoss(loss, name)
    allowed = [key for key, kind in loss_names().items() if kind in (*_OF_CLASS_NUMBERS, *_OF_ONE_HOT)]
    raise ConfigError(
        f"{WHERE}: {name} can't compare the class numbers of data.task=classification; allowed: "
        + ", ".join(sorted(allowed))
    )


class OneHotLoss(keras.losses.Loss):
    """A loss of Keras that takes one-hot labels, for class numbers.

    Args:
        loss: the loss, or a function of labels and outputs that gives the loss of each sample.
        name: of this loss.
    """

    def __init__(self, loss: Callable[..., Any], name: str):
        super().__init__(name=name, reduction=getattr(loss, "reduction", "sum_over_batch_size"))
        self._compare = loss.call if isinstance(loss, keras.losses.Loss) else loss

    def call(self, y_true, y_pred):
        """Returns the loss of each sample (or pixel); `y_true` holds class numbers, `y_pred` one score per class."""
        numbers = ops.reshape(ops.cast(y_true, "int32"), ops.shape(y_pred)[:-1])
        return self._compare(ops.one_hot(numbers, y_pred.shape[-1], dtype=y_pred.dtype), y_pred)
