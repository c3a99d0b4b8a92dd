"""The job: load, train the float model, fold, quantize, calibrate, round, train, evaluate, export, report, log."""

from __future__ import annotations

import logging
import shlex
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from qpipe.algorithms import calibrate
from qpipe.algorithms.adaround.apply import check_selectors
from qpipe.config.schema import JobConfig, MethodName, Task
from qpipe.data import Dataset, load_dataset
from qpipe.evaluation import likeness, predictions, quality
from qpipe.exporting import Exporting
from qpipe.graph.folding import FoldingPlan, apply_folding, plan_folding
from qpipe.graph.layer_plan import Treatment
from qpipe.graph.quantization import QuantizationResult, quantize_with_plan
from qpipe.graph.trace import trace
from qpipe.lowering.verification import Verification, verify_engine
from qpipe.models import FloatModelCache, build_model
from qpipe.post_training import PostTraining
from qpipe.reports.costs import bit_operations, float_bytes, packed_weight_bytes
from qpipe.reports.layers import LayerReport, layer_report
from qpipe.reports.noise import LayerNoise, measure_noise
from qpipe.reports.plots import RunResults, TestPart, write_plots
from qpipe.reports.tables import layer_table, remarks, result_table
from qpipe.reports.terminal import Terminal
from qpipe.sweep.membership import Membership
from qpipe.tracking import flat_parameters, start_run
from qpipe.tracking.job_log import JobLog
from qpipe.training.check_with_data import check_before_training
from qpipe.training.checkpoint import Checkpoint, Checkpoints, qat_key
from qpipe.training.distribution import steps_per_epoch
from qpipe.training.float_model import FloatModel, float_model
from qpipe.training.freeze import follow_data, freeze, warn_of_late_freeze
from qpipe.training.loop import fit
from qpipe.training.outputs import gives_probabilities
from qpipe.training.seeds import seed_stage

Outputs = dict[str, list[np.ndarray]]
"""Outputs (samples, ...) for the test part, of each kind of model."""
REPORT_SAMPLES = 256
VERIFY_BATCH_SIZE = 64
EXAMPLES = 2
logger = logging.getLogger("qpipe")


@dataclass
class JobResult:
    """What a job gives back.

    Attributes:
        metrics: the last value of each metric, under the keys that MLflow has.
        model: the quantized Keras model.
        run_id: MLflow's id of the run; None after a dry run.
        directory: the job's folder, with its configuration, metrics, layer table and models.
        report: the layer report.
    """

    metrics: dict[str, float]
    model: keras.Model
    run_id: str | None
    directory: Path
    report: LayerReport = field(repr=False)


def run_job(config: JobConfig, *, directory: Path, command: list[str], sweep: Membership | None = None) -> JobResult:
    """Runs a validated job.

    Args:
        config: the resolved configuration.
        directory: where the job's files go.
        command: the command line that repeats the job.
        sweep: the job's place in a sweep; None where it is none's.

    Raises:
        QpipeError: something that the user can mend is wrong; what was computed before is kept.
    """
    terminal = Terminal()
    terminal.say(f"[bold]qpipe[/] {config.name}  [dim]{directory}[/]")
    if config.dry_run:
        return _dry_run(config, terminal, directory)
    runs_dir = Path(config.runs_dir)
    member = sweep or Membership(name=config.name)
    tags = {"qpipe.command": shlex.join(command), "qpipe.directory": str(directory.absolute())}
    with start_run(
        config.tracking,
        runs_dir=runs_dir,
        name=member.name,
        parameters=flat_parameters(config) | member.parameters,
        tags=tags | member.tags,
    ) as run:
        log = JobLog(run, directory)
        log.configuration(config)
        job = _Job(config, terminal, log, runs_dir)
        result = job.run()
        terminal.say("")
        terminal.table(result_table(log.metrics))
        terminal.say(f"\nresults in {directory}\n{run.how_to_open}")
        return result


