"""The configuration's only schema: one keyword-only dataclass per group and per kind of model and data source.

Hydra merges YAML files and command-line overrides into these dataclasses, so that a misspelt key or a
value of the wrong type is refused before anything is imported or computed. Values that the types
alone can't judge (a bitwidth of 33, a negative delay) are checked in `qpipe.config.validation`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from qpipe.config.export_schema import ExportConfig
from qpipe.config.export_schema import ExportFormat as ExportFormat
from qpipe.config.export_schema import ExportIo as ExportIo
from qpipe.config.post_training_schema import AdaRoundConfig, PostTrainingConfig
from qpipe.config.post_training_schema import BiasCorrection as BiasCorrection
from qpipe.config.post_training_schema import EqualizationConfig as EqualizationConfig
from qpipe.config.post_training_schema import RoundingTarget as RoundingTarget
from qpipe.config.post_training_schema import Solver as Solver
from qpipe.config.sweep_schema import SweepConfig


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


class FoldingMode(Enum):
    """Which statistics a folded kernel is made of while batch statistics are in use."""

    ema_stats_folding = "ema_stats_folding"
    batch_stats_folding = "batch_stats_folding"


class MethodName(Enum):
    """Quantization-aware training or post-training quantization."""

    qat = "qat"
    ptq = "ptq"


class Task(Enum):
    """What a model predicts: one class of many, any number of classes at once, or numbers."""

    classification = "classification"
    multilabel = "multilabel"
    regression = "regression"


class DigitsTarget(Enum):
    """What the digits are labelled with: the digit of an image, or of each of its pixels (0: background)."""

    digit = "digit"
    pixels = "pixels"


class Precision(Enum):
    """Numbers that layers compute with in training; variables are float32 in any case."""

    float32 = "float32"
    mixed_bfloat16 = "mixed_bfloat16"
    mixed_float16 = "mixed_float16"


class Distribution(Enum):
    """Which devices a training uses: one, or all of this machine, each with its share of a batch."""

    single = "single"
    mirrored = "mirrored"


# Models -------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class ModelConfig:
    """What every kind of model has in common."""

    train: bool = True
    """Whether `training.float` runs on the model; false uses its weights as they are."""


@dataclass(kw_only=True)
class ApplicationModel(ModelConfig):
    """A network of `keras.applications`, built for the data's shape and classes."""

    application: str = MISSING
    """Name of the builder, as in `keras.applications`: `MobileNet`, `ResNet50`, ..."""
    weights: str | None = None
    """null, `imagenet` (downloaded; other classes than ImageNet's 1,000 get a new head), or the path of a weights
    file."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the builder, such as `alpha: 0.25`; with `include_top: false` the data's classes get a new
    head behind a global average pooling."""
    batchnorm_momentum: float | None = None
    """Momentum of the moving statistics of all batch normalizations; null keeps the network's own (mostly 0.99,
    which needs some thousand training steps to settle)."""


@dataclass(kw_only=True)
class FileModel(ModelConfig):
    """A saved `.keras` file."""

    path: str = MISSING
    """Path of the file, relative to the working folder."""
    trusted: bool = False
    """Whether Python code inside the file (Lambda layers) may run."""
    train: bool = False
    """Whether `training.float` trains the loaded weights on; false uses them as they are."""


@dataclass(kw_only=True)
class LayersModel(ModelConfig):
    """A network written as a list of layers: Keras class names and their arguments."""

    layers: list[Any] = MISSING
    """One mapping per layer: `layer` (a class of `keras.layers`, or a dotted path of your own), optionally `name` and
    `inputs` (names; the model's input is `input`; without it, the layer before), and the arguments of the class. The
    text `classes` in an argument stands for the number of the data's classes."""
    outputs: list[str] | None = None
    """Names of the layers that are outputs; all are trained on the same labels, the first is the one that is
    measured. null: the last layer."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Values of your own that the list refers to, as `${model.arguments.width}`."""


@dataclass(kw_only=True)
class CallableModel(ModelConfig):
    """A function of your own that returns a Keras model."""

    _target_: str = MISSING
    """Dotted path of the function, such as `my_package.models.tiny_net`. It may take `input_shape` (height, width,
    channels) and `classes`, which follow from the data."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the function."""


# Data ---------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Augmentation:
    """Light augmentation of training images; never applied to validation, test or calibration images."""

    shift: float = 0.0
    """Largest shift in each direction, as a share of height and width; vacated pixels repeat the border."""
    flip: bool = False
    """Whether half of the images are mirrored left to right."""


