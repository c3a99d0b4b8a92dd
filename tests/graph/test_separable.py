import keras
import numpy as np
import pytest
from keras import layers

import qpipe
from qpipe.algorithms import calibrate
from qpipe.config.schema import FoldingConfig, LayerRule, QuantizerConfig, WeightQuantizerRule
from qpipe.graph import fold_batchnorm, quantize
from qpipe.graph.separable import halves
from qpipe.graph.trace import trace
from qpipe.layers import QConv1D, QConv2DBatchnorm, QDepthwiseConv1D, QDepthwiseConv2D

KINDS = [(layers.SeparableConv1D, (16, 3)), (layers.SeparableConv2D, (10, 9, 3))]
ARGUMENTS = [
    {},
    {"strides": 2, "padding": "same"},
    {"dilation_rate": 2},
    {"depth_multiplier": 2, "use_bias": False},
    {"activation": "tanh", "depth_multiplier": 3, "padding": "same"},
]


def model_of(*parts, shape):
    return keras.Sequential([keras.Input(shape, name="input"), *parts])


def built(layer, shape, randomize):
    randomize(model_of(layer, shape=shape))
    return layer


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
@pytest.mark.parametrize(("kind", "shape"), KINDS)
def test_the_halves_compute_the_same(kind, shape, arguments, randomize, rng):
    layer = built(kind(5, 3, name="separable", **arguments), shape, randomize)
    x = rng.normal(size=(4, *shape)).astype("float32")
    depthwise, pointwise = halves(layer, (None, *shape))
    expected = np.array(layer(x))
    np.testing.assert_allclose(pointwise(depthwise(x)), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert (depthwise.name, pointwise.name) == ("separable_depthwise", "separable")
    assert depthwise.bias is None


@pytest.mark.parametrize(("kind", "shape"), KINDS)
def test_what_belongs_to_the_weights_is_carried_over(kind, shape, randomize):
    layer = kind(
        5,
        3,
        depthwise_initializer="ones",
        pointwise_initializer="zeros",
        bias_initializer="ones",
        depthwise_regularizer=keras.regularizers.L2(0.1),
        pointwise_regularizer=keras.regularizers.L1(0.2),
        bias_regularizer=keras.regularizers.L2(0.3),
        activity_regularizer=keras.regularizers.L2(0.4),
        depthwise_constraint="non_neg",
        pointwise_constraint="max_norm",
        bias_constraint="unit_norm",
    )
    depthwise, pointwise = halves(built(layer, shape, randomize), (None, *shape))
    pairs = {
        "depthwise_initializer": (depthwise, "depthwise_initializer"),
        "depthwise_regularizer": (depthwise, "depthwise_regularizer"),
        "depthwise_constraint": (depthwise, "depthwise_constraint"),
        "pointwise_initializer": (pointwise, "kernel_initializer"),
        "pointwise_regularizer": (pointwise, "kernel_regularizer"),
        "pointwise_constraint": (pointwise, "kernel_constraint"),
        "bias_initializer": (pointwise, "bias_initializer"),
        "bias_regularizer": (pointwise, "bias_regularizer"),
        "bias_constraint": (pointwise, "bias_constraint"),
        "activity_regularizer": (pointwise, "activity_regularizer"),
    }
    original = layer.get_config()
    for key, (half, name) in pairs.items():
        assert half.get_config()[name] == original[key], key
    assert depthwise.get_config()["activity_regularizer"] is None


@pytest.mark.parametrize("frozen", [("depthwise_kernel",), ("pointwise_kernel", "bias"), "layer"])
def test_what_is_frozen_stays_frozen(frozen, randomize):
    layer = built(layers.SeparableConv2D(5, 3), KINDS[1][1], randomize)
    if frozen == "layer":
        layer.trainable = False
    else:
        for name in frozen:
            getattr(layer, name).trainable = False
    depthwise, pointwise = halves(layer, (None, *KINDS[1][1]))
    assert [variable.trainable for variable in (depthwise.kernel, pointwise.kernel, pointwise.bias)] == [
        layer.depthwise_kernel.trainable,
        layer.pointwise_kernel.trainable,
        layer.bias.trainable,
    ]
    assert depthwise.trainable is pointwise.trainable is (frozen != "layer")


def test_a_batch_normalization_folds_into_the_pointwise_half(randomize, assert_same_output):
    model = model_of(
        layers.SeparableConv2D(5, 3, name="separable", use_bias=False),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"),
        shape=(8, 8, 3),
    )
    randomize(model)
    folded = fold_batchnorm(model, FoldingConfig(layers=["separable"]))
    assert [layer.name for layer in folded.layers] == ["input", "separable_depthwise", "separable"]
    assert type(folded.get_layer("separable")) is QConv2DBatchnorm
    assert_same_output(folded, model)


def test_a_shared_layer_stays_shared(randomize, assert_same_output):
    shared = layers.SeparableConv2D(3, 3, padding="same", name="separable")
    x = inputs = keras.Input((8, 8, 3))
    model = randomize(keras.Model(inputs, layers.Add()([shared(x), shared(shared(x))])))
    graph = trace(model)
    operations = [node.operation for node in graph.nodes]
    assert [graph.calls(operation) for operation in operations] == [3] * 6 + [1]
    assert {node.name for node in graph.nodes if "separable" in node.name} == {"separable", "separable_depthwise"}
    folded = fold_batchnorm(model)
    assert_same_output(folded, model)
    assert len(folded.weights) == 3


def test_names_stay_unique_where_another_layer_has_the_name_of_a_half(randomize, assert_same_output):
    model = model_of(
        layers.SeparableConv2D(3, 3, name="separable"),
        layers.Conv2D(3, 3, name="separable_depthwise"),
        shape=(8, 8, 3),
    )
    model.name = "net"
    randomize(model)
    folded = fold_batchnorm(model)
    names = [layer.name for layer in folded.layers[1:]]
    assert len(set(names)) == 3
    assert "separable" in names
    assert_same_output(folded, model)


@pytest.mark.parametrize(
    ("kind", "shape", "classes"),
    [(*KINDS[0], (QDepthwiseConv1D, QConv1D)), (*KINDS[1], (QDepthwiseConv2D, QConv2DBatchnorm))],
)
def test_both_halves_are_quantized_with_an_output_quantizer_between(kind, shape, classes, randomize, rng):
    model = model_of(
        kind(5, 3, name="separable", padding="same", activation=None if kind is layers.SeparableConv2D else "relu"),
        layers.BatchNormalization(name="norm"),
        shape=shape,
    )
    rule = LayerRule(match="separable", weight=WeightQuantizerRule(bitwidth=4))
    quantized = quantize(fold_batchnorm(randomize(model)), QuantizerConfig(layers=[rule]))
    depthwise, pointwise = quantized.get_layer("separable_depthwise"), quantized.get_layer("separable")
    assert (type(depthwise), type(pointwise)) == classes
    assert pointwise.input_quantizer is depthwise.output_quantizer
    assert (depthwise.kernel_quantizer.bitwidth, pointwise.kernel_quantizer.bitwidth) == (8, 4)
    x = rng.normal(size=(16, *shape)).astype("float32")
    calibrate(quantized, x)
    np.testing.assert_array_equal(qpipe.integer_predict(quantized, x), quantized.predict(x, verbose=0))
