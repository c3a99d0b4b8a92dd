"""Constructors and methods that QKeras users find again."""

import logging

import keras
import numpy as np
import pytest
from folded_kinds import KINDS

import qpipe
from qpipe.config.schema import LayerRule, WeightQuantizerRule
from qpipe.errors import QuantizationError
from qpipe.graph import populate_bias_quantizer_from_accumulator
from qpipe.layers import QConv2DBatchnorm, QDenseBatchnorm, QDepthwiseConv2DBatchnorm, Quantize
from qpipe.lowering.verification import verify_engine
from qpipe.quantizers import AlignedWeightQuantizer, OutputQuantizer, WeightQuantizer
from qpipe.quantizers.qkeras_strings import _say_once

DEFAULTS = {
    "axis": -1,
    "momentum": 0.99,
    "epsilon": 1e-3,
    "center": True,
    "scale": True,
    "use_bias": True,
    "kernel_quantizer": None,
    "bias_quantizer": None,
    "ema_freeze_delay": None,
    "folding_mode": "ema_stats_folding",
}
INITIALIZERS = {"beta": "Zeros", "gamma": "Ones", "moving_mean": "Zeros", "moving_variance": "Ones", "bias": "Zeros"}


def make(kind, **arguments):
    return KINDS[kind].folded(*KINDS[kind].size, **arguments)


# Defaults and spellings ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_those_of_qkeras(kind):
    config = make(kind).get_config()
    assert {key: config[key] for key in DEFAULTS} == DEFAULTS
    kernel = "depthwise" if "depthwise" in kind else "kernel"
    for name, expected in (INITIALIZERS | {kernel: "HeNormal"}).items():
        assert config[f"{name}_initializer"]["class_name"] == expected
    for name in ("beta", "gamma", kernel, "bias"):
        assert (config[f"{name}_regularizer"], config[f"{name}_constraint"]) == (None, None)


def test_positional_arguments_are_those_of_keras():
    layer = QDenseBatchnorm(5, "relu", False, "ones", "zeros")
    assert (layer.units, layer.activation.__name__, layer.use_bias) == (5, "relu", False)
    assert isinstance(layer.kernel_initializer, keras.initializers.Ones)
    with pytest.raises(TypeError, match="'units' is given twice"):
        QDenseBatchnorm(5, units=5)
    with pytest.raises(TypeError, match="received 40"):
        QDenseBatchnorm(*range(40))


@pytest.mark.parametrize("axis", [-1, 3, [3], (3,), [-1]])
def test_every_spelling_of_the_last_axis_gives_one_statistic_per_channel(axis, rng):
    layer = QConv2DBatchnorm(4, 3, axis=axis)
    layer(rng.normal(size=(8, 6, 6, 3)).astype("float32"), training=True)
    assert layer.moving_mean.shape == (4,)
    assert len(np.unique(layer.moving_mean)) == 4
    assert layer.get_config()["axis"] == -1


@pytest.mark.parametrize("axis", [1, 2, -2, [1, 3], (0,)])
def test_another_axis_is_an_error(axis):
    layer = QConv2DBatchnorm(4, 3, axis=axis, name="conv")
    with pytest.raises(ValueError, match=r"conv: axis=.* of the shape \(None, 6, 6, 3\) is not the last axis"):
        layer.build((None, 6, 6, 3))


def test_channels_first_is_an_error():
    with pytest.raises(ValueError, match="data_format='channels_first' is not allowed"):
        QConv2DBatchnorm(4, 3, data_format="channels_first").build((None, 3, 6, 6))


# What is left out or refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "names"),
    [(QDenseBatchnorm, ("kernel_range", "bias_range")), (QDepthwiseConv2DBatchnorm, ("depthwise_range", "bias_range"))],
)
def test_ranges_are_accepted_with_a_warning(layer, names, caplog):
    with caplog.at_level(logging.WARNING, "qpipe"):
        layer(3, name="layer", **dict.fromkeys(names))
        assert caplog.messages == []
        layer(3, name="layer", **dict.fromkeys(names, 1.0))
    assert [f"{layer.__name__} 'layer' leaves out {name}=1.0" in caplog.text for name in names] == [True, True]


