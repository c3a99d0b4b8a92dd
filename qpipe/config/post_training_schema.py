"""The part of the schema that configures learned rounding and the algorithms around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Solver(Enum):
    """How AdaRound finds the roundings."""

    gptq = "gptq"
    gram = "gram"
    sgd = "sgd"


class RoundingTarget(Enum):
    """The continuous kernel that rounding starts from."""

    float = "float"
    least_squares = "least_squares"


class BiasCorrection(Enum):
    """Where bias correction takes the mean error of a layer's output from."""

    analytic = "analytic"
    empirical = "empirical"


@dataclass(kw_only=True)
class AdaRoundConfig:
    """Learned rounding of weights after the calibration."""

    enabled: bool = False
    """Whether a job rounds; `qpipe.adaround` does in any case."""
    solver: Solver = Solver.gptq
    """`gptq`: error feedback, then moves of single weights and of pairs; `gram`: AdaRound on the layer's matrices, then
    such moves; `sgd`: AdaRound on batches of layer inputs."""
    layers: list[str] = field(default_factory=lambda: ["*"])
    """Layers that are rounded, by exact name, glob, or `re:` pattern; the others keep the nearest rounding."""
    iterations: int = 10_000
    """Iterations per layer of `gram` and `sgd`."""
    batch_size: int | None = 32
    """Samples per iteration of `sgd` and `polish`; null takes all."""
    learning_rate: float = 1e-2
    """Of Adam."""
    warm_start: float = 0.2
    """Share of the iterations without the penalty that drives weights to a decision."""
    beta_start: float = 20.0
    """Exponent of the penalty when it sets in."""
    beta_end: float = 2.0
    """Exponent of the penalty at the end."""
    regularization: float = 0.01
    """Factor λ of the penalty, a sum over weights, beside the error, a sum over output channels."""
    zeta: float = 1.1
    """Upper end of the stretched sigmoid."""
    gamma: float = -0.1
    """Lower end of the stretched sigmoid."""
    include_activation: bool | None = None
    """Whether the error is taken behind the layer's ReLU; null: with `sgd`, and in `polish`. True with `gram` or `gptq`
    needs `polish`."""
    asymmetric: bool = True
    """Whether a layer sees the inputs that the layers before it give it once they are rounded; else the float ones."""
    target: RoundingTarget = RoundingTarget.least_squares
    """The kernel that rounding starts from: the `float` one, or the best one for the inputs that the layer sees."""
    fit_bias: bool = True
    """Whether a layer's bias takes over the mean error that the rounding leaves."""
    polish: int | None = None
    """Iterations of `sgd` that start from the result of `gram` or `gptq`; null: none."""
    holdout: float = 0.125
    """Share of the calibration samples that only judges; a layer that got worse on them keeps its nearest rounding."""
    memory_limit_mb: int = 1024
    """Budget of cached layer inputs and outputs; beyond it they go to disk, and a layer whose matrices do not fit is
    rounded by `sgd`."""
    histogram: str | None = None
    """Name of a layer whose distribution of h over the iterations is plotted; null: none."""


@dataclass(kw_only=True)
class EqualizationConfig:
    """Cross-layer equalization of the folded float model, before it is quantized."""

    enabled: bool = False
    """Whether weight ranges of neighbouring layers are equalized, channel by channel; the float output stays."""
    iterations: int = 20
    """Passes over all pairs of layers at most."""


@dataclass(kw_only=True)
class PostTrainingConfig:
    """What belongs around rounding, in the order in which a job does it; all off by default."""

    equalization: EqualizationConfig = field(default_factory=EqualizationConfig)
    """Before quantization."""
    bias_correction: BiasCorrection | None = None
    """After calibration and rounding: `analytic`, from the float model's statistics; `empirical`, from calibration
    samples; null: none."""
    reestimate_statistics: bool = False
    """After that: whether batch normalizations are re-estimated on calibration samples; where they are folded,
    scales of weights change, their integers don't."""
