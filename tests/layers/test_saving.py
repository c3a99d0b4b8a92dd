"""Quantized models in .keras files: the same outputs, and shared quantizers that are one object again."""

import keras
import numpy as np
import pytest

from qpipe.layers import (
    Dequantize,
    QAdd,
    QAveragePooling2D,
    QConv2D,
    QConv2DBatchnorm,
    QDense,
    QDepthwiseConv2D,
    QGlobalAveragePooling2D,
    Quantize,
    QuantizedBatchNormalization,
)
from qpipe.quantizers import AlignedWeightQuantizer, OutputQuantizer, WeightQuantizer


def output(name, **arguments):
    return OutputQuantizer(name=name, **arguments)


@pytest.fixture(scope="module")
def model():
    """A model with every kind of quantized layer, whose ranges two training steps have set."""
    q = {name: output(name) for name in ("input", "conv", "depthwise", "batchnorm", "sum", "mean", "dense")}
    weight = {"bitwidth": 5}
    inputs = keras.Input((8, 8, 3))
    x = Quantize(q["input"], name="quantize")(inputs)
    branch = x = QConv2DBatchnorm(
        4, 3, padding="same", activation="relu", name="conv_layer",
        kernel_quantizer=WeightQuantizer(**weight), bias_quantizer=AlignedWeightQuantizer(12),
        input_quantizer=q["input"], output_quantizer=q["conv"],
    )(x)  # fmt: skip
    x = QDepthwiseConv2D(
        3, padding="same", name="depthwise_layer",
        kernel_quantizer=WeightQuantizer(**weight, channel_axes=(-2, -1), range="mse"),
        input_quantizer=q["conv"], output_quantizer=q["depthwise"],
    )(x)  # fmt: skip
    x = QuantizedBatchNormalization(
        {"output_quantizer": q["batchnorm"]}, input_quantizer=q["depthwise"], name="batchnorm_layer"
    )(x)
    x = QAdd([q["conv"], q["batchnorm"]], q["sum"], activation="relu6", name="add")([branch, x])
    x = QAveragePooling2D(2, input_quantizer=q["sum"], name="pool")(x)
    x = QConv2D(
        4, 1, name="conv_again", kernel_quantizer=WeightQuantizer(scale="power_of_two"),
        input_quantizer=q["sum"], output_quantizer=output("again", symmetric=True, scale="power_of_two"),
    )(x)  # fmt: skip
    again = x._keras_history.operation.output_quantizer
    x = QGlobalAveragePooling2D(input_quantizer=again, output_quantizer=q["mean"], name="global")(x)
    x = QDense(
        3,
        name="dense_layer",
        kernel_quantizer=WeightQuantizer(),
        input_quantizer=q["mean"],
        output_quantizer=q["dense"],
    )(x)
    model = keras.Model(inputs, Dequantize(q["dense"], name="dequantize")(x))
    for step in range(2):
        model(np.random.default_rng(step).normal(size=(16, 8, 8, 3)).astype("float32"), training=True)
    model.get_layer("dense_layer").fix_scales()
    return model


@pytest.fixture(scope="module")
def loaded(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return keras.saving.load_model(path)


@pytest.mark.parametrize("training", [False, True])
def test_outputs_are_identical(model, loaded, training, rng, tmp_path):
    x = rng.normal(size=(5, 8, 8, 3)).astype("float32")
    if training:
        model.save(tmp_path / "copy.keras")
        model = keras.saving.load_model(tmp_path / "copy.keras")
        loaded = keras.saving.load_model(tmp_path / "copy.keras")
    ours, theirs = np.array(loaded(x, training=training)), np.array(model(x, training=training))
    np.testing.assert_array_equal(ours, theirs)
    assert len(np.unique(theirs)) > 5


def test_every_weight_is_identical(model, loaded):
    assert [weight.name for weight in model.weights] == [weight.name for weight in loaded.weights]
    for old, new in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("producer", "consumer"),
    [
        ("quantize", "conv_layer"),
        ("conv_layer", "depthwise_layer"),
        ("depthwise_layer", "batchnorm_layer"),
        ("add", "pool"),
        ("add", "conv_again"),
        ("conv_again", "global"),
        ("global", "dense_layer"),
        ("dense_layer", "dequantize"),
    ],
)
def test_shared_quantizers_are_one_object_again(loaded, producer, consumer):
    made = loaded.get_layer(producer)
    made = made.quantizer if isinstance(made, Quantize) else made.output_quantizer
    read = loaded.get_layer(consumer)
    read = read.quantizer if isinstance(read, Dequantize) else read.input_quantizer
    assert made is read


def test_the_inputs_of_add_are_shared_too(loaded):
    first, second = loaded.get_layer("add").input_quantizers
    assert first is loaded.get_layer("conv_layer").output_quantizer
    assert second is loaded.get_layer("batchnorm_layer").output_quantizer


def test_configs_survive(model, loaded):
    for layer in model.layers:
        ours, theirs = loaded.get_layer(layer.name).get_config(), layer.get_config()
        assert without_object_ids(ours) == without_object_ids(theirs)


def without_object_ids(config):
    if isinstance(config, dict):
        return {key: without_object_ids(value) for key, value in config.items() if key != "shared_object_id"}
    return [without_object_ids(entry) for entry in config] if isinstance(config, list | tuple) else config


def test_fixed_scales_stay_fixed(loaded):
    quantizer = loaded.get_layer("dense_layer").kernel_quantizer
    assert quantizer.fixed
    before = np.array(quantizer.scale)
    loaded.get_layer("dense_layer").kernel.assign(loaded.get_layer("dense_layer").kernel * 1.0)
    np.testing.assert_array_equal(quantizer.scale_of(loaded.get_layer("dense_layer").kernel * 7), before)