def test_arguments_of_qkeras_without_effect_are_accepted(caplog):
    arguments = {"renorm": False, "renorm_clipping": None, "renorm_momentum": 0.99, "fused": None}
    arguments |= {"virtual_batch_size": None, "adjustment": None, "trainable": False}
    with caplog.at_level(logging.WARNING, "qpipe"):
        layer = QDenseBatchnorm(3, **arguments)
    assert layer.trainable is False
    assert caplog.messages == []


@pytest.mark.parametrize(
    "argument", [{"renorm": True}, {"synchronized": True}, {"virtual_batch_size": 8}, {"adjustment": min}]
)
def test_what_would_change_the_result_is_refused(argument):
    (name,) = argument
    with pytest.raises(ValueError, match=f"QDenseBatchnorm 'dense': {name}=.* is not allowed: "):
        QDenseBatchnorm(3, name="dense", **argument)


def test_an_unknown_argument_is_an_error():
    with pytest.raises(ValueError, match="kernel_quantiser"):
        QDenseBatchnorm(3, kernel_quantiser="quantized_bits(4)")


@pytest.mark.parametrize("activation", ["quantized_relu(6, 2)", "quantized_relu"])
def test_an_activation_of_qkeras_is_refused_with_its_equivalent(activation):
    for make_layer in (lambda: QDenseBatchnorm(3, activation), lambda: QDenseBatchnorm(3, activation=activation)):
        with pytest.raises(ValueError, match=r"activation: .*nearest: activation='relu', output_quantizer="):
            make_layer()


# Quantizers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_texts_objects_and_configs_give_the_same_quantizers(kind):
    axes = KINDS[kind].folded.channel_axes
    of_qkeras = {"class_name": "quantized_bits", "config": {"bits": 4, "integer": 0, "symmetric": 1, "alpha": "auto"}}
    object_ = WeightQuantizer(bitwidth=4, channel_axes=axes)
    spellings = [
        "quantized_bits(4, 0, 1, alpha='auto')",
        of_qkeras,
        object_,
        keras.saving.serialize_keras_object(object_),
    ]
    for spelling in spellings:
        layer = make(kind, kernel_quantizer=spelling, bias_quantizer="quantized_bits(12, 3, 1)")
        layer.build(KINDS[kind].shape)
        kernel, bias = layer.get_quantizers()
        assert (kernel.bitwidth, kernel.scale_kind, kernel.channel_axes) == (4, "float", axes)
        assert (bias.bitwidth, bias.buffer_bitwidth) == (12, 32)


def test_depthwise_quantizer_is_the_kernel_quantizer_of_depthwise_layers():
    layer = QDepthwiseConv2DBatchnorm(3, depthwise_quantizer="binary(alpha='auto')")
    assert layer.kernel_quantizer.kind == "binary"
    with pytest.raises(TypeError, match="two names of one argument"):
        QDepthwiseConv2DBatchnorm(3, depthwise_quantizer="binary()", kernel_quantizer="binary()")


@pytest.mark.parametrize("kind", ["depthwise", "conv_transpose"])
def test_a_quantizer_for_other_axes_is_an_error(kind):
    layer = make(kind, kernel_quantizer=WeightQuantizer(bitwidth=4), name="layer")
    with pytest.raises(ValueError, match=r"layer: kernel_quantizer has channel_axes=\(-1,\); the output channels"):
        layer.build(KINDS[kind].shape)
    make(kind, kernel_quantizer=WeightQuantizer(per_channel=False)).build(KINDS[kind].shape)


