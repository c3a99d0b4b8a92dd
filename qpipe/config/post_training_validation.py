"""Checks the settings of learned rounding and of the algorithms around it."""

from __future__ import annotations

from typing import Any

from qpipe.config.ranges import fraction, patterns, positive, refuse, whole
from qpipe.config.schema import (
    AdaRoundConfig,
    BiasCorrection,
    JobConfig,
    MethodName,
    QuantizerConfig,
    ScaleKind,
    Solver,
    WeightRange,
)

OF_ITERATIONS = (
    "iterations",
    "learning_rate",
    "warm_start",
    "beta_start",
    "beta_end",
    "regularization",
    "zeta",
    "gamma",
    "histogram",
)
"""Keys that only a solver with iterations looks at."""


def validate_post_training(config: JobConfig) -> None:
    """Checks `adaround` and `post_training`, and weight ranges that need one of them.

    Raises:
        ConfigError: the first mistake.
    """
    validate_adaround(config.adaround)
    whole("post_training.equalization.iterations", config.post_training.equalization.iterations, 1)
    if config.method.name is MethodName.qat and not config.adaround.enabled:
        for path in output_mse_keys(config.quantizer):
            refuse(path, "output_mse", "training has no layer outputs to compare: give max or mse, or adaround.enabled")
    post, name = config.post_training, config.method.name
    if name is MethodName.qat and (post.bias_correction is not None or post.reestimate_statistics):
        key = "bias_correction" if post.bias_correction is not None else "reestimate_statistics"
        refuse(f"post_training.{key}", getattr(post, key), "method=qat trains biases and statistics: leave it out")


def output_mse_keys(config: QuantizerConfig, path: str = "quantizer") -> list[str]:
    """Returns the paths of all weight ranges that are `output_mse`."""
    holders: list[tuple[str, Any]] = [(path, config)]
    holders += [(f"{path}.layers[{index}]", rule) for index, rule in enumerate(config.layers)]
    return [
        f"{where}.weight.range"
        for where, holder in holders
        if holder.weight is not None and holder.weight.range is WeightRange.output_mse
    ]


def unused_rounding_keys(config: AdaRoundConfig) -> list[str]:
    """Returns one sentence for keys that are set although the solver does not look at them."""
    default = AdaRoundConfig()
    if not config.enabled:
        keys: tuple[str, ...] = tuple(name for name in vars(default) if name != "enabled")
        reason = "adaround.enabled=false rounds to nearest"
    elif config.solver is Solver.gptq and config.polish is None:
        keys, reason = (*OF_ITERATIONS, "batch_size"), "solver=gptq without polish has no iterations"
    elif config.solver is Solver.gram and config.polish is None:
        keys, reason = ("batch_size",), "solver=gram needs no batches"
    elif config.solver is Solver.gptq:
        keys, reason = ("iterations",), "solver=gptq has no iterations; those of the polishing are adaround.polish"
    else:
        return []
    changed = [f"adaround.{name}" for name in keys if getattr(config, name) != getattr(default, name)]
    if not changed:
        return []
    return [f"{', '.join(changed)} {'is' if len(changed) == 1 else 'are'} set but not used: {reason}"]


def contradictions(config: JobConfig) -> list[str]:
    """Returns one sentence for each pair of settings that work against each other."""
    adaround, post = config.adaround, config.post_training
    fits = adaround.enabled and adaround.fit_bias
    sentences = []
    if fits and post.bias_correction is BiasCorrection.analytic:
        sentences.append(
            "post_training.bias_correction=analytic and adaround.fit_bias work against each other: the fitted bias "
            "holds the mean error already, and the correction takes it off a second time"
        )
    if fits and post.bias_correction is BiasCorrection.empirical:
        sentences.append(
            "post_training.bias_correction=empirical does the work of adaround.fit_bias again: it finds little to do"
        )
    if post.reestimate_statistics and post.bias_correction is not None:
        sentences.append(
            f"post_training.reestimate_statistics sets the mean of every normalized layer anew: "
            f"bias_correction={post.bias_correction.name} before it is lost there"
        )
    if post.reestimate_statistics and adaround.enabled:
        sentences.append(
            "post_training.reestimate_statistics changes the scales that adaround has rounded for: each channel's "
            "deviation comes back at the price of a larger error of its values"
        )
    if post.equalization.enabled and config.quantizer.weight.per_channel:
        sentences.append(
            "post_training.equalization gains little with quantizer.weight.per_channel=true, where every channel has "
            "a scale of its own, and makes activation ranges wider"
        )
    return sentences + _shared_scales(config)


def _shared_scales(config: JobConfig) -> list[str]:
    weight = config.quantizer.weight
    if config.post_training.reestimate_statistics and (not weight.per_channel or weight.scale is not ScaleKind.float):
        return [
            "post_training.reestimate_statistics changes no folded layer where quantizer.weight.per_channel=false or "
            "scale=power_of_two: there is no float scale for each channel"
        ]
    return []


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
    if config.histogram is not None and config.solver is Solver.gptq and config.polish is None:
        refuse(f"{path}.histogram", config.histogram, "solver=gptq has no h: give null, polish, or another solver")
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
