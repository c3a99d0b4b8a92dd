"""The part of the schema that configures training, and where batch normalizations are folded."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING


class FoldingMode(Enum):
    """Which statistics a folded kernel is made of while batch statistics are in use."""

    ema_stats_folding = "ema_stats_folding"
    batch_stats_folding = "batch_stats_folding"


class MethodName(Enum):
    """Quantization-aware training or post-training quantization."""

    qat = "qat"
    ptq = "ptq"


class Precision(Enum):
    """Numbers that layers compute with in training; variables are float32 in any case."""

    float32 = "float32"
    mixed_bfloat16 = "mixed_bfloat16"
    mixed_float16 = "mixed_float16"


class Distribution(Enum):
    """Which devices a training uses: one, or all of this machine, each with its share of a batch."""

    single = "single"
    mirrored = "mirrored"


@dataclass(kw_only=True)
class EarlyStopping:
    """Ends a training stage before its last epoch."""

    patience: int | None = None
    """Epochs without improvement after which the stage ends; null never ends early."""
    monitor: str = "val_loss"
    """The metric, as Keras names it: `val_loss`, `val_accuracy`, `loss`, ..."""
    min_delta: float = 0.0
    """The least change that counts as an improvement."""
    restore_best: bool = True
    """Whether the weights of the best epoch are taken."""


@dataclass(kw_only=True)
class TrainingStage:
    """One training stage."""

    epochs: int = 10
    """Passes over the training part; 0 trains nothing."""
    batch_size: int = 64
    """Samples per training step; the last step of an epoch takes what is left."""
    optimizer: Any = "adam"
    """Name of a Keras optimizer (`adam`, `sgd`, `rmsprop`, `adamw`, ...), or `_target_` and arguments:
    `{_target_: keras.optimizers.SGD, momentum: 0.9}`."""
    learning_rate: float = 1e-3
    """Learning rate at its highest."""
    schedule: Any = "cosine"
    """`constant`; `cosine` or `linear`: from `learning_rate` down to zero over the stage; or `_target_` and arguments
    of a Keras schedule: `{_target_: keras.optimizers.schedules.ExponentialDecay, decay_rate: 0.9, decay_steps: 99}`."""
    warmup_fraction: float = 0.0
    """Share of the steps over which the learning rate rises linearly from zero."""
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    """Whether and when the stage ends before its last epoch."""
    callbacks: list[Any] = field(default_factory=list)
    """Further Keras callbacks, each `_target_` and arguments: `{_target_: keras.callbacks.TerminateOnNaN}`."""
    precision: Precision = Precision.float32
    """`mixed_bfloat16` and `mixed_float16` compute in 16 bits and keep variables in float32; only for the float
    model."""


@dataclass(kw_only=True)
class TrainingConfig:
    """Training of the float model, and of the quantized one."""

    float: TrainingStage = field(default_factory=TrainingStage)
    """Training of the float model; not used where `model.train` is false."""
    qat: TrainingStage = field(default_factory=TrainingStage)
    """Training of the quantized model; not used with `method=ptq`."""
    loss: Any = None
    """null: by `data.task` (sparse categorical crossentropy, binary crossentropy, mean squared error); else the name
    of a Keras loss (`huber`), or `_target_` and arguments."""
    class_weights: Any = None
    """Weight of each class in the loss, for `classification`: null, `balanced` (inverse to its frequency in the
    training part), or one number per class."""
    distribution: Distribution = Distribution.single
    """`mirrored` trains on all GPUs of the machine at once, each with its share of a batch; all batches are whole then,
    and what is left at the end of an epoch is left out."""
    checkpoints: bool = True
    """Whether each epoch ends with a checkpoint, from which the same command goes on after the job was killed."""


@dataclass(kw_only=True)
class MethodConfig:
    """How the quantized model is obtained."""

    name: MethodName = MISSING
    """`qat` trains the quantized model, `ptq` calibrates it only."""


@dataclass(kw_only=True)
class FoldingConfig:
    """Which batch normalizations are folded into the layer before them, and with which statistics."""

    layers: list[str] = field(default_factory=lambda: ["*"])
    """Linear layers by exact name, glob, or `re:` pattern (full match)."""
    exclude: list[str] = field(default_factory=list)
    """Linear layers that are left out, selected alike."""
    mode: FoldingMode = FoldingMode.ema_stats_folding
    """Statistics that the kernel is folded with while batch statistics are in use: moving or the batch's."""
    ema_freeze_delay: int | None = None
    """Training steps that use batch statistics before the moving ones are frozen; null never freezes."""
