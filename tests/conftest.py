"""Settings and fixtures that all tests share."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from absl import logging as absl_logging

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# When logging is configured anew, absl closes the stream of its handler: here that of pytest's capture.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)
