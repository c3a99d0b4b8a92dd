"""Settings and fixtures that all tests share."""

from __future__ import annotations

import logging
import os
import sys

import numpy as np
import pytest
from absl import logging as absl_logging
from hypothesis import HealthCheck, settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# When logging is configured anew, absl closes the stream of its handler: here that of pytest's capture.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__

# A busy machine is slow: no property fails for the time that it takes.
settings.register_profile("qpipe", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qpipe")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture(autouse=True)
def _restored_logging():
    """Takes away the handlers that a job's logging has added: they write to streams that the test's capture closes."""
    loggers = [logging.getLogger(), logging.getLogger("qpipe")]
    before = [(list(logger.handlers), logger.level) for logger in loggers]
    yield
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)
