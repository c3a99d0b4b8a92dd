"""Image files that tests write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

_GIF_FRAME = b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02"
TWO_FRAME_GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x04\x0a\x00\x00\x00"
    + _GIF_FRAME
    + b"D\x01\x00"
    + b"!\xf9\x04\x04\x0a\x00\x00\x00"
    + _GIF_FRAME
    + b"L\x01\x00;"
)
"""One pixel: black, then white."""


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Writes (height, width, channels) uint8 as the file's ending says; JPEG is lossy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".bmp":
        path.write_bytes(bmp(pixels))
        return
    encode = tf.io.encode_jpeg if path.suffix in (".jpg", ".jpeg") else tf.io.encode_png
    path.write_bytes(encode(pixels).numpy())


def bmp(pixels: np.ndarray) -> bytes:
    """A BMP file: 24 bits per pixel, or 8 bits with a palette where there is one channel."""
    height, width, channels = pixels.shape
    rows = pixels[::-1, :, ::-1].reshape(height, width * channels)
    rows = np.pad(rows, ((0, 0), (0, -width * channels % 4))).tobytes()
    palette = b"" if channels == 3 else bytes(value for n in range(256) for value in (n, 0, 255 - n, 0))
    start = 54 + len(palette)
    header = b"BM" + _number(start + len(rows)) + _number(0) + _number(start) + _number(40)
    header += _number(width) + _number(height) + _number(1, 2) + _number(8 * channels, 2)
    return header + _number(0) + _number(len(rows)) + 4 * _number(0) + palette + rows


def _number(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "little")
