"""Seeds: every stage starts from its own, so that it does not matter which stages ran before it."""

from __future__ import annotations

import hashlib

import keras


def seed_stage(seed: int, stage: str) -> None:
    """Seeds Python, NumPy and TensorFlow for a stage.

    Args:
        seed: the job's seed.
        stage: the stage's name; different stages get unrelated seeds.
    """
    digest = hashlib.sha256(f"{seed}/{stage}".encode()).digest()
    keras.utils.set_random_seed(int.from_bytes(digest[:4], "little") % 2**31)
