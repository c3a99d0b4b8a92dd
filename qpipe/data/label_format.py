"""From labels as they are stored to labels as the loss takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qpipe.config.schema import DataConfig, Task
from qpipe.data.samples import Samples, transformed
from qpipe.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True, kw_only=True)
class LabelFormat:
    """Resizes label maps together with their images; other labels stay as they are.

    Attributes:
        shape: of a sample's labels afterwards: () for one class, (height, width) for a class per pixel, else the shape
            of the model's output.
        dtype: `int64` for class numbers, else `float32`.
        is_map: whether the first two axes are those of the image, so that augmentation moves them.
        resized: whether maps are brought to another size: class numbers by nearest neighbour, numbers bilinearly.
    """

    shape: tuple[int, ...]
    dtype: str
    is_map: bool
    resized: bool

    @classmethod
    def for_labels(cls, config: DataConfig, *, stored: tuple[int, ...], image_shape: tuple[int, ...]) -> LabelFormat:
        """Resolves the options against the stored labels.

        Args:
            config: `task`, `images` and `image_size` are used.
            stored: shape of a sample's labels.
            image_shape: shape of a sample.

        Raises:
            DataError: a map of classes has another size than its image.
        """
        classes = config.task is Task.classification
        dtype = "int64" if classes else "float32"
        same_size = config.images and len(stored) >= 2 and stored[:2] == image_shape[:2]
        if classes and config.images and len(stored) == 2 and not same_size:
            raise DataError(
                f"Labels of {stored[0]}x{stored[1]} pixels don't fit images of {image_shape[0]}x{image_shape[1]}: "
                "a class per pixel needs the size of the images."
            )
        is_map = same_size and len(stored) == (2 if classes else 3)
        size = tuple(config.image_size) if is_map and config.image_size else stored[:2]
        return cls(shape=(*size, *stored[2:]), dtype=dtype, is_map=is_map, resized=is_map and tuple(size) != stored[:2])

    def __call__(self, labels: Any) -> tf.Tensor:
        """Converts a batch (samples, ...) of stored labels."""
        import tensorflow as tf

        if not self.resized:
            return tf.convert_to_tensor(labels)
        if self.dtype == "int64":
            return tf.image.resize(labels[..., tf.newaxis], self.shape[:2], method="nearest")[..., 0]
        return tf.image.resize(labels, self.shape[:2], method="bilinear")

    def all_at_once(self, labels: Samples) -> np.ndarray:
        """Converts all labels of a part: an array (samples, *shape)."""
        transform = self if self.resized else np.asarray
        return transformed(labels, transform, self.shape, np.dtype(self.dtype))
