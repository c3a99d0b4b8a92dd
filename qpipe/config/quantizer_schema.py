"""The part of the schema that configures quantizers, and the rules that make exceptions."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING


class ScaleKind(Enum):
    """How a scale is represented: any positive float, or a power of two (fixed point)."""

    float = "float"
    power_of_two = "power_of_two"


class WeightKind(Enum):
    """Which integers a weight can become: evenly spaced ones; 0 and powers of two; -1, 0, 1; or -1, 1."""

    uniform = "uniform"
    po2 = "po2"
    ternary = "ternary"
    binary = "binary"


class Rounding(Enum):
    """How training rounds: to nearest, or up by the probability of the rest; inference rounds to nearest."""

    nearest = "nearest"
    stochastic = "stochastic"


class WeightRange(Enum):
    """How a weight quantizer chooses its range: largest magnitude, least error of the weights or of the output."""

    max = "max"
    mse = "mse"
    output_mse = "output_mse"


class OutputRange(Enum):
    """How an output quantizer chooses its range from the values that it has seen."""

    minmax = "minmax"
    ema = "ema"
    percentile = "percentile"
    mse = "mse"


@dataclass(kw_only=True)
class WeightQuantizerConfig:
    """Quantizer of kernels (and of `a` of a batch normalization that stays)."""

    bitwidth: int = 8
    """`uniform`: 2 to 16 bits, the integers are symmetric, -127 to 127 for 8 bits; `po2`: 2 to 5; `ternary`: 2;
    `binary`: 1."""
    per_channel: bool = True
    """Whether every output channel has a scale of its own."""
    range: WeightRange = WeightRange.max
    """`max` takes the largest magnitude, `mse` clips where the squared error of the weights is least, `output_mse`
    where that of the layer's output on calibration data is (both for `uniform` only; `output_mse` needs `method=ptq`
    or `adaround.enabled`)."""
    scale: ScaleKind = ScaleKind.float
    """`float`, or `power_of_two` for fixed point; `po2` has no other than `power_of_two`."""
    kind: WeightKind = WeightKind.uniform
    """`uniform`; `po2`: 0 and powers of two; `ternary`: -1, 0, 1; `binary`: -1, 1. Every kind but `uniform` needs its
    `bitwidth` beside it."""
    rounding: Rounding = Rounding.nearest
    """`stochastic` rounds up by chance while training (`uniform` only)."""
    learned_step: bool = False
    """Whether training learns the scale (LSQ) instead of deriving it from the weights; needs `uniform` and float
    scales."""


@dataclass(kw_only=True)
class BiasQuantizerConfig:
    """Quantizer aligned to an accumulator's scale (biases, and `b` of a batch normalization that stays)."""

    bitwidth: int | None = None
    """Width of the mantissa; null takes `buffer_bitwidth`."""


@dataclass(kw_only=True)
class OutputQuantizerConfig:
    """Quantizer of activations: one scale per tensor."""

    bitwidth: int = 8
    """2 to 16 bits."""
    symmetric: bool = False
    """True: the zero point is 0. False: any integer zero point, and unsigned integers."""
    range: OutputRange = OutputRange.minmax
    """How calibration chooses the range; training tracks a moving average of the extrema in any case."""
    scale: ScaleKind = ScaleKind.float
    """`float`, or `power_of_two` for fixed point."""
    rounding: Rounding = Rounding.nearest
    """`stochastic` rounds up by chance while training."""
    learned_step: bool = False
    """Whether training learns the scale (LSQ) instead of tracking the range; needs float scales."""


@dataclass(kw_only=True)
class WeightQuantizerRule:
    """Fields of `WeightQuantizerConfig` that a rule sets; null leaves them as they are."""

    bitwidth: int | None = None
    per_channel: bool | None = None
    range: WeightRange | None = None
    scale: ScaleKind | None = None
    kind: WeightKind | None = None
    rounding: Rounding | None = None
    learned_step: bool | None = None


@dataclass(kw_only=True)
class BiasQuantizerRule:
    """Fields of `BiasQuantizerConfig` that a rule sets; null leaves them as they are."""

    bitwidth: int | None = None


@dataclass(kw_only=True)
class OutputQuantizerRule:
    """Fields of `OutputQuantizerConfig` that a rule sets; null leaves them as they are."""

    bitwidth: int | None = None
    symmetric: bool | None = None
    range: OutputRange | None = None
    scale: ScaleKind | None = None
    rounding: Rounding | None = None
    learned_step: bool | None = None


@dataclass(kw_only=True)
class LayerRule:
    """An exception for some layers. The last rule that matches a layer wins, field by field."""

    match: str = MISSING
    """Exact layer name, glob, or `re:` pattern (full match)."""
    quantize: bool | None = None
    """False leaves the layer in float, on purpose."""
    weight: WeightQuantizerRule | None = None
    bias: BiasQuantizerRule | None = None
    output: OutputQuantizerRule | None = None
    a_quantizer: WeightQuantizerRule | None = None
    b_quantizer: BiasQuantizerRule | None = None
    buffer_bitwidth: int | None = None
    """Accumulator width of the layer."""


@dataclass(kw_only=True)
class QuantizerConfig:
    """Quantizers of the whole model, and the rules that make exceptions."""

    input: OutputQuantizerConfig = field(default_factory=OutputQuantizerConfig)
    """The model's input."""
    weight: WeightQuantizerConfig = field(default_factory=WeightQuantizerConfig)
    """Kernels of convolutions and dense layers."""
    bias: BiasQuantizerConfig = field(default_factory=BiasQuantizerConfig)
    """Their biases, on the accumulator's scale."""
    output: OutputQuantizerConfig = field(default_factory=OutputQuantizerConfig)
    """Activations."""
    a_quantizer: WeightQuantizerConfig = field(default_factory=lambda: WeightQuantizerConfig(per_channel=False))
    """Factor `a` of a batch normalization that stays, and the slopes of a PReLU."""
    b_quantizer: BiasQuantizerConfig = field(default_factory=lambda: BiasQuantizerConfig(bitwidth=16))
    """Offset `b` of a batch normalization that stays."""
    buffer_bitwidth: int | None = None
    """Accumulator width, to which results saturate; null: 32, and 64 where a layer's input has more than 8 bits."""
    float_softmax: bool = True
    """Whether a softmax at the model's output stays in float; elsewhere, and with false everywhere, it computes with
    integers."""
    layers: list[LayerRule] = field(default_factory=list)
    """Exceptions for some layers."""
