"""Resizing, channels and scaling: everything about an image that does not change from epoch to epoch."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qpipe import keras_source
from qpipe.config.schema import DataConfig
from qpipe.data.samples import ArraySamples, Samples, transformed
from qpipe.errors import DataError, nearest

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger("qpipe")

OWN_SCALINGS = ("raw", "unit", "symmetric")
_LUMINANCE = (0.299, 0.587, 0.114)
_LOOKED_AT = 1024


def check_preprocess(config: DataConfig) -> None:
    """Checks the name in `data.preprocess`.

    Raises:
        DataError: there is no such scaling and no such module of `keras.applications`.
    """
    modules = keras_source.modules("keras.applications")
    allowed = (*OWN_SCALINGS, *(module for module in modules if module != "imagenet_utils"))
    if config.preprocess not in allowed:
        raise DataError(f"data.preprocess='{config.preprocess}' is unknown; {nearest(config.preprocess, allowed)}")


@dataclass(frozen=True, kw_only=True)
class Preprocessor:
    """Turns stored images into what the model receives.

    Attributes:
        image_shape: (height, width, channels) as stored.
        size: (height, width) after resizing.
        channels: channels afterwards.
        scaling: `raw`, `unit`, `symmetric`, or a module of `keras.applications`.
    """

    image_shape: tuple[int, int, int]
    size: tuple[int, int]
    channels: int
    scaling: str

    @classmethod
    def for_images(cls, config: DataConfig, *, image_shape: tuple[int, ...]) -> Preprocessor:
        """Resolves the options against the stored images.

        Raises:
            DataError: an unknown `data.preprocess`, or channels that can't be converted.
        """
        height, width, stored = image_shape
        channels = config.channels or stored
        if channels != stored and (stored, channels) not in ((1, 3), (3, 1)):
            raise DataError(
                f"data.channels={channels}, but the images have {stored} channels: "
                "only 1 to 3 (repeated) and 3 to 1 (luminance) can be converted."
            )
        check_preprocess(config)
        size = tuple(config.image_size) if config.image_size else (height, width)
        preprocessor = cls(
            image_shape=(height, width, stored), size=(size[0], size[1]), channels=channels, scaling=config.preprocess
        )
        preprocessor._check_scaling()
        return preprocessor

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of what the model receives."""
        return (*self.size, self.channels)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Preprocesses a batch (samples, height, width, channels) of any number type into float32."""
        import tensorflow as tf

        x = tf.cast(images, tf.float32)
        if self.image_shape[2] == 3 and self.channels == 1:
            x = tf.reduce_sum(x * tf.constant(_LUMINANCE, tf.float32), axis=-1, keepdims=True)
        if self.size != self.image_shape[:2]:
            x = tf.image.resize(x, self.size, method="bilinear")
        if self.image_shape[2] == 1 and self.channels == 3:
            x = tf.repeat(x, 3, axis=-1)
        return self._scale(x)

    def all_at_once(self, images: Samples) -> np.ndarray:
        """Preprocesses all samples into a float32 array (samples, height, width, channels), chunk by chunk."""
        return transformed(images, self, self.output_shape, np.dtype(np.float32))

    def warn_if_range_is_odd(self, images: Samples) -> None:
        """Warns where the scaling expects 0...255 but the first 1,024 samples span another range."""
        if self.scaling == "raw" or not isinstance(images, ArraySamples) or images.dtype == np.uint8:
            return
        looked_at = images.read(np.arange(min(_LOOKED_AT, len(images))))
        low, high = float(looked_at.min()), float(looked_at.max())
        if low < 0 or high <= 1 or high > 255:
            logger.warning(
                "data.preprocess=%s expects pixels of 0...255, but the stored images span %g...%g; "
                "data.preprocess=raw leaves them as they are.",
                self.scaling,
                low,
                high,
            )

    def _scale(self, x: tf.Tensor) -> tf.Tensor:
        if self.scaling == "raw":
            return x
        if self.scaling == "unit":
            return x / 255.0
        if self.scaling == "symmetric":
            return x / 127.5 - 1.0
        return _preprocess_input(self.scaling)(x)

    def _check_scaling(self) -> None:
        if self.scaling in OWN_SCALINGS or self.channels == 3:
            return
        import tensorflow as tf

        pixel = tf.zeros((1, 1, 1, self.channels))
        try:
            fits = self._scale(pixel).shape == pixel.shape
        except (ValueError, IndexError, tf.errors.InvalidArgumentError):
            fits = False
        if not fits:
            raise DataError(
                f"data.preprocess={self.scaling} needs colour images, but they have {self.channels} "
                "channels: set data.channels=3, or data.preprocess=unit."
            )


@dataclass(frozen=True, kw_only=True)
class Unchanged:
    """Takes samples that are no images as they are.

    Attributes:
        output_shape: shape of one sample.
    """

    output_shape: tuple[int, ...]

    def __call__(self, samples: tf.Tensor) -> tf.Tensor:
        """Converts a batch of any number type into float32."""
        import tensorflow as tf

        return tf.cast(samples, tf.float32)

    def all_at_once(self, samples: Samples) -> np.ndarray:
        """Reads all samples into a float32 array."""
        return transformed(samples, np.asarray, self.output_shape, np.dtype(np.float32))


def _preprocess_input(module: str) -> Callable[[Any], Any]:
    return importlib.import_module(f"keras.applications.{module}").preprocess_input
