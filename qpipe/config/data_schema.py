"""The part of the schema that names and configures data sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING


class Task(Enum):
    """What a model predicts: one class of many, any number of classes at once, or numbers."""

    classification = "classification"
    multilabel = "multilabel"
    regression = "regression"


class DigitsTarget(Enum):
    """What the digits are labelled with: the digit of an image, or of each of its pixels (0: background)."""

    digit = "digit"
    pixels = "pixels"


@dataclass(kw_only=True)
class Augmentation:
    """Light augmentation of training images; never applied to validation, test or calibration images."""

    shift: float = 0.0
    """Largest shift in each direction, as a share of height and width; vacated pixels repeat the border."""
    flip: bool = False
    """Whether half of the images are mirrored left to right."""


@dataclass(kw_only=True)
class DataConfig:
    """What every data source has in common."""

    task: Task = Task.classification
    """`classification`: whole class numbers, one per sample or one per pixel; `multilabel`: 0 or 1 for each class;
    `regression`: numbers."""
    images: bool = True
    """Whether samples are images (height, width[, channels]); false takes arrays of any shape, without resizing and
    augmentation; `preprocess` has to be `raw`."""
    image_size: list[int] | None = None
    """[height, width] to which images are resized (bilinear); null keeps their size."""
    channels: int | None = None
    """1 or 3: grey images are repeated, colour images averaged to luminance; null keeps them."""
    preprocess: str = "unit"
    """`raw` (as stored), `unit` (0...255 to 0...1), `symmetric` (to -1...1), or a module of
    `keras.applications` whose `preprocess_input` is used, such as `mobilenet`."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    validation_fraction: float = 0.1
    """Share of the training part that is held out for validation, where the source has no such part."""
    test_fraction: float = 0.2
    """Share of all samples that is held out for the test, where the source has no such part."""
    calibration_samples: int = 512
    """Samples of the training part, without augmentation, that set activation ranges."""
    limit: int | None = None
    """At most this many samples are taken of each part; null takes all."""


@dataclass(kw_only=True)
class DigitsData(DataConfig):
    """scikit-learn's handwritten digits: 1,797 real 8x8 grey images in 10 classes, shipped with the package."""

    target: DigitsTarget = DigitsTarget.digit
    """`digit`: 10 classes, one per image. `pixels`: 11 classes, one per pixel, 0 for the background and 1 + digit for
    the ink."""


@dataclass(kw_only=True)
class NpzKeys:
    """Names of the arrays inside an `.npz` file; a null part is split off from the training part."""

    x_train: str = "x_train"
    """Training images."""
    y_train: str = "y_train"
    """Training labels."""
    x_validation: str | None = None
    """Validation images."""
    y_validation: str | None = None
    """Validation labels."""
    x_test: str | None = "x_test"
    """Test images."""
    y_test: str | None = "y_test"
    """Test labels."""


@dataclass(kw_only=True)
class NpzData(DataConfig):
    """Arrays of an `.npz` file: images (samples, height, width[, channels]) or other samples, and their labels."""

    path: str = MISSING
    """Path of the file, relative to the working folder."""
    keys: NpzKeys = field(default_factory=NpzKeys)
    """Which array of the file is which."""


@dataclass(kw_only=True)
class KerasData(DataConfig):
    """An image set of `keras.datasets`, which Keras downloads once into its own folder."""

    dataset: str = MISSING
    """`mnist`, `fashion_mnist`, `cifar10` or `cifar100`."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of its `load_data`, such as `label_mode: coarse`."""


@dataclass(kw_only=True)
class FolderData(DataConfig):
    """A folder of images with a sub-folder for each class, read batch by batch where they don't fit in memory.

    Where the folder has sub-folders `train`, `validation` (or `val`) and `test`, these are the parts.
    """

    path: str = MISSING
    """Path of the folder, relative to the working folder. The classes are its sub-folders in alphabetical order."""


@dataclass(kw_only=True)
class CallableData(DataConfig):
    """A function of your own that returns arrays or a `tf.data.Dataset`."""

    _target_: str = MISSING
    """Dotted path of the function, such as `my_package.data.load`. It returns (x, y), or ((x_train, y_train),
    (x_test, y_test)), or a `tf.data.Dataset` of single samples (x, y), or two of them (train, test), or a mapping of
    `train`, `validation` and `test` to (x, y) or a `tf.data.Dataset`."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of the function."""
