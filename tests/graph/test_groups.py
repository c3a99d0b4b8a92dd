import keras
import numpy as np
import pytest
from keras import layers

import qpipe
from qpipe.algorithms import calibrate
from qpipe.config.schema import (
    LayerRule,
    OutputQuantizerConfig,
    OutputQuantizerRule,
    QuantizerConfig,
    ScaleKind,
)
from qpipe.errors import ConfigError
from qpipe.graph import fold_batchnorm, quantize
from qpipe.graph.layer_plan import Treatment
from qpipe.graph.quantization import quantize_with_plan
from qpipe.layers import Dequantize, Quantize, Requantize
from qpipe.quantizers import OutputQuantizer
from qpipe.reports.noise import measure_noise

SHAPE = (8, 8, 3)


def model_of(build, shape=SHAPE):
    inputs = keras.Input(shape, name="input")
    return keras.Model(inputs, build(inputs))


def conv(name, filters=4, **arguments):
    return layers.Conv2D(filters, 3, padding="same", name=name, **arguments)


def join(*tensors, name="concat", **arguments):
    return layers.Concatenate(name=name, **arguments)(list(tensors))


def images(samples=16, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).normal(size=(samples, *shape)).astype("float32")


def output_rule(match, **fields):
    return LayerRule(match=match, output=OutputQuantizerRule(**fields))


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def plans_of(model, config=None):
    result = quantize_with_plan(model, config or QuantizerConfig())
    return {plan.name: plan for plan in result.plans}, result.model


def two_branches(x):
    return conv("head")(join(conv("left", activation="relu")(x), conv("right")(x)))


def unet(x):
    first = layers.ReLU()(layers.BatchNormalization()(conv("first", use_bias=False)(x)))
    second = layers.ReLU(name="relu_2")(conv("second")(layers.MaxPooling2D(2)(first)))
    bottom = conv("bottom", activation="relu")(layers.AveragePooling2D(2)(second))
    up = layers.Conv2DTranspose(4, 2, strides=2, name="up")(bottom)
    x = conv("third", activation="relu")(join(up, second, name="skip_2"))
    return conv("head", 2)(join(layers.UpSampling2D(2)(x), first, name="skip_1"))


def densenet(x):
    x = conv("stem")(x)
    for index in range(2):
        y = layers.ReLU()(layers.BatchNormalization(name=f"norm_{index}")(x))
        x = join(x, conv(f"grow_{index}", 2)(y), name=f"concat_{index}")
    x = layers.AveragePooling2D(2, name="transition")(conv("squeeze", 3)(x))
    return layers.Dense(3, name="dense")(layers.GlobalAveragePooling2D()(x))


def simulation_and_engine(model):
    """The outputs of new images, computed by the Keras model and by the integer engine."""
    x = images(seed=1)
    return model.predict(x, verbose=0), qpipe.integer_predict(model, x)


# Who shares a quantizer -----------------------------------------------------------------------------


def test_joined_outputs_have_one_quantizer_object():
    plans, model = plans_of(model_of(two_branches))
    quantizer = model.get_layer("left").output_quantizer
    assert model.get_layer("right").output_quantizer is quantizer
    assert model.get_layer("head").input_quantizer is quantizer
    assert (quantizer.members, quantizer.name) == (2, "left_output")
    assert plans["concat"].treatment is Treatment.keeps
    assert (plans["concat"].output_bits, plans["concat"].output_scale) == (8, "float")
    assert not layers_of(model, Requantize)
    assert len(layers_of(model, Dequantize)) == 1


@pytest.mark.parametrize(("activation", "lowest"), [("relu", 0), (None, -128)])
def test_a_group_is_signed_if_any_member_is(activation, lowest):
    def build(x):
        return join(conv("left", activation="relu")(x), conv("right", activation=activation)(x))

    config = QuantizerConfig(output=OutputQuantizerConfig(symmetric=True))
    assert quantize(model_of(build), config).get_layer("left").output_quantizer.integers.lowest == lowest


def test_layers_that_keep_a_quantizer_join_and_the_last_fused_layer_counts():
    model = quantize(fold_batchnorm(model_of(unet)))
    outputs = {name: model.get_layer(name).output_quantizer for name in ("first", "second", "up", "third", "head")}
    assert outputs["up"] is outputs["second"] is model.get_layer("bottom").input_quantizer
    assert outputs["third"] is outputs["first"] is model.get_layer("head").input_quantizer
    assert outputs["first"] is not outputs["second"]
    assert [outputs[name].members for name in ("first", "second", "head")] == [2, 2, 1]


def test_a_chain_of_concatenations_is_one_group():
    model = quantize(fold_batchnorm(model_of(densenet)))
    shared = [model.get_layer(name).output_quantizer for name in ("stem", "grow_0", "grow_1")]
    assert len({id(quantizer) for quantizer in shared}) == 1
    assert shared[0].members == 3
    assert model.get_layer("squeeze").input_quantizer is shared[0]
    assert model.get_layer("squeeze").output_quantizer is not shared[0]


