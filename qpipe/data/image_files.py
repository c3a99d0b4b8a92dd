"""Image files that are read when they are needed."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from qpipe.config.schema import FolderData
from qpipe.data.folder import FilePart
from qpipe.data.part import Part
from qpipe.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger("qpipe")

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class ImageFiles:
    """PNG, JPEG, BMP and GIF files (of a GIF the first frame), decoded each time they are read.

    Attributes:
        files: paths (samples,), of objects.
        digests: SHA-256 of each file's content (samples, 32), uint8.
        shape: (height, width, channels): 1 channel where all images are grey, else 3.
        resized: whether each image is brought to this height and width (bilinear, float32); else all have it (uint8).
    """

    files: np.ndarray
    digests: np.ndarray
    shape: tuple[int, int, int]
    resized: bool

    @property
    def dtype(self) -> np.dtype:
        """Type of what is read."""
        return np.dtype(np.float32 if self.resized else np.uint8)

    def __len__(self) -> int:
        return len(self.files)

    def take(self, indices: np.ndarray) -> ImageFiles:
        """The files at `indices`, in that order."""
        return ImageFiles(self.files[indices], self.digests[indices], self.shape, self.resized)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Decodes the images at `indices`: (count, height, width, channels)."""
        result = np.empty((len(indices), *self.shape), self.dtype)

        def read_into(place: int) -> None:
            result[place] = self._read(self.files[indices[place]]).numpy()

        _in_threads(read_into, range(len(indices)))
        return result

    def tensor(self, indices: tf.Tensor) -> tf.Tensor:
        """What `read` returns, inside a TensorFlow graph."""
        import tensorflow as tf

        paths = tf.constant([str(file) for file in self.files])
        spec = tf.TensorSpec(self.shape, tf.as_dtype(self.dtype))
        return tf.map_fn(self._read, tf.gather(paths, indices), fn_output_signature=spec)

    def update_digest(self, digest: Any) -> None:
        """Adds the content of the files, which was read once, and their order to a digest."""
        digest.update(f"images{(len(self), *self.shape)}{self.resized}".encode())
        digest.update(np.ascontiguousarray(self.digests).data)

    def _read(self, path: Any) -> tf.Tensor:
        import tensorflow as tf

        image = tf.io.decode_image(tf.io.read_file(path), expand_animations=False)
        grey = image[..., :1]
        if self.shape[2] == 3:
            image = tf.cond(tf.shape(image)[2] < 3, lambda: tf.repeat(grey, 3, axis=2), lambda: image[..., :3])
        else:
            image = grey
        if self.resized:
            image = tf.image.resize(image, self.shape[:2], method="bilinear")
        return tf.ensure_shape(image, self.shape)


@dataclass(frozen=True)
class _Facts:
    """What one image file holds."""

    digest: bytes
    height: int
    width: int
    channels: int


def examined(parts: Sequence[FilePart], config: FolderData) -> list[Part]:
    """Reads and decodes each file once, so that a bad one is found before anything is computed with the others.

    Args:
        parts: the files.
        config: `image_size` and `channels` are used.

    Returns:
        The parts as samples, all of one shape.

    Raises:
        DataError: a file can't be read or decoded, or the images have different sizes and there is no
            `data.image_size`.
    """
    facts = [_in_threads(_examine, part.files) for part in parts]
    all_facts = [fact for part in facts for fact in part]
    all_files = np.concatenate([part.files for part in parts])
    _report_transparency(all_files, all_facts)
    first = all_facts[0]
    other = next((n for n, fact in enumerate(all_facts) if (fact.height, fact.width) != (first.height, first.width)), 0)
    if other and not config.image_size:
        raise DataError(
            f"Images have different sizes: {all_files[0]} has (height, width) = {first.height, first.width}, "
            f"{all_files[other]} has {all_facts[other].height, all_facts[other].width}; "
            "data.image_size=[height,width] brings all to one."
        )
    height, width = config.image_size if other and config.image_size else (first.height, first.width)
    shape = (height, width, 3 if any(fact.channels >= 3 for fact in all_facts) else 1)
    return [
        Part(
            x=ImageFiles(
                part.files,
                np.array([np.frombuffer(fact.digest, np.uint8) for fact in found]),
                shape,
                resized=bool(other),
            ),
            y=part.y,
        )
        for part, found in zip(parts, facts, strict=True)
    ]


def _examine(file: str) -> _Facts:
    import tensorflow as tf

    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise DataError(f"data.path: {file} can't be read: {error.strerror or error}.") from None
    _refuse_coloured_palette(content, file)
    try:
        shape = tf.io.decode_image(content, expand_animations=False).shape
    except tf.errors.OpError:
        raise DataError(f"data.path: {file} is damaged, truncated or not a PNG, JPEG, BMP or GIF image.") from None
    return _Facts(hashlib.sha256(content).digest(), *shape)


def _refuse_coloured_palette(content: bytes, file: str) -> None:
    """Refuses a BMP file whose pixels are numbers of colours: TensorFlow would take the numbers for grey values."""
    if content[:2] != b"BM" or len(content) < 54 or int.from_bytes(content[28:30], "little") > 8:
        return
    start = 14 + int.from_bytes(content[14:18], "little")
    pixels = int.from_bytes(content[10:14], "little")
    palette = np.frombuffer(content[start:pixels], np.uint8)
    colours = palette[: len(palette) // 4 * 4].reshape(-1, 4)[:, :3]
    if (colours != np.arange(len(colours))[:, np.newaxis]).any():
        raise DataError(f"data.path: {file} is a BMP image with a palette, which can't be decoded; save it as PNG.")


def _report_transparency(files: np.ndarray, facts: Sequence[_Facts]) -> None:
    transparent = [file for file, fact in zip(files, facts, strict=True) if fact.channels in (2, 4)]
    if transparent:
        logger.warning("%d images have transparency, which is ignored, such as %s.", len(transparent), transparent[0])


def _in_threads(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(function, items))