@dataclass(kw_only=True)
class DataConfig:
    """What every data source has in common."""

    task: Task = Task.classification
    """`classification`: whole class numbers, one per sample or one per pixel; `multilabel`: 0 or 1 for each class;
    `regression`: numbers."""
    images: bool = True
    """Whether samples are images (height, width[, channels]); false takes arrays of any shape, without resizing and
    augmentation; `preprocess` has to be `raw`."""
    image_size: list[int] | None = None
    """[height, width] to which images are resized (bilinear); null keeps their size."""
    channels: int | None = None
    """1 or 3: grey images are repeated, colour images averaged to luminance; null keeps them."""
    preprocess: str = "unit"
    """`raw` (as stored), `unit` (0...255 to 0...1), `symmetric` (to -1...1), or a module of
    `keras.applications` whose `preprocess_input` is used, such as `mobilenet`."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    validation_fraction: float = 0.1
    """Share of the training part that is held out for validation, where the source has no such part."""
    test_fraction: float = 0.2
    """Share of all samples that is held out for the test, where the source has no such part."""
    calibration_samples: int = 512
    """Samples of the training part, without augmentation, that set activation ranges."""
    limit: int | None = None
    """At most this many samples are taken of each part; null takes all."""


@dataclass(kw_only=True)
class DigitsData(DataConfig):
    """scikit-learn's handwritten digits: 1,797 real 8x8 grey images in 10 classes, shipped with the package."""

    target: DigitsTarget = DigitsTarget.digit
    """`digit`: 10 classes, one per image. `pixels`: 11 classes, one per pixel, 0 for the background and 1 + digit for
    the ink."""


@dataclass(kw_only=True)
class NpzKeys:
    """Names of the arrays inside an `.npz` file; a null part is split off from the training part."""

    x_train: str = "x_train"
    """Training images."""
    y_train: str = "y_train"
    """Training labels."""
    x_validation: str | None = None
    """Validation images."""
    y_validation: str | None = None
    """Validation labels."""
    x_test: str | None = "x_test"
    """Test images."""
    y_test: str | None = "y_test"
    """Test labels."""


@dataclass(kw_only=True)
class NpzData(DataConfig):
    """Arrays of an `.npz` file: images (samples, height, width[, channels]) or other samples, and their labels."""

    path: str = MISSING
    """Path of the file, relative to the working folder."""
    keys: NpzKeys = field(default_factory=NpzKeys)
    """Which array of the file is which."""


@dataclass(kw_only=True)
class KerasData(DataConfig):
    """An image set of `keras.datasets`, which Keras downloads once into its own folder."""

    dataset: str = MISSING
    """`mnist`, `fashion_mnist`, `cifar10` or `cifar100`."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of its `load_data`, such as `label_mode: coarse`."""


@dataclass(kw_only=True)
class FolderData(DataConfig):
    """A folder of images with a sub-folder for each class, read batch by batch where they don't fit in memory.

    Where the folder has sub-folders `train`, `validation` (or `val`) and `test`, these are the parts.
    """

    path: str = MISSING
    """Path of the folder, relative to the working folder. The classes are its sub-folders in alphabetical order."""


@dataclass(kw_only=True)
class CallableData(DataConfig):
    """A function of your own that returns arrays or a `tf.data.Dataset`."""

    _target_: str = MISSING
    """Dotted path of the function, such as `my_package.data.load`. It returns (x, y), or ((x_train, y_train),
    (x_test, y_test)), or a `tf.data.Dataset` of single samples (x, y), or two of them (train, test), or a mapping of
    `train`, `validation` and `test` to (x, y) or a `tf.data.Dataset`."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of the function."""


# Training, method, folding ------------------------------------------------------------------------


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


# Quantizers ---------------------------------------------------------------------------------------


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


# Tracking and the job -----------------------------------------------------------------------------


@dataclass(kw_only=True)
class TrackingConfig:
    """Where runs are logged."""

    uri: str | None = None
    """MLflow tracking URI; null is `mlflow.db` (SQLite) in `runs_dir`."""
    experiment: str = "qpipe"
    """MLflow experiment; it is made where it does not exist."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tags of the run, any keys: `tracking.tags.board=m7`."""
    log_models: bool = True
    """Whether the float and the quantized model become logged models that `mlflow.pyfunc` opens."""
    timeout: float = 10.0
    """Seconds that a tracking server has to answer before the job is given up, before any training."""


@dataclass(kw_only=True)
class VerifyConfig:
    """The proof that the integer engine computes what was measured."""

    enabled: bool = True
    """Whether the quantized model's integers are compared with the integer engine's, tensor by tensor."""
    samples: int | None = None
    """Test samples to compare; null compares all."""


@dataclass(kw_only=True)
class JobConfig:
    """The whole job: what `python -m qpipe --cfg job` prints."""

    name: str = "qpipe"
    """Name of the job: of its folder and its MLflow run."""
    seed: int = 0
    """Decides splits, initial weights, order, augmentation and calibration samples."""
    dry_run: bool = False
    """Print the plan for every layer and stop, without training, calibrating or logging."""
    runs_dir: str = "${oc.env:QPIPE_RUNS,runs}"
    """Folder for everything that jobs write, relative to the working folder; the environment variable QPIPE_RUNS
    changes the default."""
    model: ModelConfig = MISSING
    data: DataConfig = MISSING
    training: TrainingConfig = field(default_factory=TrainingConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    folding: FoldingConfig = field(default_factory=FoldingConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    adaround: AdaRoundConfig = field(default_factory=AdaRoundConfig)
    post_training: PostTrainingConfig = field(default_factory=PostTrainingConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