def test_what_is_not_understood_names_the_layer_and_the_argument():
    with pytest.raises(ValueError, match=r"QConv2DBatchnorm 'c': kernel_quantizer: .*nearest: WeightQuantizer\("):
        QConv2DBatchnorm(3, 3, kernel_quantizer="quantized_bits(4, 0, 1, alpha=1)", name="c")
    with pytest.raises(ValueError, match=r"QDenseBatchnorm: bias_quantizer: .*nearest: AlignedWeightQuantizer\("):
        QDenseBatchnorm(3, bias_quantizer="quantized_po2(4)")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_known_input_the_kernel_is_quantized_and_the_bias_is_not(kind, training, rng):
    layer = make(
        kind, kernel_quantizer="quantized_bits(3, alpha='auto')", bias_quantizer="quantized_bits(4)", center=True
    )
    layer.trainable = False
    layer.build(KINDS[kind].shape)
    layer.moving_mean.assign(rng.normal(size=layer.moving_mean.shape))
    layer.moving_variance.assign(rng.uniform(0.2, 3.0, size=layer.moving_mean.shape))
    x = rng.normal(size=KINDS[kind].shape).astype("float32")
    kernel, bias = (np.asarray(value) for value in layer.folded_weights())
    inner = tuple(axis for axis in range(kernel.ndim) if axis - kernel.ndim not in layer.channel_axes)
    scale = np.abs(kernel).max(inner, keepdims=True) / 3
    expected = layer.linear_op(x, (np.rint(kernel / scale) * scale).astype("float32")) + bias
    np.testing.assert_allclose(layer(x, training=training), expected, rtol=1e-4, atol=1e-5)


# Methods ---------------------------------------------------------------------------------------------


def test_get_quantization_config_is_text():
    layer = QConv2DBatchnorm(
        4, 3, activation="relu", kernel_quantizer="ternary(alpha='auto')", bias_quantizer="quantized_bits(9)"
    )
    assert layer.get_quantization_config() == {
        "kernel_quantizer": "WeightQuantizer(bitwidth=2, scale='float', kind='ternary')",
        "bias_quantizer": "AlignedWeightQuantizer(bitwidth=9)",
        "activation": "relu",
        "filters": "4",
    }
    depthwise = QDepthwiseConv2DBatchnorm(3, depthwise_quantizer="quantized_bits(5, alpha='auto')")
    assert depthwise.get_quantization_config() == {
        "depthwise_quantizer": "WeightQuantizer(bitwidth=5, scale='float', channel_axes=[-2, -1])",
        "bias_quantizer": "None",
        "activation": "linear",
        "depth_multiplier": "1",
    }


def test_get_folded_weights():
    layer = QDenseBatchnorm(3)
    layer.build((None, 5))
    layer.moving_mean.assign([1.0, 2.0, 3.0])
    layer.moving_variance.assign([4.0, 0.25, 1.0])
    scale = 1 / np.sqrt(np.array([4.0, 0.25, 1.0]) + 1e-3)
    kernel, bias = layer.get_folded_weights()
    np.testing.assert_allclose(kernel, layer.kernel * scale, rtol=1e-6)
    np.testing.assert_allclose(bias, -np.array([1.0, 2.0, 3.0]) * scale, rtol=1e-6)


def like_qkeras():
    """A model as code for QKeras writes it; only the import is another."""
    _say_once.cache_clear()
    x = x_in = keras.Input((12, 12, 1), name="input")
    x = QConv2DBatchnorm(
        8, (3, 3), strides=(2, 2), kernel_quantizer="quantized_bits(4, 0, 1)", bias_quantizer="quantized_bits(8, 2, 1)",
        kernel_initializer="he_normal", kernel_regularizer=keras.regularizers.L2(1e-4), use_bias=False,
        beta_initializer="zeros", gamma_initializer="ones", momentum=0.9, ema_freeze_delay=3,
        folding_mode="ema_stats_folding", name="conv",
    )(x)  # fmt: skip
    x = keras.layers.Activation("relu")(x)
    x = QDepthwiseConv2DBatchnorm(
        (3, 3), padding="SAME", depthwise_quantizer="quantized_bits(4, 0, 1, alpha='auto')", bias_quantizer=None,
        depthwise_range=None, bias_range=None, folding_mode="batch_stats_folding", name="depthwise",
    )(x)  # fmt: skip
    x = keras.layers.Activation("relu")(x)
    x = keras.layers.Flatten()(x)
    x = QDenseBatchnorm(3, kernel_quantizer="ternary(alpha='auto')", fused=None, renorm=False, name="dense")(x)
    return keras.Model(x_in, keras.layers.Activation("softmax")(x))


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(6)
    keras.utils.set_random_seed(3)
    model = like_qkeras()
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    x, y = rng.normal(size=(64, 12, 12, 1)).astype("float32"), rng.integers(0, 3, size=64)
    x += y[:, None, None, None]
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, batch_size=16, epochs=3, verbose=0)
    assert int(model.get_layer("conv").steps) == 3
    assert model.evaluate(x, y, verbose=0) < before
    return model, x