def test_the_range_of_a_group_is_the_union(randomize):
    model = randomize(model_of(two_branches))
    x = images()
    quantizer = calibrate(quantize(model), x).get_layer("left").output_quantizer
    parts = [np.array(keras.Model(model.input, model.get_layer(name).output)(x)) for name in ("left", "right")]
    assert float(quantizer.low) == pytest.approx(min(part.min() for part in parts), rel=0.02)
    assert float(quantizer.high) == pytest.approx(max(part.max() for part in parts), rel=0.02)


def test_training_moves_the_union_once_per_step(randomize):
    model = calibrate(quantize(randomize(model_of(two_branches))), images())
    quantizer = model.get_layer("left").output_quantizer
    before, steps = float(quantizer.high), 3
    x = images(8, seed=1) * 0.5
    for _ in range(steps):
        model(x, training=True)
    quantizer.settle()
    assert int(quantizer.steps) == steps
    high = max(
        float(np.max(keras.Model(model.input, model.get_layer(name).output)(x, training=True)))
        for name in ("left", "right")
    )
    momentum = quantizer.momentum**steps
    assert float(quantizer.high) == pytest.approx(before * momentum + high * (1 - momentum), rel=0.02)


def test_a_member_that_stays_in_float_is_quantized_with_the_groups_quantizer():
    plans, model = plans_of(
        model_of(lambda x: conv("head")(join(layers.LayerNormalization(name="float")(x), conv("left")(x)))),
    )
    assert plans["float"].treatment is Treatment.float
    assert plans["concat"].treatment is Treatment.keeps
    quantizer = model.get_layer("float_quantize").quantizer
    assert quantizer is model.get_layer("left").output_quantizer
    assert quantizer.members == 2


# Who is requantized ---------------------------------------------------------------------------------


def with_the_input(x):
    return conv("head")(join(layers.ZeroPadding2D(0, name="pad")(x), conv("left")(x)))


def test_the_models_input_keeps_its_own_quantizer(randomize):
    config = QuantizerConfig(input=OutputQuantizerConfig(bitwidth=12))
    plans, model = plans_of(randomize(model_of(with_the_input)), config)
    (requantize,) = layers_of(model, Requantize)
    assert requantize.name == "pad_requantize"
    assert (requantize.input_quantizer.bitwidth, requantize.output_quantizer.bitwidth) == (12, 8)
    assert requantize.output_quantizer is model.get_layer("left").output_quantizer
    assert model.get_layer("left").input_quantizer is requantize.input_quantizer
    assert plans["concat"].reason == "requantizes 'pad', whose quantizer is not the one that its other inputs share"
    calibrate(model, images())
    np.testing.assert_array_equal(*simulation_and_engine(model))


def test_inputs_of_the_model_alone_get_a_quantizer_of_the_concatenate():
    first, second = keras.Input(SHAPE, name="first"), keras.Input(SHAPE, name="second")
    model = quantize(keras.Model([first, second], conv("head")(join(first, second))))
    names = [layer.name for layer in layers_of(model, Requantize)]
    assert names == ["first_requantize", "second_requantize"]
    quantizer = model.get_layer("head").input_quantizer
    assert (quantizer.name, quantizer.members) == ("concat_output", 2)


def test_parts_of_one_tensor_keep_its_quantizer():
    def build(x):
        return conv("head")(join(layers.Cropping2D(1)(x), layers.Cropping2D(1)(layers.MaxPooling2D(1)(x))))

    model = quantize(model_of(build))
    assert not layers_of(model, Requantize)
    assert model.get_layer("head").input_quantizer is layers_of(model, Quantize)[0].quantizer


def test_an_input_does_not_join_the_groups_that_read_it():
    def build(x):
        x = layers.ZeroPadding2D(1)(x)
        left, right = join(x, conv("left")(x), name="concat_1"), join(x, conv("right")(x), name="concat_2")
        return [conv("head_1")(left), conv("head_2")(right)]

    model = quantize(model_of(build))
    assert len(layers_of(model, Requantize)) == 2
    assert model.get_layer("left").output_quantizer is not model.get_layer("right").output_quantizer


def test_one_requantization_serves_all_concatenations_of_a_group():
    def build(x):
        y = join(x, conv("left")(x), name="concat_1")
        return join(y, x, name="concat_2")

    model = quantize(model_of(build))
    assert len(layers_of(model, Requantize)) == 1
    assert model.get_layer("left").output_quantizer.members == 2


def test_an_output_whose_scale_is_fixed_is_requantized():
    model = model_of(lambda x: conv("head")(join(layers.Activation("sigmoid", name="gate")(x), conv("left")(x))))
    quantized = calibrate(quantize(model), images())
    (requantize,) = layers_of(quantized, Requantize)
    assert requantize.name == "gate_requantize"
    assert float(requantize.input_quantizer.scale) == 2.0**-8
    np.testing.assert_array_equal(*simulation_and_engine(quantized))


