"""A batch normalization that could not be folded, quantized as y = a * x + b."""

from __future__ import annotations

import logging
from typing import Any

import keras

from qpipe.errors import QuantizationError
from qpipe.layers.batch_statistics import STATISTICS_ARGUMENTS, BatchStatistics
from qpipe.layers.linear import QuantizedLinear
from qpipe.quantizers import AlignedWeightQuantizer, OutputQuantizer, WeightQuantizer

logger = logging.getLogger("qpipe")


class _Affine(keras.layers.Layer):
    """The part of a Keras layer that `QuantizedLinear` expects: an activation, no bias."""

    bias = None

    def __init__(self, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        self.built = True

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"activation": keras.activations.serialize(self.activation)}


@keras.saving.register_keras_serializable("qpipe")
class QuantizedBatchNormalization(BatchStatistics, QuantizedLinear, _Affine):
    """Quantized batch normalization: a = gamma / sqrt(variance + epsilon), b = beta - mean * a.

    gamma, beta and the moving statistics stay the layer's variables; a and b are quantized, b on the
    accumulator's scale. While training, batch statistics are used until `ema_freeze_delay` steps are over.

    Ranks 2 to 5. Unlike the layer of other libraries, gamma and beta are trained after the freeze, too; the moving
    statistics are not.

    Args:
        quant_config: dictionary with `a_quantizer` (default 8 bits, one scale), `b_quantizer` (default: the
            buffer's width), `buffer_bitwidth` (default 32) and `output_quantizer`; each a quantizer or the
            dictionary of its arguments.
        activation: `linear`, `relu` or `relu6`, fused with the output quantizer.
        input_quantizer: the `OutputQuantizer` of the incoming tensor (the same object).
        **kwargs: as in `keras.layers.BatchNormalization`, and `ema_freeze_delay`. `renorm`, `virtual_batch_size` and
            `fused` of old configurations are left out, with a warning where they would change the result.

    Raises:
        ValueError: an unknown key of `quant_config`, synchronized statistics, an axis other than the last one.
    """

    def __init__(self, quant_config: dict | None = None, activation=None, input_quantizer=None, **kwargs):
        _drop_old_arguments(kwargs)
        given = {name: kwargs.pop(name) for name in _QUANTIZER_ARGUMENTS if name in kwargs}
        if given and quant_config:
            raise ValueError(f"quant_config can't be combined with {sorted(given)}; put them into quant_config")
        given = given or _from_quant_config(dict(quant_config or {}))
        super().__init__(activation=activation, input_quantizer=input_quantizer, **given, **kwargs)

    def build(self, input_shape):
        """Creates the variables of the normalization and the scale of `a`."""
        if not 2 <= len(input_shape) <= 5:
            raise ValueError(f"{self.name}: the shape {input_shape} has {len(input_shape)} axes; allowed: 2 to 5")
        self.require_last_axis(input_shape)
        self.rank = len(input_shape)
        self.build_statistics(input_shape[-1])
        if self.kernel_quantizer is not None and not self.kernel_quantizer.built:
            self.kernel_quantizer.build((input_shape[-1],))
        self.reserve_room_for_products()
        self.built = True

    @property
    def products_per_output(self) -> int:
        """One product per output."""
        return 1

    def linear_op(self, x, kernel):
        return x * kernel

    def folded_weights(self):
        """Returns the float vectors (a, b), of the moving statistics."""
        return self.factors(*self.moving_moments())

    def call(self, x, training=None, mask=None):
        if self.input_quantizer is None:
            raise QuantizationError(
                f"{self.name}: the quantizer of its input is not known; give input_quantizer the OutputQuantizer "
                "of the tensor that it receives, or let qpipe.quantize build the model"
            )
        y = self.choose(
            training,
            lambda: self.accumulate(x, self.factors(*self.batch_moments(x, mask)), training),
            lambda: self.accumulate(x, self.folded_weights(), training),
        )
        return self.finish(y, training)

    @classmethod
    def from_batch_normalization(cls, layer: keras.layers.BatchNormalization, quant_config=None, **kwargs):
        """Returns the quantized counterpart of a built Keras layer, with its name, variables and settings.

        Args:
            layer: a built `keras.layers.BatchNormalization`.
            quant_config: as in the constructor.
            **kwargs: of the constructor, before those of `layer`.
        """
        config = {key: value for key, value in layer.get_config().items() if key in SHARED_ARGUMENTS}
        quantized = cls(quant_config, **config | kwargs)
        quantized.trainable = layer.trainable
        quantized.build(_any_shape(layer.input_spec.ndim, layer.moving_mean.shape[0]))
        _copy_variables(layer, quantized)
        return quantized

    def to_batch_normalization(self) -> keras.layers.BatchNormalization:
        """Returns the Keras layer with the same name, variables and settings, without quantizers and activation."""
        config = {key: value for key, value in self.get_config().items() if key in SHARED_ARGUMENTS}
        layer = keras.layers.BatchNormalization.from_config(config)
        layer.trainable = self.trainable
        layer.build(_any_shape(self.rank, self.moving_mean.shape[0]))
        _copy_variables(self, layer)
        return layer


SHARED_ARGUMENTS = ("name", "dtype", "axis", "momentum", "epsilon", "center", "scale", *STATISTICS_ARGUMENTS)
_VARIABLES = ("gamma", "beta", "moving_mean", "moving_variance")
_A_DEFAULTS: dict[str, Any] = {"per_channel": False}
_QUANTIZER_ARGUMENTS = ("kernel_quantizer", "bias_quantizer", "output_quantizer", "buffer_bitwidth")


def _from_quant_config(config: dict) -> dict:
    buffer = config.pop("buffer_bitwidth", 32)
    a: dict[str, Any] = config.pop("a_quantizer", {})
    b = config.pop("b_quantizer", {})
    output = config.pop("output_quantizer", None)
    for name, value in (("a_quantizer", a), ("b_quantizer", b)):
        if value is None:
            raise ValueError(
                f"quant_config: {name} is None; allowed: a quantizer, or the dictionary of its arguments ({{}} for "
                "the defaults)"
            )
    if config:
        raise ValueError(
            f"quant_config has the unknown keys {sorted(config)}; "
            "allowed: 'a_quantizer', 'b_quantizer', 'buffer_bitwidth', 'output_quantizer'"
        )
    return {
        "kernel_quantizer": WeightQuantizer(**_A_DEFAULTS | a) if isinstance(a, dict) else a,
        "bias_quantizer": AlignedWeightQuantizer(**{"buffer_bitwidth": buffer} | b) if isinstance(b, dict) else b,
        "output_quantizer": OutputQuantizer(**output) if isinstance(output, dict) else output,
        "buffer_bitwidth": buffer,
    }


def _drop_old_arguments(arguments: dict) -> None:
    """Leaves out arguments of older Keras versions; what they would change is said."""
    if arguments.pop("synchronized", False):
        raise ValueError("synchronized=True: statistics that replicas share are not supported; allowed: False")
    arguments.pop("fused", None)
    for name in ("renorm", "virtual_batch_size", "renorm_clipping", "renorm_momentum"):
        value = arguments.pop(name, None)
        if value:
            logger.warning("QuantizedBatchNormalization leaves out %s=%r: Keras 3 does not have it", name, value)


def _any_shape(rank: int, channels: int) -> tuple[int | None, ...]:
    return (*(None,) * (rank - 1), channels)


def _copy_variables(source, target) -> None:
    for name in _VARIABLES:
        value = getattr(source, name)
        if value is not None:
            getattr(target, name).assign(value)