def test_a_model_written_for_qkeras_trains_saves_and_loads(trained, tmp_path):
    model, x = trained
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    for old, new in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert loaded.get_layer("dense").kernel_quantizer.kind == "ternary"


def test_quantizing_it_keeps_the_quantizers_that_its_code_gives(trained):
    model, x = trained
    quantized = qpipe.calibrate(qpipe.quantize(model), x)
    conv, depthwise, dense = (quantized.get_layer(name) for name in ("conv", "depthwise", "dense"))
    assert [layer.kernel_quantizer.bitwidth for layer in (conv, depthwise, dense)] == [4, 4, 2]
    assert (conv.bias_quantizer.mantissa_bitwidth, depthwise.bias_quantizer.mantissa_bitwidth) == (8, 32)
    assert verify_engine(quantized, [[x]]).first_difference is None


def test_a_rule_overrules_the_code(trained):
    model, _ = trained
    rule = LayerRule(match="conv", weight=WeightQuantizerRule(bitwidth=6))
    quantized = qpipe.quantize(model, qpipe.QuantizerConfig(layers=[rule]))
    assert [quantized.get_layer(name).kernel_quantizer.bitwidth for name in ("conv", "depthwise")] == [6, 4]


# The bias quantizer of the accumulator ---------------------------------------------------------------


def test_bias_quantizers_have_the_accumulators_width():
    model = like_qkeras()
    assert populate_bias_quantizer_from_accumulator(model, ["quantized_bits(8, 0, 1)"]) is model
    conv, depthwise, dense = (model.get_layer(name) for name in ("conv", "depthwise", "dense"))
    assert conv.bias_quantizer.bitwidth == 8
    assert (depthwise.bias_quantizer.bitwidth, dense.bias_quantizer.bitwidth) == (32, 32)

    layer = QConv2DBatchnorm(4, 3, kernel_quantizer="quantized_bits(4)", name="conv")
    bare = keras.Sequential([keras.Input((5, 5, 2)), keras.layers.ReLU(), layer])
    populate_bias_quantizer_from_accumulator(bare, ["quantized_relu(6)"])
    largest = 3 * 3 * 2 * 63 * 7
    assert bare.get_layer("conv").bias_quantizer.bitwidth == largest.bit_length() + 1 == 14


def test_bias_quantizers_follow_the_output_quantizers_before_them(tmp_path):
    x = x_in = keras.Input((6,))
    x = Quantize(OutputQuantizer(4, symmetric=True, name="in"), name="quantize")(x)
    x = keras.layers.Dropout(0.1)(x)
    x = QDenseBatchnorm(5, kernel_quantizer=WeightQuantizer(3), buffer_bitwidth=24, name="first")(x)
    model = keras.Model(
        x_in, QDenseBatchnorm(2, kernel_quantizer=WeightQuantizer(3), buffer_bitwidth=24, name="second")(x)
    )
    populate_bias_quantizer_from_accumulator(model)
    first, second = (model.get_layer(name).bias_quantizer for name in ("first", "second"))
    assert (first.bitwidth, first.buffer_bitwidth) == ((6 * 8 * 3).bit_length() + 1, 24)
    assert second.bitwidth == 24
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("first").bias_quantizer.bitwidth == first.bitwidth


def test_a_wrong_number_of_source_quantizers_is_an_error():
    with pytest.raises(QuantizationError, match=r"has 2 entries; the model .* has 1 inputs"):
        populate_bias_quantizer_from_accumulator(like_qkeras(), ["quantized_bits(8)"] * 2)


def test_bias_quantizers_that_are_given_stay():
    given = AlignedWeightQuantizer(11)
    layer = QDenseBatchnorm(2, kernel_quantizer=WeightQuantizer(3), bias_quantizer=given)
    populate_bias_quantizer_from_accumulator(keras.Sequential([keras.Input((3,)), layer]), ["quantized_bits(8)"])
    assert layer.bias_quantizer is given