# What is refused or stays in float ------------------------------------------------------------------


def test_different_widths_in_a_group_are_an_error():
    config = QuantizerConfig(layers=[output_rule("right", bitwidth=4)])
    message = (
        r"'concat' \(Concatenate\) gives one quantizer to the outputs of 'left' \(output\.bitwidth 8\) and 'right' "
        r"\(output\.bitwidth 4\); allowed: the same output\.bitwidth for both"
    )
    with pytest.raises(ConfigError, match=message):
        quantize(model_of(two_branches), config)


def test_other_settings_of_a_group_have_to_be_the_same_too():
    with pytest.raises(ConfigError, match=r"'left' \(output\.symmetric False\) and 'right' \(output\.symmetric True\)"):
        quantize(model_of(two_branches), QuantizerConfig(layers=[output_rule("right", symmetric=True)]))
    with pytest.raises(ConfigError, match=r"output\.scale float\) and 'grow_1' \(output\.scale power_of_two"):
        quantize(model_of(densenet), QuantizerConfig(layers=[output_rule("grow_1", scale=ScaleKind.power_of_two)]))
    with pytest.raises(ConfigError, match=r"'concat_0' \(Concatenate\) and 1 more Concatenate layer\(s\) give one"):
        quantize(model_of(densenet), QuantizerConfig(layers=[output_rule("grow_1", bitwidth=5)]))


def test_a_rule_for_the_whole_group_is_fine_and_widths_may_change_between_groups(randomize):
    config = QuantizerConfig(layers=[output_rule("re:left|right", bitwidth=4), output_rule("head", bitwidth=6)])
    model = quantize(randomize(model_of(two_branches)), config)
    assert model.get_layer("head").input_quantizer.bitwidth == 4
    assert model.get_layer("head").output_quantizer.bitwidth == 6
    assert not layers_of(model, Requantize)
    calibrate(model, images())
    np.testing.assert_array_equal(*simulation_and_engine(model))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda x: join(conv("left")(x), conv("right")(x), axis=0), "it joins along the batch axis"),
        (
            lambda x: join(layers.LayerNormalization()(x), layers.LayerNormalization()(x)),
            "its inputs are in float",
        ),
        (
            lambda x: join(conv("left", 3)(x), keras.ops.cast(x, "int32")),
            "its input 'cast' holds int32 values, which can't be quantized",
        ),
    ],
)
def test_concatenations_in_float_have_a_reason(build, reason):
    keras.utils.clear_session()
    plans, _ = plans_of(model_of(lambda x: conv("head")(build(x))))
    assert plans["concat"].treatment is Treatment.float
    assert plans["concat"].reason == reason


def test_a_rule_leaves_a_concatenate_in_float(randomize):
    config = QuantizerConfig(layers=[LayerRule(match="concat", quantize=False)])
    plans, model = plans_of(randomize(model_of(two_branches)), config)
    assert plans["concat"].reason == "left in float by a rule"
    assert model.get_layer("left").output_quantizer is not model.get_layer("right").output_quantizer
    assert model.get_layer("head").input_quantizer is model.get_layer("concat_quantize").quantizer


# Equal integers -------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[unet, densenet], ids=lambda build: build.__name__)
def trained(request, randomize):
    """A quantized network with Concatenates after a few training steps, and its outputs before and after them."""
    model = calibrate(quantize(fold_batchnorm(randomize(model_of(request.param)))), images())
    outputs = [simulation_and_engine(model)]
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    model.fit(images(), np.ones((16, *model.output_shape[1:]), "float32"), batch_size=8, epochs=2, verbose=0)
    return model, [*outputs, simulation_and_engine(model)]


def test_simulation_and_engine_are_equal_after_calibration_and_after_training(trained):
    before, after = trained[1]
    np.testing.assert_array_equal(*before)
    np.testing.assert_array_equal(*after)
    assert np.abs(before[0] - after[0]).max() > 0


def test_groups_survive_saving(trained, tmp_path):
    model = trained[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images(seed=1)), model(images(seed=1)))
    names = [
        layer.name for layer in model.layers if isinstance(getattr(layer, "output_quantizer", None), OutputQuantizer)
    ]
    for name in names:
        quantizer, original = loaded.get_layer(name).output_quantizer, model.get_layer(name).output_quantizer
        assert quantizer.members == original.members
        sharing = [other for other in names if model.get_layer(other).output_quantizer is original]
        assert [other for other in names if loaded.get_layer(other).output_quantizer is quantizer] == sharing


def test_the_noise_of_each_member_is_its_own(randomize):
    model = randomize(model_of(two_branches))
    model.get_layer("left").set_weights([weight * 0.01 for weight in model.get_layer("left").get_weights()])
    quantized = calibrate(quantize(model), images())
    noise = measure_noise(quantized, images(seed=1))
    assert {"left", "right", "head"} <= set(noise)
    assert noise["left"].sqnr_db < noise["right"].sqnr_db - 10
