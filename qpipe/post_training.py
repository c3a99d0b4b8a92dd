"""The post-training stages of a job: equalization before quantization; rounding and what belongs around it after."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from qpipe.algorithms.adaround.apply import adaround_with_report
from qpipe.algorithms.adaround.optimize import ITERATIONS_PER_CALL
from qpipe.algorithms.adaround.report import LayerRounding, RoundingReport
from qpipe.algorithms.adaround.resume import FORMAT, RoundedLayers
from qpipe.algorithms.bias_correction.apply import correct_biases_analytically, correct_biases_empirically
from qpipe.algorithms.equalization.apply import equalize
from qpipe.algorithms.layer_note import LayerNote
from qpipe.algorithms.statistics.apply import reestimate_statistics
from qpipe.config.fingerprint import fingerprint
from qpipe.config.schema import BiasCorrection, JobConfig
from qpipe.reports.layers import LayerReport
from qpipe.reports.rounding_plot import plot_histogram
from qpipe.reports.terminal import Terminal
from qpipe.tracking.job_log import JobLog
from qpipe.training.identity import versions

logger = logging.getLogger("qpipe")


@dataclass
class PostTrainingReport:
    """What the algorithms did, for `layers.json` and the lines below the layer table.

    Attributes:
        rounding: of AdaRound, where it ran.
        notes: of the others, by name.
    """

    rounding: RoundingReport | None = None
    notes: dict[str, list[LayerNote]] = field(default_factory=dict)

    @property
    def rounded(self) -> list[str]:
        """Names of the layers whose weights were rounded for their scales."""
        layers = [] if self.rounding is None else self.rounding.layers
        return [record.name for record in layers if record.solver is not None]

    def add_to(self, report: LayerReport) -> None:
        """Completes the layer report: each layer's row, and the remarks below the table."""
        for row in report.rows:
            row.post_training = self.of_layer(row.plan.name)
        report.equalized_pairs = self.pairs()
        report.notes += self.remarks()

    def of_layer(self, name: str) -> dict[str, Any]:
        """Returns what happened to one layer, as plain values."""
        record = None if self.rounding is None else self.rounding.of(name)
        found: dict[str, Any] = {} if record is None else {"adaround": record.to_json()}
        for algorithm, notes in self.notes.items():
            for note in notes:
                if note.name == name:
                    found[algorithm] = {"change": note.change, "reason": note.reason}
        return found

    def pairs(self) -> list[dict[str, Any]]:
        """Returns the pairs of layers that were equalized, as plain values."""
        return [vars(note) for note in self.notes.get("equalization", [])]

    def remarks(self) -> list[str]:
        """Returns one sentence for each algorithm, and one for each layer that AdaRound left at nearest."""
        lines = []
        if self.rounding is not None:
            lines = [f"adaround: {record.summary()}" for record in self.rounding.layers if _is_remarkable(record)]
        for algorithm, notes in self.notes.items():
            changed = [note for note in notes if note.change is not None]
            lines.append(f"{algorithm}: {len(changed)} of {len(notes)} {MEASURES[algorithm][0]} changed")
        return lines


MEASURES = {
    "equalization": ("pair(s)", "largest factor"),
    "bias_correction": ("bias(es)", "RMS change"),
    "reestimate_statistics": ("layer(s)", "RMS change of the factor"),
}
"""For each algorithm what it works on, and what the number in its notes is."""


