"""What training may move in a quantized model, and what stays as it is afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

import keras

from qpipe.layers.batch_statistics import BatchStatistics
from qpipe.layers.inventory import freezing_parts, output_quantizers, quantized_linear_layers
from qpipe.quantizers import OutputQuantizer

OnFreeze = Callable[[int], None]
logger = logging.getLogger("qpipe")


def follow_data(model: keras.Model, rounded: Collection[str] = ()) -> None:
    """Lets weight scales follow the weights, or learn, as quantization-aware training needs it after a calibration.

    Layers with batch statistics choose how they compute them; see `BatchStatistics.choose_moments`.

    Args:
        model: a calibrated model.
        rounded: names of layers whose weights were rounded for their scales: these stay as they are, unless they are
            learned. Derived from rounded weights they would be others, and most weights would leave their grid.
    """
    for layer in quantized_linear_layers(model):
        if isinstance(layer, BatchStatistics):
            layer.choose_moments()
        if layer.name not in rounded or layer.kernel_quantizer.learned_step:
            layer.kernel_quantizer.release()


def freeze(model: keras.Model) -> None:
    """Stores weight scales and activation ranges with the model; they stay as they are from now on.

    Weight scales that are stored already are not derived again.

    Raises:
        QuantizationError: if a bias does not fit into its accumulator.
    """
    for quantizer in output_quantizers(model).values():
        quantizer.fix()
    for layer in quantized_linear_layers(model):
        if not layer.kernel_quantizer.fixed:
            layer.fix_scales()
        layer.require_bias_fits()


def warn_of_late_freeze(delay: int | None, steps: int) -> None:
    """Warns where no step of a quantization-aware training would use frozen statistics.

    Args:
        delay: `folding.ema_freeze_delay`.
        steps: planned training steps.
    """
    if delay is None or delay < steps or delay == 0:
        return
    if delay > steps:
        end = f"lies beyond the {steps} steps of training.qat: the statistics never freeze"
    else:
        end = "is the number of steps of training.qat: the statistics freeze after the last one, none trains with them"
    logger.warning("folding.ema_freeze_delay=%d %s", delay, end)


class FreezeByRetracing(keras.callbacks.Callback):
    """Traces the training step anew at the freeze, instead of leaving the choice to a conditional in its graph.

    Both give the same numbers. Without a conditional in every layer the step is traced in a third of the time, and
    after the freeze it holds nothing but what inference needs. Assumes one training step per call of the step
    function, as `steps_per_execution=1` gives it.

    The steps that are left are counted from where the model is when the first one begins, after other callbacks have
    restored what a training that broke off has left.

    Args:
        on_freeze: called once when all statistics and ranges that training moves are frozen, with the number of
            training steps that they hold; at the first step where that was before, as in a resumed training.
    """

    def __init__(self, on_freeze: OnFreeze = lambda step: None):
        super().__init__()
        self._on_freeze = on_freeze

    def on_train_begin(self, logs=None):
        """Forgets the training before."""
        self._left: dict[int, int] = {}
        self._started = self._begun = False

    def on_train_batch_begin(self, batch, logs=None):
        """Counts, before the first step, the steps that are left until the freeze of each part."""
        if not self._started:
            self._start()
        self._begun = True

    def on_train_batch_end(self, batch, logs=None):
        """Traces anew where a part freezes."""
        self._step += 1
        if self._step in self._left.values():
            self._settle()
            self._trace_anew()
            self._report()

    def on_train_end(self, logs=None):
        """Takes in the last step, and leaves the choice to the graph again."""
        if not self._started:
            self._start()
        self._settle()
        self.model.train_function = None

    def _start(self):
        self._settle()
        self._parts = freezing_parts(self.model)
        self._left = {id(part): (part.ema_freeze_delay or 0) - _count(part) for part in self._parts}
        self._step = 0
        self._started, self._reported = True, False
        if self._parts:
            self._trace_anew()
        self._report()

    def _trace_anew(self):
        self.model.make_train_function(force=True)
        self._traced = self.model.train_function
        self.model.train_function = self._run

    def _run(self, iterator):
        """Runs a step; the parts know whether they are frozen for its time only, whatever breaks it off.

        A step that did not begin here is one of a later training without this callback, after one that broke off: it
        leaves the choice to the graph.
        """
        if not self._begun:
            self.model.make_train_function(force=True)
            return self.model.train_function(iterator)
        self._begun = False
        for part in self._parts:
            part.known_frozen = self._left[id(part)] <= self._step
        try:
            return self._traced(iterator)
        finally:
            for part in self._parts:
                part.known_frozen = None

    def _settle(self):
        """Moves the ranges by the last step, which would wait for the next one otherwise."""
        for quantizer in output_quantizers(self.model).values():
            quantizer.settle()

    def _report(self):
        moving = _moved_by_training(self.model)
        frozen = [part for part in moving if self._left.get(id(part), self._step + 1) <= self._step]
        if moving and len(frozen) == len(moving) and not self._reported:
            self._reported = True
            self._on_freeze(max(map(_count, moving)))


def _count(part: BatchStatistics | OutputQuantizer) -> int:
    """Returns how many training steps the part's statistics or range hold."""
    return int(keras.ops.convert_to_numpy(part.steps))


def _moved_by_training(model: keras.Model) -> list[BatchStatistics | OutputQuantizer]:
    """Returns the statistics and ranges of `model` that move, or did before they were frozen."""
    statistics = [layer for layer in model.layers if isinstance(layer, BatchStatistics) and layer.trainable]
    ranges = [one for one in output_quantizers(model).values() if not (one.fixed or one.learned_step)]
    return [*statistics, *ranges]
