"""The configuration's only schema: one keyword-only dataclass per group and per kind of model and data source.

Hydra merges YAML files and command-line overrides into these dataclasses, so that a misspelt key or a
value of the wrong type is refused before anything is imported or computed. Values that the types
alone can't judge (a bitwidth of 33, a negative delay) are checked in `qpipe.config.validation`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from qpipe.config.data_schema import Augmentation as Augmentation
from qpipe.config.data_schema import CallableData as CallableData
from qpipe.config.data_schema import DataConfig
from qpipe.config.data_schema import DigitsData as DigitsData
from qpipe.config.data_schema import DigitsTarget as DigitsTarget
from qpipe.config.data_schema import FolderData as FolderData
from qpipe.config.data_schema import KerasData as KerasData
from qpipe.config.data_schema import NpzData as NpzData
from qpipe.config.data_schema import NpzKeys as NpzKeys
from qpipe.config.data_schema import Task as Task
from qpipe.config.export_schema import ExportConfig
from qpipe.config.export_schema import ExportFormat as ExportFormat
from qpipe.config.export_schema import ExportIo as ExportIo
from qpipe.config.model_schema import ApplicationModel as ApplicationModel
from qpipe.config.model_schema import CallableModel as CallableModel
from qpipe.config.model_schema import FileModel as FileModel
from qpipe.config.model_schema import LayersModel as LayersModel
from qpipe.config.model_schema import ModelConfig
from qpipe.config.post_training_schema import AdaRoundConfig, PostTrainingConfig
from qpipe.config.post_training_schema import BiasCorrection as BiasCorrection
from qpipe.config.post_training_schema import EqualizationConfig as EqualizationConfig
from qpipe.config.post_training_schema import RoundingTarget as RoundingTarget
from qpipe.config.post_training_schema import Solver as Solver
from qpipe.config.quantizer_schema import BiasQuantizerConfig as BiasQuantizerConfig
from qpipe.config.quantizer_schema import BiasQuantizerRule as BiasQuantizerRule
from qpipe.config.quantizer_schema import LayerRule as LayerRule
from qpipe.config.quantizer_schema import OutputQuantizerConfig as OutputQuantizerConfig
from qpipe.config.quantizer_schema import OutputQuantizerRule as OutputQuantizerRule
from qpipe.config.quantizer_schema import OutputRange as OutputRange
from qpipe.config.quantizer_schema import QuantizerConfig
from qpipe.config.quantizer_schema import Rounding as Rounding
from qpipe.config.quantizer_schema import ScaleKind as ScaleKind
from qpipe.config.quantizer_schema import WeightKind as WeightKind
from qpipe.config.quantizer_schema import WeightQuantizerConfig as WeightQuantizerConfig
from qpipe.config.quantizer_schema import WeightQuantizerRule as WeightQuantizerRule
from qpipe.config.quantizer_schema import WeightRange as WeightRange
from qpipe.config.reports_schema import ReportsConfig
from qpipe.config.sweep_schema import SweepConfig
from qpipe.config.training_schema import Distribution as Distribution
from qpipe.config.training_schema import EarlyStopping as EarlyStopping
from qpipe.config.training_schema import FoldingConfig, MethodConfig, TrainingConfig
from qpipe.config.training_schema import FoldingMode as FoldingMode
from qpipe.config.training_schema import MethodName as MethodName
from qpipe.config.training_schema import Precision as Precision
from qpipe.config.training_schema import TrainingStage as TrainingStage


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
    reports: ReportsConfig = field(default_factory=ReportsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
