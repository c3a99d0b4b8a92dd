"""What quantized linear layers share: weights and bias on their grids, one requantization at the end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
from keras import ops

from qpipe.layers.activations import activation_name, fused_bounds
from qpipe.quantizers import AlignedWeightQuantizer
from qpipe.quantizers.backend import read_now
from qpipe.quantizers.observation import Arithmetic, current_observation
from qpipe.quantizers.serialization import restore, serialize
from qpipe.quantizers.weight import NEGLIGIBLE_BIAS

_Layer: Any = keras.layers.Layer if TYPE_CHECKING else object


EXACT_IN_FLOAT32 = 2.0**24


class IntegerWeights(NamedTuple):
    """Integers of a linear layer: kernel, bias (or None) and the kernel's scale."""

    kernel: Any
    bias: Any
    scale: Any


def runs_on_integers(training) -> bool:
    """Whether a model computes with integers: at inference, unless real values are being observed."""
    observation = current_observation()
    return not training and (observation is None or observation.arithmetic is Arithmetic.integer)


class QuantizedLinear(_Layer):
    """Mix-in for layers of the form activation(op(x, kernel) + bias).

    In training the layer works on real values that lie on the quantizers' grids. At inference, once it is
    connected (`input_quantizer` is the quantizer of the tensor that it receives), it works on integers, held
    exactly in float32: acc = op(q_x - z_x, q_w) + q_b, saturated to `buffer_bitwidth`; then one
    multiplication by float32(s_x * s_w) / s_y, one rounding, one clamp. Without an output quantizer the accumulator
    becomes real values, which may only be an output of the model.

    With a mixed precision policy the operation on real values computes in 16 bits, and its output is of that type
    where there is no output quantizer. Weights, scales, statistics, quantized tensors and all integers are float32.

    Args:
        kernel_quantizer: `WeightQuantizer` or None.
        bias_quantizer: `AlignedWeightQuantizer`; None derives one of `buffer_bitwidth` once connected.
        output_quantizer: `OutputQuantizer` or None.
        input_quantizer: the `OutputQuantizer` of the incoming tensor (the same object), or None.
        buffer_bitwidth: width of the accumulator.
        *args: of the Keras layer.
        **kwargs: of the Keras layer.
    """

    def __init__(
        self,
        *args,
        kernel_quantizer=None,
        bias_quantizer=None,
        output_quantizer=None,
        input_quantizer=None,
        buffer_bitwidth: int = 32,
        **kwargs,
    ):
        super().__init__(*args, autocast=False, **kwargs)
        self.buffer_bitwidth = buffer_bitwidth
        self.kernel_quantizer = restore(kernel_quantizer)
        self.output_quantizer = restore(output_quantizer)
        self.input_quantizer = restore(input_quantizer)
        if self.input_quantizer is not None and self.kernel_quantizer is None:
            raise ValueError(f"{self.name}: input_quantizer is given, but no kernel_quantizer; both are needed")
        bias_quantizer = restore(bias_quantizer)
        if bias_quantizer is None and self.input_quantizer is not None:
            bias_quantizer = AlignedWeightQuantizer(buffer_bitwidth=buffer_bitwidth)
        self.bias_quantizer = bias_quantizer
        self.bounds = fused_bounds(getattr(self, "activation", None))
        if self.bounds is None and self.output_quantizer is not None:
            raise ValueError(
                f"{self.name}: activation {activation_name(self.activation)!r} can't be fused with an output "
                "quantizer; allowed: 'linear', 'relu', 'relu6', a CappedReLU (make the activation a layer of its own)"
            )

    def build(self, input_shape):
        """Creates the layer's weights and those of its kernel quantizer."""
        super().build(input_shape)
        self._require_channel_axes()
        if self.kernel_quantizer is not None and not self.kernel_quantizer.built:
            self.kernel_quantizer.build(tuple(self.kernel.shape))
        self.reserve_room_for_products()

    def reserve_room_for_products(self) -> None:
        """Lets the bias leave room for the largest sum of products, where the buffer is wide enough for both."""
        if self._connected and self._has_room_for_bias:
            self.bias_quantizer.reserved = self._largest_sum()

    def add_weight(self, *args, **kwargs):
        """Adds a variable that keeps its precision when it is read, whatever the layer computes in."""
        return super().add_weight(*args, **kwargs | {"autocast": False})

    def linear_op(self, x, kernel):
        """Returns op(x, kernel), without bias."""
        raise NotImplementedError

    def folded_weights(self):
        """Returns the float kernel and bias that the layer applies at inference; the bias may be None."""
        return self.kernel, self.bias

    def call(self, x, training=None):
        return self.finish(self.accumulate(x, self.folded_weights(), training), training)

    def accumulate(self, x, weights, training, correction=None):
        """Returns op(x, kernel) + bias: integers in inference on integers, else real values.

        Args:
            x: input tensor, integers relative to their zero point or real values.
            weights: float kernel, and float bias of shape (channels,) or None.
            training: as in `call`.
            correction: factor per channel between product and bias, real values only.
        """
        if self._connected and runs_on_integers(training):
            return self._accumulate_integers(x, self.integer_weights(*weights))
        kernel, bias = self._weights_on_grid(weights[0], weights[1], training)
        y = self.real_op(x, kernel)
        if correction is not None:
            y = y * ops.cast(correction, y.dtype)
        return y if bias is None else y + ops.cast(bias, y.dtype)

    def real_op(self, x, kernel):
        """Returns op(x, kernel) of real values, in the precision in which the layer computes."""
        return self.linear_op(ops.cast(x, self.compute_dtype), ops.cast(kernel, self.compute_dtype))

    def finish(self, y, training):
        """Applies activation and output quantizer to what `accumulate` returned."""
        if self._connected and runs_on_integers(training):
            scale = self.accumulator_scale()
            if self.output_quantizer is None:
                return self.activation(y * scale)
            return self.output_quantizer.requantize(y, scale / self.output_quantizer.scale, self.bounds)
        if self.output_quantizer is not None:
            return self.output_quantizer.real(y, self.bounds, training)
        return self.activation(y)

    def weight_scale(self, kernel, bias, training=False):
        """Returns the kernel's scale, raised where a bias would not fit into the buffer otherwise."""
        return self.kernel_quantizer.scale_of(kernel, self._demands_of(bias, training))

    def accumulator_scale(self, kernel=None, bias=None):
        """Returns s_x * s_w as a vector, one entry per channel or one in all."""
        if kernel is None:
            kernel, bias = self.folded_weights()
        return ops.reshape(self.weight_scale(kernel, bias), (-1,)) * self.input_quantizer.scale

    def integer_weights(self, kernel=None, bias=None) -> IntegerWeights:
        """Returns kernel and bias as integers (float32 tensors), with the kernel's scale."""
        if kernel is None:
            kernel, bias = self.folded_weights()
        scale = self.weight_scale(kernel, bias)
        integers = self.kernel_quantizer.integer(kernel, scale)
        if bias is not None:
            bias = self.bias_quantizer.integer(bias, ops.reshape(scale, (-1,)) * self.input_quantizer.scale)
        return IntegerWeights(integers, bias, scale)

    @property
    def products_per_output(self) -> int:
        """How many products one accumulator sums up."""
        channels = math.prod(self.kernel.shape[axis] for axis in self.channel_axes)
        return math.prod(self.kernel.shape) // channels

    channel_axes: tuple[int, ...] = (-1,)

    def set_bias_quantizer(self, quantizer: AlignedWeightQuantizer) -> None:
        """Makes `quantizer` the layer's bias quantizer, also of a layer that is built."""
        self._tracker.unlock()
        self.bias_quantizer = quantizer
        self._tracker.lock()

    def fix_scales(self) -> None:
        """Stores the kernel's scale; it does not follow the weights any more."""
        kernel, bias = self.folded_weights()
        self.kernel_quantizer.fix(kernel, self._demands_of(bias if self._input_is_calibrated() else None))

    def smallest_weight_scale(self):
        """Returns for each channel the kernel's scale below which its bias would not fit; None without a bias."""
        demands = self._demands_of(self.folded_weights()[1])
        return None if demands is None else demands.steps / demands.largest

    def raised_channels(self):
        """Returns for each output channel whether the kernel's scale was raised for its bias: bool (channels,)."""
        kernel, bias = self.folded_weights()
        demands = self._demands_of(bias)
        if demands is None:
            return np.zeros(math.prod(self.kernel_quantizer.scale.shape), bool)
        return self.kernel_quantizer.raised_channels(kernel, demands)

    def require_bias_fits(self) -> None:
        """Raises a QuantizationError if the bias does not fit into the accumulator; the input must be calibrated."""
        bias = self.folded_weights()[1]
        if bias is not None and self.input_quantizer is not None and self.kernel_quantizer is not None:
            self.bias_quantizer.require_fit(bias, self.accumulator_scale(), self.name)

    def save_own_variables(self, store):
        """Saves every variable of the layer; Keras' convolutions would save kernel and bias alone."""
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        """Loads what `save_own_variables` saved."""
        keras.layers.Layer.load_own_variables(self, store)

    def get_config(self):
        return super().get_config() | {
            "kernel_quantizer": serialize(self.kernel_quantizer),
            "bias_quantizer": serialize(self.bias_quantizer),
            "output_quantizer": serialize(self.output_quantizer),
            "input_quantizer": serialize(self.input_quantizer),
            "buffer_bitwidth": self.buffer_bitwidth,
        }

    @property
    def _connected(self) -> bool:
        return None not in (self.input_quantizer, self.kernel_quantizer)

    def _require_channel_axes(self) -> None:
        quantizer, rank = self.kernel_quantizer, len(self.kernel.shape)
        if quantizer is None or not quantizer.per_channel:
            return
        if {axis % rank for axis in quantizer.channel_axes} != {axis % rank for axis in self.channel_axes}:
            raise ValueError(
                f"{self.name}: kernel_quantizer has channel_axes={quantizer.channel_axes}; the output channels of its "
                f"kernel {tuple(self.kernel.shape)} are the axes {self.channel_axes}"
            )

    def _demands_of(self, bias, training=False):
        """Returns what a bias asks of the kernel's scale, as far as the input's scale is known."""
        if bias is None or self.input_quantizer is None:
            return None
        if training and self.bias_quantizer.fits_any_bias:
            return NEGLIGIBLE_BIAS
        return self.bias_quantizer.demands(bias, ops.convert_to_tensor(self.input_quantizer.scale))

    def _input_is_calibrated(self) -> bool:
        return self.input_quantizer is not None and bool(read_now(self.input_quantizer.calibrated))

    def _weights_on_grid(self, kernel, bias, training):
        """Returns the real kernel and bias that the quantizers allow."""
        observation = current_observation()
        arithmetic = None if observation is None else observation.arithmetic
        if arithmetic is Arithmetic.float or self.kernel_quantizer is None:
            return kernel, bias
        scale = self.weight_scale(kernel, bias, training)
        input_scale_is_known = self.input_quantizer is not None and arithmetic is not Arithmetic.weights
        if bias is not None and input_scale_is_known:
            bias = self.bias_quantizer.call(bias, ops.reshape(scale, (-1,)) * self.input_quantizer.scale)
        return self.kernel_quantizer.fake(kernel, scale, training), bias

    def _accumulate_integers(self, x, weights: IntegerWeights):
        """Returns the saturated accumulator as float32, rounded once where it has more than 24 bits.

        Sums of products below 2^24 are exact in float32. Where they could be larger for some weights, these very
        weights decide; larger sums are computed in float64, exactly below 2^53.
        """

        def accumulate(dtype):
            y = self.linear_op(ops.cast(x, dtype), ops.cast(weights.kernel, dtype))
            y = y if weights.bias is None else y + ops.cast(weights.bias, dtype)
            return ops.cast(self._saturate(y), "float32")

        if self._largest_sum() < EXACT_IN_FLOAT32:
            return accumulate("float32")
        rank = len(weights.kernel.shape)
        axes = [axis for axis in range(rank) if axis - rank not in self.channel_axes]
        worst = ops.max(ops.sum(ops.abs(weights.kernel), axis=axes)) * float(self.input_quantizer.largest_magnitude)
        return ops.cond(worst < EXACT_IN_FLOAT32, lambda: accumulate("float32"), lambda: accumulate("float64"))

    def _largest_sum(self) -> int:
        """Largest magnitude of a sum of products, whatever the weights."""
        largest = self.input_quantizer.largest_magnitude * self.kernel_quantizer.integers.highest
        return self.products_per_output * largest

    @property
    def _has_room_for_bias(self) -> bool:
        """Whether the largest sum of products takes at most half of the buffer."""
        return 2 * self._largest_sum() <= 2 ** (self.buffer_bitwidth - 1)

    def _saturate(self, accumulator):
        """Saturates to the buffer, where products and bias can leave it."""
        if self._has_room_for_bias:
            return accumulator
        limit = 2 ** (self.buffer_bitwidth - 1)
        return ops.clip(accumulator, -float(limit), float(limit - 1))