class PostTraining:
    """Runs the algorithms that a job asks for, and says and logs what they did.

    Args:
        config: the job.
        terminal: where progress is shown.
        log: where results go.
        folder: for layers that are rounded already.
    """

    def __init__(self, config: JobConfig, terminal: Terminal, log: JobLog, folder: Path):
        self.config, self.terminal, self.log, self.folder = config, terminal, log, folder
        self.report = PostTrainingReport()
        self._finished: RoundedLayers | None = None

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do after the calibration."""
        post = self.config.post_training
        return self.config.adaround.enabled or post.bias_correction is not None or post.reestimate_statistics

    def equalize(self, folded: keras.Model, samples: Any) -> keras.Model:
        """Returns the folded float model with equalized weight ranges, where that is wanted."""
        settings = self.config.post_training.equalization
        if not settings.enabled:
            return folded
        equalized, notes = equalize(folded, samples, iterations=settings.iterations)
        self._note("equalization", notes)
        return equalized

    def run(self, model: keras.Model, folded: keras.Model, samples: Any, float_key: str) -> keras.Model:
        """Rounds, corrects biases and re-estimates statistics, in this order.

        Args:
            model: quantized and calibrated.
            folded: the float model that it was made of.
            samples: calibration samples.
            float_key: hash of what determines the float model and the data.

        Returns:
            A new model.
        """
        post, limit = self.config.post_training, self.config.adaround.memory_limit_mb
        if self.config.adaround.enabled:
            model = self._round(model, folded, samples, float_key)
        if post.bias_correction is BiasCorrection.analytic:
            model, notes = correct_biases_analytically(model, folded)
            self._note("bias_correction", notes)
        if post.bias_correction is BiasCorrection.empirical:
            model, notes = correct_biases_empirically(model, folded, samples, memory_limit_mb=limit)
            self._note("bias_correction", notes)
        if post.reestimate_statistics:
            model, notes = reestimate_statistics(model, folded, samples, memory_limit_mb=limit)
            self._note("reestimate_statistics", notes)
        return model

    def discard(self) -> None:
        """Removes the rounded layers that were kept for a resumption, because the result is safe."""
        if self._finished is not None:
            self._finished.discard()

    def _round(self, model, folded, samples, float_key: str) -> keras.Model:
        config = self.config
        key = fingerprint(
            "adaround",
            FORMAT,
            float_key,
            config.folding.layers,
            config.folding.exclude,
            config.quantizer,
            config.adaround,
            config.post_training.equalization,
            config.data.calibration_samples,
            config.seed,
            versions(),
        )
        self._finished = RoundedLayers(self.folder / key)
        with self.terminal.progress("rounding") as on_step:
            model, report = adaround_with_report(
                model,
                folded,
                samples,
                config.adaround,
                seed=config.seed,
                finished=self._finished,
                on_layer=lambda index, count, record: self._told_layer(index, count, record, on_step),
                on_progress=self._told_iterations,
            )
        self.report.rounding = report
        if report.resumed:
            self.terminal.say(f"{report.resumed} layer(s) were rounded by a run that was interrupted")
        memory = "" if report.peak_memory_mb is None else f"; the process: at most {report.peak_memory_mb:,.0f} MB"
        self.terminal.say(
            f"cached layer inputs: at most {report.peak_cache_mb:,.0f} MB in memory, {report.spilled_mb:,.0f} MB on "
            f"disk{memory}"
        )
        self.log.record(report.metrics())
        self._log_courses(report)
        return model

    def _told_layer(self, index: int, count: int, record: LayerRounding, on_step) -> None:
        on_step(index, count)
        self.terminal.say(f"layer {index}/{count}  {record.summary()}")

    def _told_iterations(self, name: str, iteration: int, iterations: int, loss: float, decided: float) -> None:
        every = max(1, iterations // 4)
        if iteration // every > (iteration - ITERATIONS_PER_CALL) // every:
            self.terminal.say(f"  {name}: iteration {iteration}/{iterations}  loss {loss:.4g}  decided {decided:.1%}")

    def _log_courses(self, report: RoundingReport) -> None:
        for record in report.layers:
            if record.course is None:
                continue
            prefix = f"adaround/{record.name}"
            for iteration, loss, decided in zip(
                record.course.iterations, record.course.loss, record.course.decided, strict=True
            ):
                self.log.run.log_metrics({f"{prefix}/loss": loss, f"{prefix}/decided": decided}, step=iteration)
        self._plot(report)

    def _plot(self, report: RoundingReport) -> None:
        wanted = self.config.adaround.histogram
        if wanted is None:
            return
        record = report.of(wanted)
        if record is None or record.course is None:
            logger.warning("adaround.histogram: there are no iterations of %r to plot in this run", wanted)
            return
        path = self.log.directory / "plots" / f"rounding_{wanted.replace('/', '_')}.png"
        plot_histogram(record.course, wanted, path)
        self.log.run.log_file(path, "plots")

    def _note(self, algorithm: str, notes: list[LayerNote]) -> None:
        self.report.notes[algorithm] = notes
        for note in notes:
            self.terminal.say(f"{algorithm}: {note.summary(MEASURES[algorithm][1])}")


def _is_remarkable(record: LayerRounding) -> bool:
    return record.solver is None or record.kept_nearest or record.reason is not None or record.undecided > 0