@dataclass
class _Job:
    config: JobConfig
    terminal: Terminal
    log: JobLog
    runs_dir: Path

    def __post_init__(self):
        self.cache = self.runs_dir / "cache"
        self.checkpoints = Checkpoints(self.cache / "checkpoints")
        self.post_training = PostTraining(self.config, self.terminal, self.log, self.cache / "rounding")
        self.exporting = Exporting(self.config, self.terminal, self.log)

    def run(self) -> JobResult:
        stage = self._stage
        with stage("data", "data"):
            dataset = self._load_data()
        with stage("float", "float model"):
            source = self._float_model(dataset)
        with stage("fold", "folding"):
            folded, folding = self._fold(source.model)
            folded = self.post_training.equalize(folded, self._calibration_samples(dataset))
        with stage("quantize", "quantization"):
            result = self._quantize(folded, folding)
        with stage("calibrate", "calibration"):
            self._calibrate(result.model, dataset)
            self.exporting.rehearse(result.model)
        if self.post_training.wanted:
            with stage("round", "rounding"):
                samples = self._calibration_samples(dataset)
                result.model = self.post_training.run(result.model, folded, samples, source.key)
        with self._checkpoint(source) as checkpoint:
            if self.config.method.name is MethodName.qat:
                with stage("train", "quantization-aware training"):
                    self._train(result.model, dataset, checkpoint)
            with stage("evaluate", "evaluation"):
                outputs = self._evaluate(source.model, folded, result.model, dataset)
            with stage("save", "saving"):
                self._save(source.model, result.model, dataset, outputs)
            with stage("verify", "verification by the integer engine"):
                verification = self._verify(result.model, dataset)
            with stage("export", "export"):
                names = source.model.output_names
                self.exporting.run(result.model, dataset, outputs["quantized"], verification, names)
            with stage("report", "layers"):
                noise = self._measure_noise(result.model, dataset)
                report = self._report(result, folding, noise, verification)
                if self.config.reports.plots:
                    self._plot(report, noise, result.model, source.model, outputs, dataset)
            if checkpoint is not None:
                checkpoint.discard()
            self.post_training.discard()
        self.exporting.raise_failures()
        return JobResult(self.log.metrics, result.model, self.log.run.id, self.log.directory, report)

    def _stage(self, name: str, title: str):
        seed_stage(self.config.seed, name)
        return self.log.timed(name, self.terminal.stage(name, title), self.terminal.times)

    def _load_data(self) -> Dataset:
        dataset = load_dataset(self.config.data, seed=self.config.seed, scratch=self.cache / "data")
        self.log.run.set_tags({"qpipe.data_fingerprint": dataset.fingerprint})
        self.terminal.say(_describe(dataset))
        return dataset

    def _float_model(self, dataset: Dataset) -> FloatModel:
        epochs = self.config.training.float.epochs
        with self.terminal.progress("training the float model") as on_batch:
            source = float_model(
                self.config,
                dataset,
                FloatModelCache(self.cache),
                self.checkpoints,
                before_training=lambda model: plan(self.config, model),
                on_batch=on_batch,
                on_epoch=lambda epoch, logs: self.terminal.epoch(epoch, epochs, logs),
            )
        self.log.history("float", source.history)
        self.log.model("float", source.model)
        self.log.record({"size/float_bytes": float_bytes(source.model)})
        if source.cached:
            self.terminal.say("the trained float model is in the cache: nothing to train")
        return source

    def _fold(self, model: keras.Model) -> tuple[keras.Model, FoldingPlan]:
        graph = trace(model)
        plan = plan_folding(graph, self.config.folding)
        folded = apply_folding(graph, plan, self.config.folding)
        self.terminal.say(f"{len(plan.folds)} batch normalization(s) folded, {len(plan.kept)} kept")
        return folded, plan

    def _quantize(self, folded: keras.Model, folding: FoldingPlan) -> QuantizationResult:
        result = quantize_with_plan(
            folded,
            self.config.quantizer,
            ema_freeze_delay=self.config.folding.ema_freeze_delay,
            absorbed=folding.absorbed(),
        )
        floats = sum(plan.treatment is Treatment.float for plan in result.plans)
        self.terminal.say(f"{len(result.plans) - floats} layer(s) quantized, {floats} in float")
        return result

    def _calibrate(self, model: keras.Model, dataset: Dataset) -> None:
        samples = self._calibration_samples(dataset)
        with self.terminal.progress("calibrating") as on_batch:
            calibrate(model, samples, on_batch=on_batch, output_mse=not self.config.adaround.enabled)
        self.terminal.say(f"{len(samples)} samples")

    def _calibration_samples(self, dataset: Dataset) -> np.ndarray:
        return dataset.calibration_inputs(self.config.data.calibration_samples, self.config.seed)

    def _checkpoint(self, source: FloatModel) -> AbstractContextManager[Checkpoint | None]:
        """Holds the checkpoint of this very training, where there is one and its checkpoints are wanted."""
        if self.config.method.name is not MethodName.qat or not self.config.training.checkpoints:
            return nullcontext()
        return self.checkpoints.open(qat_key(self.config, source.key))

    def _train(self, model: keras.Model, dataset: Dataset, checkpoint: Checkpoint | None) -> None:
        stage = self.config.training.qat
        steps = stage.epochs * steps_per_epoch(self.config.training, stage, dataset)
        warn_of_late_freeze(self.config.folding.ema_freeze_delay, steps)
        follow_data(model, self.post_training.report.rounded)
        with self.terminal.progress("training the quantized model") as on_batch:
            history = fit(
                model,
                self.config.training,
                "qat",
                dataset,
                seed=self.config.seed,
                checkpoint=checkpoint,
                on_batch=on_batch,
                on_epoch=lambda epoch, logs: self.terminal.epoch(epoch, stage.epochs, logs),
                on_freeze=self._note_freeze,
            )
        freeze(model)
        self.log.history("qat", history)

    def _note_freeze(self, step: int) -> None:
        self.log.record({"train/qat/freeze_step": step})
        self.terminal.say(f"statistics and ranges froze after step {step}")

    def _evaluate(self, source: keras.Model, folded: keras.Model, model: keras.Model, dataset: Dataset) -> Outputs:
        """Returns the outputs of the float and the quantized model for the test part."""
        outputs = {
            name: predictions(kind, dataset)
            for name, kind in (("float", source), ("folded", folded), ("quantized", model))
        }
        self.log.record(metrics_of_test(source, outputs, dataset))
        self.log.record(
            {"size/packed_weight_bytes": packed_weight_bytes(model), "cost/bit_operations": bit_operations(model)}
        )
        self.terminal.say(f"{len(dataset.test)} test samples")
        return outputs

    def _verify(self, model: keras.Model, dataset: Dataset) -> Verification | None:
        """Compares every quantized tensor with the integer engine's, on the test part."""
        if not self.config.verify.enabled:
            self.terminal.say("left out: verify.enabled is false")
            return None
        samples = min(self.config.verify.samples or len(dataset.test), len(dataset.test))
        batches = dataset.evaluation_batches("test", VERIFY_BATCH_SIZE).unbatch().take(samples).batch(VERIFY_BATCH_SIZE)
        steps = -(-samples // VERIFY_BATCH_SIZE)
        with self.terminal.progress("comparing") as on_batch:
            verification = verify_engine(
                model,
                ([x] for x, _ in batches.as_numpy_iterator()),
                on_batch=lambda step: on_batch(step, steps),
            )
        self.log.record(verification.metrics())
        if verification.first_difference is None:
            self.terminal.say(verification.summary())
        else:
            logger.warning(verification.summary())
        return verification

    def _measure_noise(self, model: keras.Model, dataset: Dataset) -> dict[str, LayerNoise]:
        samples = dataset.calibration_inputs(min(REPORT_SAMPLES, len(dataset.train)), self.config.seed)
        return measure_noise(model, samples)

    def _report(
        self,
        result: QuantizationResult,
        folding: FoldingPlan,
        noise: dict[str, LayerNoise],
        verification: Verification | None,
    ) -> LayerReport:
        report = layer_report(result, folding, noise, verification)
        self.post_training.report.add_to(report)
        self.exporting.add_to(report)
        self.log.record({"size/multiply_accumulates": report.multiply_accumulates})
        self.log.json("layers.json", report.to_json())
        _show(self.terminal, report, measured=True)
        return report

    def _plot(
        self,
        report: LayerReport,
        noise: dict[str, LayerNoise],
        model: keras.Model,
        source: keras.Model,
        outputs: Outputs,
        dataset: Dataset,
    ) -> None:
        test = TestPart(
            outputs["float"][0],
            outputs["quantized"][0],
            dataset.labels("test"),
            dataset.task,
            dataset.class_names,
            gives_probabilities(source, 0),
        )
        freeze_step = self.log.metrics.get("train/qat/freeze_step")
        per_epoch = dataset.steps_per_epoch(self.config.training.qat.batch_size)
        freeze_epoch = None if freeze_step is None else freeze_step / per_epoch
        results = RunResults(model, report, noise, test, self.log.histories, freeze_epoch)
        for path in write_plots(results, self.log.directory / "plots"):
            self.log.run.log_file(path, "plots")

    def _save(self, source: keras.Model, model: keras.Model, dataset: Dataset, outputs: Outputs) -> None:
        self.log.model("quantized", model)
        if not self.config.tracking.log_models:
            return
        for name, kind in (("float", source), ("quantized", model)):
            examples = dict(zip(kind.output_names, (array[:EXAMPLES] for array in outputs[name]), strict=True))
            self.log.logged_model(name, dataset.examples("test", EXAMPLES), examples)


def metrics_of_test(source: keras.Model, outputs: Outputs, dataset: Dataset) -> dict[str, float]:
    """Measures the first output of each model, and of a model with several outputs the others under their names."""
    labels, task = dataset.labels("test"), dataset.task
    metrics: dict[str, float] = {}
    for index, output in enumerate(source.output_names):
        prefix = f"{output}/" if index else ""
        probabilities = gives_probabilities(source, index)
        for name in outputs:
            measured = quality(outputs[name][index], labels, task, probabilities=probabilities)
            metrics |= {f"{name}/{prefix}{key}": value for key, value in measured.items()}
        pair = outputs["quantized"][index], outputs["float"][index]
        compared = likeness(*pair, task, probabilities=probabilities)
        metrics |= {f"{prefix}{key}": value for key, value in compared.items()}
    return metrics


def plan(config: JobConfig, model: keras.Model) -> tuple[FoldingPlan, QuantizationResult]:
    """Folds and quantizes an untrained model: shows what becomes of each layer, and whether selectors and rules fit."""
    graph = trace(model)
    folding = plan_folding(graph, config.folding)
    folded = apply_folding(graph, folding, config.folding)
    result = quantize_with_plan(folded, config.quantizer, absorbed=folding.absorbed())
    if config.adaround.enabled:
        check_selectors(config.adaround, result.model)
    return folding, result


def _dry_run(config: JobConfig, terminal: Terminal, directory: Path) -> JobResult:
    """Shows the plan for every layer; trains, calibrates and logs nothing."""
    dataset = load_dataset(config.data, seed=config.seed)
    terminal.say(_describe(dataset))
    seed_stage(config.seed, "build")
    model = build_model(config.model, dataset.signature)
    check_before_training(config, dataset, model)
    folding, result = plan(config, model)
    report = layer_report(result, folding)
    _show(terminal, report, measured=False)
    terminal.say("dry run: nothing was trained, calibrated or logged")
    return JobResult({}, result.model, None, directory, report)


def _show(terminal: Terminal, report: LayerReport, *, measured: bool) -> None:
    table, left_out = layer_table(report, measured=measured, width=terminal.console.width)
    terminal.table(table)
    if left_out:
        terminal.say(f"  a wider terminal shows {', '.join(left_out)} as well")
    for line in remarks(report):
        terminal.say(f"  {line}")


def _describe(dataset: Dataset) -> str:
    shape = "×".join(str(size) for size in dataset.signature.input_shape)
    parts = f"{len(dataset.train)} training, {len(dataset.validation)} validation, {len(dataset.test)} test samples"
    predicted = "values to predict" if dataset.task is Task.regression else "classes"
    each = " per pixel" if len(dataset.signature.output_shape) > 1 else ""
    return f"{parts} of {shape}, {dataset.signature.classes} {predicted}{each}"
