"""What AdaRound needs beside its configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from qpipe.algorithms.adaround.core import SoftRounding
from qpipe.algorithms.adaround.optimize import default_optimizer
from qpipe.algorithms.adaround.sgd import squared_error
from qpipe.config.schema import AdaRoundConfig

OnProgress = Callable[[str, int, int, float, float], None]
"""Layer, iterations that are done, all iterations, loss, share of decided weights."""


@dataclass(frozen=True, kw_only=True)
class RoundingSettings:
    """A configuration with the objects that only Python can give.

    Attributes:
        config: the configuration.
        optimizer: a copy of it optimizes each layer.
        loss: of target and output of a batch.
        seed: of the held-out samples and of the batches.
        on_progress: called after some iterations.
    """

    config: AdaRoundConfig
    optimizer: keras.optimizers.Optimizer
    loss: Callable[[Any, Any], Any]
    seed: int
    on_progress: OnProgress

    @classmethod
    def of(cls, config: AdaRoundConfig, optimizer, loss, seed: int, on_progress: OnProgress) -> RoundingSettings:
        """Fills in the defaults."""
        return cls(
            config=config,
            optimizer=optimizer or default_optimizer(config.learning_rate),
            loss=loss or squared_error,
            seed=seed,
            on_progress=on_progress,
        )

    def soft(self, iterations: int) -> SoftRounding:
        """Returns the constants of an optimization of so many iterations."""
        config = self.config
        return SoftRounding(
            zeta=config.zeta,
            gamma=config.gamma,
            regularization=config.regularization,
            beta_start=config.beta_start,
            beta_end=config.beta_end,
            warm_start=config.warm_start,
            iterations=iterations,
        )
