"""Checks the settings of learned rounding."""

from __future__ import annotations

from qpipe.config.ranges import fraction, patterns, positive, refuse, whole
from qpipe.config.schema import AdaRoundConfig, Solver


def validate_adaround(config: AdaRoundConfig, path: str = "adaround", *, loss: bool = False) -> None:
    """Checks values, and settings that the solver has no use for.

    Args:
        config: of the rounding.
        path: where it stands, for messages.
        loss: whether Python gave a loss of its own.

    Raises:
        ConfigError: the first mistake.
    """
    if not config.layers:
        refuse(f"{path}.layers", config.layers, 'give layer names or patterns, or ["*"] for all')
    patterns(f"{path}.layers", config.layers)
    whole(f"{path}.iterations", config.iterations, 1)
    whole(f"{path}.batch_size", config.batch_size, 1, optional=True)
    whole(f"{path}.polish", config.polish, 1, optional=True)
    whole(f"{path}.memory_limit_mb", config.memory_limit_mb, 1)
    positive(f"{path}.learning_rate", config.learning_rate)
    fraction(f"{path}.warm_start", config.warm_start, 0.0, 1.0)
    fraction(f"{path}.holdout", config.holdout, 0.0, 1.0)
    for name in ("beta_start", "beta_end"):
        positive(f"{path}.{name}", getattr(config, name))
    _validate_penalty(config, path)
    _validate_solver(config, path, loss)


def _validate_penalty(config: AdaRoundConfig, path: str) -> None:
    if isinstance(config.regularization, bool) or not 0.0 <= config.regularization < float("inf"):
        refuse(f"{path}.regularization", config.regularization, "give a number of at least 0")
    if config.beta_end > config.beta_start:
        refuse(f"{path}.beta_end", config.beta_end, f"give at most beta_start={config.beta_start:g}")
    if not 1.0 < config.zeta < float("inf"):
        refuse(f"{path}.zeta", config.zeta, "give a number above 1, so that h can reach 1")
    if not float("-inf") < config.gamma < 0.0:
        refuse(f"{path}.gamma", config.gamma, "give a number below 0, so that h can reach 0")


def _validate_solver(config: AdaRoundConfig, path: str, loss: bool) -> None:
    on_matrices = config.solver is not Solver.sgd
    if on_matrices and config.include_activation and config.polish is None:
        refuse(
            f"{path}.include_activation",
            True,
            f"solver={config.solver.name} works without the activation: give polish, a number of sgd iterations that "
            "start from its result, or solver=sgd",
        )
    if not on_matrices and config.polish is not None:
        refuse(f"{path}.polish", config.polish, "solver=sgd polishes nothing: give null, or more iterations")
    if loss and on_matrices and config.polish is None:
        refuse(f"{path}.solver", config.solver.name, "a loss of your own needs solver=sgd, or polish")
