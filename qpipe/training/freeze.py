"""What training may move in a quantized model, and what stays as it is afterwards."""

from __future__ import annotations

from collections.abc import Collection

import keras

from qpipe.layers.inventory import freezing_parts, output_quantizers, quantized_linear_layers


def follow_data(model: keras.Model, rounded: Collection[str] = ()) -> None:
    """Lets weight scales follow the weights, or learn, as quantization-aware training needs it after a calibration.

    Args:
        model: a calibrated model.
        rounded: names of layers whose weights were rounded for their scales: these stay as they are, unless they are
            learned. Derived from rounded weights they would be others, and most weights would leave their grid.
    """
    for layer in quantized_linear_layers(model):
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


class FreezeByRetracing(keras.callbacks.Callback):
    """Traces the training step anew at the freeze, instead of leaving the choice to a conditional in its graph.

    Both give the same numbers. Without a conditional in every layer the step is traced in a third of the time, and
    after the freeze it holds nothing but what inference needs. Assumes one training step per call of the step
    function, as `steps_per_execution=1` gives it.
    """

    def on_train_begin(self, logs=None):
        """Counts the steps that are left until the freeze of each part."""
        self._settle()
        self._left = {
            id(part): part.ema_freeze_delay - int(keras.ops.convert_to_numpy(part.steps)) for part in self._parts()
        }
        self._step = 0
        for part in self._parts():
            part.known_frozen = self._left[id(part)] <= 0

    def on_train_batch_end(self, batch, logs=None):
        """Traces anew where a part freezes."""
        self._step += 1
        due = [part for part in self._parts() if self._left[id(part)] == self._step]
        for part in due:
            part.known_frozen = True
        if due:
            self._settle()
            self.model.make_train_function(force=True)

    def on_train_end(self, logs=None):
        """Takes in the last step, and leaves the choice to the graph again."""
        self._settle()
        for part in self._parts():
            part.known_frozen = None
        self.model.train_function = None

    def _settle(self):
        """Moves the ranges by the last step, which would wait for the next one otherwise."""
        for quantizer in output_quantizers(self.model).values():
            quantizer.settle()

    def _parts(self):
        return freezing_parts(self.model)
