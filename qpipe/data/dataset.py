"""A loaded data set: its parts, and the forms in which training, evaluation and calibration take them."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from qpipe.config.schema import Augmentation
from qpipe.data.part import Part
from qpipe.data.preprocess import Preprocessor

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger("qpipe")

PartName = Literal["train", "validation", "test"]

_LARGEST_PREPROCESSED_BYTES = 2**30


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images with class labels, split into three parts.

    Parts whose preprocessed images stay below 1 GiB are preprocessed once, when they are first asked
    for; larger ones batch by batch.

    Attributes:
        train: training part, as stored.
        validation: validation part, as stored.
        test: test part, as stored.
        classes: number of classes; labels are 0...classes-1.
        augmentation: variation of training images.
        preprocessor: from stored images to the model's input.
    """

    train: Part
    validation: Part
    test: Part
    classes: int
    augmentation: Augmentation
    preprocessor: Preprocessor
    _preprocessed: dict[PartName, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the model's input."""
        return self.preprocessor.output_shape

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all arrays and of every option that shapes what the model sees."""
        options = {"preprocessor": asdict(self.preprocessor), "augmentation": asdict(self.augmentation)}
        digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
        for part in (self.train, self.validation, self.test):
            for array in (part.x, part.y):
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def steps_per_epoch(self, batch_size: int) -> int:
        """Batches in one epoch of training, the smaller last one included."""
        return math.ceil(len(self.train) / batch_size)

    def training_batches(
        self, batch_size: int, *, seed: int, epochs: int | None = None, first_epoch: int = 0
    ) -> tf.data.Dataset:
        """Shuffled, augmented batches of the training part.

        Order and augmentation of an epoch depend only on `seed` and the epoch's number: a resumed
        training that passes `first_epoch` sees what the undisturbed one would have seen.

        Args:
            batch_size: samples per batch.
            seed: any integer.
            epochs: how many epochs; None never ends.
            first_epoch: number of the first epoch.

        Returns:
            Batches (x float32 (samples, height, width, channels), y int64 (samples,)).
        """
        from qpipe.data.batches import training_stream

        images, preprocessor = self._images_for_streaming("train")
        return training_stream(
            images,
            self.train.y,
            preprocessor=preprocessor,
            augmentation=self.augmentation,
            batch_size=batch_size,
            seed=seed,
            epochs=epochs,
            first_epoch=first_epoch,
        )

    def evaluation_batches(self, part: PartName, batch_size: int) -> tf.data.Dataset:
        """Batches (x float32, y int64) of a part, in order and without augmentation."""
        from qpipe.data.batches import evaluation_stream

        images, preprocessor = self._images_for_streaming(part)
        return evaluation_stream(images, self.labels(part), preprocessor=preprocessor, batch_size=batch_size)

    def inputs(self, part: PartName) -> np.ndarray:
        """The model's inputs for a part: float32 (samples, height, width, channels). Not to be written to."""
        if part in self._preprocessed:
            return self._preprocessed[part]
        array = self.preprocessor.all_at_once(self._part(part).x)
        array.setflags(write=False)
        if self._fits_in_memory(part):
            self._preprocessed[part] = array
        return array

    def labels(self, part: PartName) -> np.ndarray:
        """Class numbers of a part: int64 (samples,)."""
        return self._part(part).y

    def calibration_inputs(self, samples: int, seed: int) -> np.ndarray:
        """Draws inputs from the training part, without augmentation and without replacement.

        Args:
            samples: how many; if there are fewer, all are used and a warning says so.
            seed: decides which.

        Returns:
            float32 (samples, height, width, channels).
        """
        available = len(self.train)
        if samples > available:
            logger.warning(
                "data.calibration_samples=%d, but the training part has only %d samples: all are used.",
                samples,
                available,
            )
        chosen = np.random.default_rng(seed % 2**64).permutation(available)[:samples]
        if self._fits_in_memory("train"):
            return self.inputs("train")[chosen]
        return self.preprocessor.all_at_once(self.train.x[chosen])

    def _part(self, part: PartName) -> Part:
        return {"train": self.train, "validation": self.validation, "test": self.test}[part]

    def _fits_in_memory(self, part: PartName) -> bool:
        return 4 * len(self._part(part)) * math.prod(self.input_shape) <= _LARGEST_PREPROCESSED_BYTES

    def _images_for_streaming(self, part: PartName) -> tuple[np.ndarray, Preprocessor | None]:
        if self._fits_in_memory(part):
            return self.inputs(part), None
        return self._part(part).x, self.preprocessor
