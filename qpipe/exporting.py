"""The export stage of a job: files are written, run on the test part, and compared with the integer engine."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np

from qpipe.config.export_schema import ExportFormat
from qpipe.config.schema import JobConfig
from qpipe.data import Dataset
from qpipe.errors import ExportError
from qpipe.evaluation import likeness, quality
from qpipe.export.c_array import write_c_array
from qpipe.export.comparison import FileComparison
from qpipe.export.exported import ExportedFile
from qpipe.export.formats import FORMATS, Request
from qpipe.export.network import Network, network_of
from qpipe.export.verification import BATCH_SIZE, compare, runner_of
from qpipe.lowering.verification import Verification
from qpipe.reports.layers import LayerReport
from qpipe.reports.terminal import Terminal
from qpipe.tracking.job_log import JobLog
from qpipe.training.outputs import gives_probabilities

logger = logging.getLogger("qpipe")

DEFAULT_FORMATS = (ExportFormat.litert,)


@dataclass
class Exporting:
    """Writes and verifies a job's files.

    Attributes:
        config: of the job.
        terminal: where progress is shown.
        log: where files and metrics go.
        comparisons: of every file with the integer engine, by format.
        failures: why a file that was asked for is not there, or not what was asked for.
    """

    config: JobConfig
    terminal: Terminal
    log: JobLog
    comparisons: dict[ExportFormat, FileComparison] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def formats(self) -> list[ExportFormat]:
        """Formats to write; a C array needs the LiteRT file."""
        wanted = self.config.export.formats
        if wanted is None:
            return list(DEFAULT_FORMATS)
        array = ExportFormat.c_array in wanted
        return [*([ExportFormat.litert] if array and ExportFormat.litert not in wanted else []), *wanted]

    def run(
        self,
        model: keras.Model,
        dataset: Dataset,
        quantized: list[np.ndarray],
        verification: Verification | None,
        output_names: list[str],
    ) -> None:
        """Writes every format, and compares the files with the integer engine; nothing that fails is raised here.

        Args:
            model: the quantized model.
            dataset: whose test part the files compute.
            quantized: the quantized model's outputs for the test part.
            verification: what the integer engine computed, where it ran.
            output_names: names of the model's outputs for metrics.
        """
        if not self.formats:
            self.terminal.say("left out: export.formats is empty")
            return
        observed = None if verification is None else verification.notes
        try:
            network = network_of(model)
        except ExportError as error:
            self._failed(str(error))
            return
        for name in self.formats:
            if name is ExportFormat.c_array:
                self._write_array(network)
                continue
            request = self._request(name, network, dataset, observed)
            try:
                exported = FORMATS[name].write(request)
            except ExportError as error:
                self._failed(str(error))
                continue
            self._written(name, exported)
            try:
                self._compare(name, exported, network, dataset)
            except ExportError as error:
                self._failed(str(error))
                continue
            self._measure(name, model, dataset, dict(zip(output_names, quantized, strict=True)))

    def rehearse(self, model: keras.Model) -> None:
        """Writes the formats that were asked for by name and throws them away, before a training makes anyone wait.

        Args:
            model: the calibrated model, whose weights may still change.

        Raises:
            ExportError: what a format can't express.
        """
        if self.config.export.formats is None:
            return
        refused = []
        with TemporaryDirectory() as folder:
            for name in self.formats:
                if name in FORMATS:
                    path = Path(folder) / FORMATS[name].file
                    request = Request(network_of(model), path, self.config.export, final=False)
                    try:
                        FORMATS[name].write(request)
                    except ExportError as error:
                        refused.append(str(error))
        if refused:
            raise ExportError("; ".join(refused))

    def add_to(self, report: LayerReport) -> None:
        """Completes the layer report: each row's comparison with each file."""
        for row in report.rows:
            for name, comparison in self.comparisons.items():
                for prefix, tensors in (("", comparison.tensors), ("own_", comparison.isolated)):
                    if row.plan.name in tensors:
                        tensor, measured = tensors[row.plan.name], row.exports.setdefault(name.value, {})
                        measured[f"{prefix}mismatch_rate"] = tensor.mismatch_rate
                        measured[f"{prefix}largest_lsb"] = tensor.largest_lsb
        report.notes += [f"{name.value}: {comparison.summary()}" for name, comparison in self.comparisons.items()]

    def raise_failures(self) -> None:
        """Raises an ExportError for files that were asked for and could not be written, or are not exact enough."""
        if self.failures:
            raise ExportError("; ".join(self.failures))

    def _request(self, name: ExportFormat, network: Network, dataset: Dataset, observed) -> Request:
        labels = None if dataset.class_names is None else list(dataset.class_names)
        description = {"labels": labels, "normalization": self.config.data.preprocess}
        path = self.log.directory / "model" / FORMATS[name].file
        return Request(network, path, self.config.export, description, observed)

    def _failed(self, sentence: str) -> None:
        """Takes note of a file that can't be written: a failure where its format was asked for, else a warning."""
        if self.config.export.formats is None:
            logger.warning("no file was exported: %s", sentence)
        else:
            self.failures.append(sentence)

    def _written(self, name: ExportFormat, exported: ExportedFile) -> None:
        self.log.run.log_file(exported.path, "model")
        size = {ExportFormat.litert: "size/file_bytes"}.get(name, f"size/{name.value}_file_bytes")
        self.log.record({size: exported.bytes})
        if exported.peak_activation_bytes is not None:
            self.log.record({"size/peak_activation_bytes": exported.peak_activation_bytes})
        if exported.float_bytes is not None:
            self.log.record({"size/float_file_bytes": exported.float_bytes})
        self.terminal.say(f"{exported.path.name}: {exported.bytes:,} bytes, {', '.join(exported.operators)}")
        for note in exported.notes:
            self.terminal.say(f"  {note}")
        for warning in exported.warnings:
            logger.warning("%s: %s", exported.path.name, warning)

    def _compare(self, name: ExportFormat, exported: ExportedFile, network: Network, dataset: Dataset) -> None:
        batches = dataset.evaluation_batches("test", BATCH_SIZE)
        steps = -(-len(dataset.test) // BATCH_SIZE)
        wanted = self.config.verify.samples if self.config.verify.enabled else 0
        with self.terminal.progress(f"running {exported.path.name}") as on_batch:
            comparison = compare(
                network,
                runner_of(network, exported.path),
                ([x] for x, _ in batches.as_numpy_iterator()),
                samples=wanted,
                on_batch=lambda step: on_batch(step, steps),
            )
        self.comparisons[name] = comparison
        self.terminal.say(f"  {comparison.summary()}")
        if comparison.samples and not exported.bound.is_kept(comparison):
            sentence = (
                f"{exported.path.name} differs from the integer engine by more than is documented "
                f"({exported.bound.describe()}): {comparison.summary()}"
            )
            if self.config.export.require_exact:
                self.failures.append(sentence)
            else:
                logger.warning(sentence)

    def _measure(
        self, name: ExportFormat, model: keras.Model, dataset: Dataset, quantized: dict[str, np.ndarray]
    ) -> None:
        comparison, labels, task = self.comparisons[name], dataset.labels("test"), dataset.task
        metrics: dict[str, float] = {}
        for index, (output, expected) in enumerate(quantized.items()):
            prefix = f"{name.value}/{output}/" if index else f"{name.value}/"
            probabilities = gives_probabilities(model, index)
            given = comparison.predictions[index]
            measured = quality(given, labels, task, probabilities=probabilities)
            measured |= likeness(given, expected, task, probabilities=probabilities)
            metrics |= {f"{prefix}{key}": value for key, value in measured.items()}
        if comparison.samples:
            metrics[f"{name.value}/mismatch_rate"] = comparison.mismatch_rate
            metrics[f"{name.value}/max_lsb"] = comparison.largest_lsb
            metrics[f"{name.value}/layer_mismatch_rate"] = comparison.layer_mismatch_rate
        self.log.record(metrics)

    def _write_array(self, network: Network) -> None:
        """Writes the C array, where there is a LiteRT file to make it of."""
        path = self.log.directory / "model" / FORMATS[ExportFormat.litert].file
        if ExportFormat.litert not in self.comparisons:
            return
        array = write_c_array(path)
        for file in (array.header, array.source):
            self.log.run.log_file(file, "model")
        self.terminal.say(f"{array.header.name}, {array.source.name}: {array.summary()}")
        if array.missing:
            logger.warning(array.summary())
