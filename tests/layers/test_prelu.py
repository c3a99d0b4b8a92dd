import keras
import numpy as np
import pytest
from keras import layers

import qpipe
from qpipe.config.schema import LayerRule, OutputQuantizerConfig, QuantizerConfig, WeightQuantizerRule
from qpipe.graph.quantization import quantize_with_plan
from qpipe.layers import QPReLU
from qpipe.quantizers import OutputQuantizer, WeightQuantizer
from qpipe.reports.costs import layer_cost

SHARED = {"shared_axes": [1, 2]}


def model_of(**settings):
    x = keras.Input((4, 4, 3))
    model = keras.Model(x, layers.PReLU(name="p", **settings)(layers.Conv2D(5, 1, name="c")(x)))
    slopes = model.get_layer("p").alpha
    slopes.assign(np.random.default_rng(1).uniform(-0.3, 0.8, slopes.shape))
    return model


def samples():
    return np.random.default_rng(2).normal(size=(32, 4, 4, 3)).astype("float32")


def quantized(model, **settings):
    return qpipe.calibrate(qpipe.quantize(model, QuantizerConfig(**settings)), samples())


@pytest.mark.parametrize("settings", [{}, SHARED], ids=["each value", "each channel"])
def test_integers_are_those_of_the_rule_in_float64(settings):
    model = quantized(model_of(**settings))
    layer = model.get_layer("p")
    source, target = layer.input_quantizer.format(), layer.output_quantizer.format()
    slopes, _ = layer.integer_slopes()
    step = np.abs(np.asarray(layer.alpha)).max() / 127
    np.testing.assert_array_equal(slopes, np.rint(np.asarray(layer.alpha) / np.float32(step)))
    integers = np.arange(*source.integers)[:, None, None, None] - source.zero_point + np.zeros((4, 4, 5))
    factors = np.where(integers >= 0, 1.0, np.asarray(slopes, np.float64) * float(np.float32(step)))
    exact = integers * factors * float(source.scale) / float(target.scale)
    lowest, highest = (end - target.zero_point for end in target.integers)
    away_from_ties = np.abs(exact - np.floor(exact) - 0.5) > 1e-4
    ours = np.asarray(layer(integers.astype("float32"), training=False))
    np.testing.assert_array_equal(ours[away_from_ties], np.clip(np.rint(exact), lowest, highest)[away_from_ties])


def test_gradients_reach_the_slopes_through_the_grid():
    quantizer = OutputQuantizer(name="x")
    quantizer.set_range(-2.0, 2.0)
    output = OutputQuantizer(name="y")
    output.set_range(-2.0, 2.0)
    layer = QPReLU(WeightQuantizer(per_channel=False), quantizer, output)
    layer.build((None, 2))
    layer.alpha.assign([0.5, -0.25])
    x = keras.ops.convert_to_tensor([[-1.0, 1.0], [-0.5, -1.5]])
    import tensorflow as tf

    with tf.GradientTape() as tape:
        y = tf.reduce_sum(layer(x, training=True))
    np.testing.assert_array_equal(tape.gradient(y, layer.alpha.value), [-1.5, -1.5])


def test_a_rule_sets_the_width_of_the_slopes():
    rule = LayerRule(match="p", a_quantizer=WeightQuantizerRule(bitwidth=4))
    result = quantize_with_plan(model_of(**SHARED), QuantizerConfig(layers=[rule]))
    plan = next(plan for plan in result.plans if plan.name == "p")
    assert (plan.weight_bits, plan.weight_scale, plan.rules) == (4, "float", ["p"])
    assert layer_cost(result.model.get_layer("p")).packed_bytes == 3  # 5 slopes of 4 bits
    model = qpipe.calibrate(result.model, samples())
    assert np.abs(model.get_layer("p").integer_slopes()[0]).max() == 7


def test_sixteen_bits_agree_with_the_engine():
    wide = OutputQuantizerConfig(bitwidth=16, symmetric=True)
    model = quantized(model_of(), input=wide, output=wide)
    x = samples()
    np.testing.assert_array_equal(model.predict(x, verbose=0), qpipe.integer_predict(model, x))
