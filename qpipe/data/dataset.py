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

from qpipe.config.schema import Augmentation, Task
from qpipe.data.label_format import LabelFormat
from qpipe.data.part import Part
from qpipe.data.preprocess import Preprocessor, Unchanged
from qpipe.data.samples import fits_in_memory
from qpipe.signature import Signature

if TYPE_CHECKING:
    import tensorflow as tf

    from qpipe.data.batches import Reader, Reading

logger = logging.getLogger("qpipe")

PartName = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Samples with labels, split into three parts.

    Parts whose model inputs stay below 1 GiB are read and preprocessed once, when they are first asked for; of larger
    ones, each batch is read where it is stored.

    Attributes:
        train: training part, as stored.
        validation: validation part, as stored.
        test: test part, as stored.
        signature: shapes of the model's input and output, and the task.
        class_names: one per class, where the source knows them.
        augmentation: variation of training samples.
        preprocessor: from stored samples to the model's input.
        label_format: from stored labels to those that the loss takes.
    """

    train: Part
    validation: Part
    test: Part
    signature: Signature
    class_names: tuple[str, ...] | None
    augmentation: Augmentation
    preprocessor: Preprocessor | Unchanged
    label_format: LabelFormat
    _inputs: dict[PartName, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    _labels: dict[PartName, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @property
    def task(self) -> Task:
        """What the labels mean."""
        return self.signature.task

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all samples and labels and of every option that shapes what the model sees."""
        options = {
            "preprocessor": asdict(self.preprocessor),
            "labels": asdict(self.label_format),
            "augmentation": asdict(self.augmentation),
            "task": self.task.value,
            "output_shape": self.signature.output_shape,
        }
        digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
        for part in (self.train, self.validation, self.test):
            part.x.update_digest(digest)
            part.y.update_digest(digest)
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
            Batches (x float32 (samples, *input_shape), y): y is int64 (samples,) or (samples, height, width) for
            classes, else float32 (samples, *output_shape).
        """
        from qpipe.data.batches import training_stream

        return training_stream(
            self._reading("train"),
            augmentation=self.augmentation,
            label_maps=self.label_format.is_map,
            batch_size=batch_size,
            seed=seed,
            epochs=epochs,
            first_epoch=first_epoch,
        )

    def evaluation_batches(self, part: PartName, batch_size: int) -> tf.data.Dataset:
        """Batches (x, y) of a part, as `training_batches` gives them, but in order and without augmentation."""
        from qpipe.data.batches import evaluation_stream

        return evaluation_stream(self._reading(part), batch_size=batch_size)

    def inputs(self, part: PartName) -> np.ndarray:
        """The model's inputs for a whole part, in memory: float32 (samples, *input_shape). Not to be written to."""
        if part in self._inputs:
            return self._inputs[part]
        array = self.preprocessor.all_at_once(self._part(part).x)
        array.setflags(write=False)
        if self._inputs_fit(part):
            self._inputs[part] = array
        return array

    def labels(self, part: PartName) -> np.ndarray:
        """Labels of a whole part, in memory, of the shapes that `training_batches` gives. Not to be written to."""
        if part in self._labels:
            return self._labels[part]
        array = self.label_format.all_at_once(self._part(part).y)
        array.setflags(write=False)
        if self._labels_fit(part):
            self._labels[part] = array
        return array

    def examples(self, part: PartName, count: int) -> np.ndarray:
        """The model's inputs for the first `count` samples of a part: float32 (at most count, *input_shape)."""
        if part in self._inputs:
            return self._inputs[part][:count]
        stored = self._part(part).x
        return self.preprocessor.all_at_once(stored.take(np.arange(min(count, len(stored)))))

    def calibration_inputs(self, samples: int, seed: int) -> np.ndarray:
        """Draws inputs from the training part, without augmentation and without replacement.

        Args:
            samples: how many; if there are fewer, all are used and a warning says so.
            seed: decides which.

        Returns:
            float32 (samples, *input_shape).
        """
        available = len(self.train)
        if samples > available:
            logger.warning(
                "data.calibration_samples=%d, but the training part has only %d samples: all are used.",
                samples,
                available,
            )
        chosen = np.random.default_rng(seed % 2**64).permutation(available)[:samples]
        if "train" in self._inputs:
            return self._inputs["train"][chosen]
        return self.preprocessor.all_at_once(self.train.x.take(chosen))

    def _part(self, part: PartName) -> Part:
        return {"train": self.train, "validation": self.validation, "test": self.test}[part]

    def _inputs_fit(self, part: PartName) -> bool:
        return fits_in_memory(len(self._part(part)), self.signature.input_shape, np.dtype(np.float32))

    def _labels_fit(self, part: PartName) -> bool:
        return fits_in_memory(len(self._part(part)), self.label_format.shape, np.dtype(self.label_format.dtype))

    def _reading(self, part: PartName) -> Reading:
        """How a part gets into the graph: from memory where it fits."""
        import tensorflow as tf

        from qpipe.data.batches import Reading, from_memory, from_storage

        stored = self._part(part)
        in_memory = self._inputs_fit(part)
        x: Reader = from_memory(self.inputs(part)) if in_memory else from_storage(stored.x, self.preprocessor)
        y: Reader = (
            from_memory(self.labels(part)) if self._labels_fit(part) else from_storage(stored.y, self.label_format)
        )
        return Reading(x=x, y=y, samples=len(stored), threads=2 if in_memory else tf.data.AUTOTUNE)
