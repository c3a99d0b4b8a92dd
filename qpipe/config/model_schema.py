"""The part of the schema that names and configures models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass(kw_only=True)
class ModelConfig:
    """What every kind of model has in common."""

    train: bool = True
    """Whether `training.float` runs on the model; false uses its weights as they are."""


@dataclass(kw_only=True)
class ApplicationModel(ModelConfig):
    """A network of `keras.applications`, built for the data's shape and classes."""

    application: str = MISSING
    """Name of the builder, as in `keras.applications`: `MobileNet`, `ResNet50`, ..."""
    weights: str | None = None
    """null, `imagenet` (downloaded; other classes than ImageNet's 1,000 get a new head), or the path of a weights
    file."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the builder, such as `alpha: 0.25`; with `include_top: false` the data's classes get a new
    head behind a global average pooling."""
    batchnorm_momentum: float | None = None
    """Momentum of the moving statistics of all batch normalizations; null keeps the network's own (mostly 0.99,
    which needs some thousand training steps to settle)."""


@dataclass(kw_only=True)
class FileModel(ModelConfig):
    """A saved `.keras` file."""

    path: str = MISSING
    """Path of the file, relative to the working folder."""
    trusted: bool = False
    """Whether Python code inside the file (Lambda layers) may run."""
    train: bool = False
    """Whether `training.float` trains the loaded weights on; false uses them as they are."""


@dataclass(kw_only=True)
class LayersModel(ModelConfig):
    """A network written as a list of layers: Keras class names and their arguments."""

    layers: list[Any] = MISSING
    """One mapping per layer: `layer` (a class of `keras.layers`, or a dotted path of your own), optionally `name` and
    `inputs` (names; the model's input is `input`; without it, the layer before), and the arguments of the class. The
    text `classes` in an argument stands for the number of the data's classes."""
    outputs: list[str] | None = None
    """Names of the layers that are outputs; all are trained on the same labels, the first is the one that is
    measured. null: the last layer."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Values of your own that the list refers to, as `${model.arguments.width}`."""


@dataclass(kw_only=True)
class CallableModel(ModelConfig):
    """A function of your own that returns a Keras model."""

    _target_: str = MISSING
    """Dotted path of the function, such as `my_package.models.tiny_net`. It may take `input_shape` (height, width,
    channels) and `classes`, which follow from the data."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the function."""
