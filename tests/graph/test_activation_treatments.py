import keras
import numpy as np
import pytest
from keras import layers, ops

import qpipe
from qpipe.algorithms import calibrate
from qpipe.config.schema import LayerRule, OutputQuantizerConfig, OutputQuantizerRule, QuantizerConfig
from qpipe.errors import ConfigError
from qpipe.graph import quantize
from qpipe.graph.layer_plan import Treatment
from qpipe.graph.quantization import quantize_with_plan
from qpipe.layers import CappedReLU, Dequantize, QActivation, QClamp, QConv2D, QSoftmax, Quantize


def model_of(build, shape=(6, 6, 3)):
    inputs = keras.Input(shape, name="input")
    return keras.Model(inputs, build(inputs))


def conv(name, **arguments):
    return layers.Conv2D(4, 1, name=name, **arguments)


def plans_of(model, **config):
    result = quantize_with_plan(model, QuantizerConfig(**config))
    return {plan.name: plan for plan in result.plans}, result.model


def samples(model, count=32):
    return np.random.default_rng(0).normal(size=(count, *model.inputs[0].shape[1:])).astype("float32")


def activations(x):
    """Activations as arguments, as layers and as operators; the last one is an attention."""
    x = conv("swish", activation="swish")(x)
    x = conv("leaky", activation=layers.LeakyReLU(0.2))(x)
    squeezed = layers.GlobalAveragePooling2D(keepdims=True, name="mean")(x)
    gate = layers.ReLU(6.0, name="gate")(conv("excite")(squeezed) + 3.0) * (1.0 / 6.0)
    x = layers.Multiply(name="scaled")([x, gate])
    x = layers.Rescaling(2.0, offset=0.5, name="middle")(layers.Activation("tanh", name="tanh")(x))
    x = layers.Flatten()(ops.hard_swish(x))
    weights = layers.Dense(5, activation="softmax", name="attention")(x)
    x = layers.Multiply()([weights, layers.Dense(5, activation="gelu", name="values")(x)])
    return layers.Dense(4, activation="softmax", name="scores")(layers.ELU(name="elu")(x))


@pytest.fixture(scope="module")
def calibrated(randomize):
    """The float model, its samples, the plans, and the calibrated model with an integer softmax."""
    model = randomize(model_of(activations))
    plans, quantized = plans_of(model, float_softmax=False)
    x = samples(model)
    return model, x, plans, calibrate(quantized, x)


def test_simulation_equals_engine_on_every_tensor(calibrated):
    _, x, _, quantized = calibrated
    simulated = quantized.predict(x, verbose=0)
    np.testing.assert_array_equal(simulated, qpipe.integer_predict(quantized, x))
    np.testing.assert_array_equal(simulated * 256, np.rint(simulated * 256))


def test_the_quantized_model_stays_near_the_float_one(calibrated):
    model, x, _, quantized = calibrated
    expected = model.predict(x, verbose=0)
    assert 0 < np.abs(quantized.predict(x, verbose=0) - expected).max() < 0.05


def test_no_activation_is_left_in_float(calibrated):
    _, _, plans, quantized = calibrated
    assert [name for name, plan in plans.items() if plan.treatment is Treatment.float] == []
    assert sum(isinstance(layer, Quantize | Dequantize) for layer in quantized.layers) == 2


def test_activations_in_linear_layers_follow_under_the_name_of_both(calibrated):
    _, _, plans, quantized = calibrated
    for name, function in (("swish_silu", "silu"), ("leaky_leakyrelu", "leaky_relu"), ("values_gelu", "gelu")):
        layer = quantized.get_layer(name)
        linear = quantized.get_layer(name.split("_")[0])
        assert layer.function.name == function
        assert layer.input_quantizer is linear.output_quantizer
        assert linear.activation is keras.activations.linear
        assert (plans[name].layer, plans[name].output_bits) == ("Activation", 8)
    assert type(quantized.get_layer("attention_softmax")) is type(quantized.get_layer("scores_softmax")) is QSoftmax


def test_shares_have_the_scale_of_their_definition():
    config = {"output": OutputQuantizerConfig(bitwidth=6), "float_softmax": False}
    plans, model = plans_of(model_of(lambda x: conv("c", activation="sigmoid")(x)), **config)
    output = model.get_layer("c_sigmoid").output_quantizer
    assert (float(output.scale), float(output.zero_point), output.integers) == (2.0**-6, 0.0, (0, 63))
    assert output.fixed
    assert (plans["c_sigmoid"].output_bits, plans["c_sigmoid"].output_scale) == (6, "power_of_two")


def test_a_relu_behind_an_operator_is_fused():
    _, model = plans_of(model_of(lambda x: layers.ReLU(6.0, name="gate")(conv("c")(x) + 3.0) * (1 / 6)))
    found = [layer for layer in model.layers if isinstance(layer, QActivation)]
    assert [(layer.function.name, layer.bounds) for layer in found] == [
        ("add", (0.0, 6.0)),
        ("multiply", (-np.inf, np.inf)),
    ]
    assert not found[0].output_quantizer.signed
    assert not found[1].output_quantizer.signed


@pytest.mark.parametrize("cap", [2.5, 6.0, None])
def test_any_cap_is_fused(cap):
    plans, model = plans_of(model_of(lambda x: layers.ReLU(cap, name="relu")(conv("c")(x))))
    assert model.get_layer("c").bounds == (0.0, np.inf if cap is None else cap)
    assert plans["c"].fused == "relu"
    assert not model.get_layer("c").output_quantizer.signed


def test_caps_on_their_own_keep_the_quantizer(randomize):
    def build(x):
        x = layers.MaxPooling2D(2, name="max")(conv("c")(x))
        return conv("last")(ops.relu(layers.ReLU(1.25, name="cap")(x)))

    model = randomize(model_of(build))
    plans, quantized = plans_of(model)
    assert plans["cap"].treatment is Treatment.keeps
    assert type(quantized.get_layer("cap")) is QClamp
    assert quantized.get_layer("last").input_quantizer is quantized.get_layer("c").output_quantizer
    x = samples(model)
    calibrate(quantized, x)
    np.testing.assert_array_equal(quantized.predict(x, verbose=0), qpipe.integer_predict(quantized, x))


def test_a_capped_relu_as_an_argument_folds_and_fuses():
    _, model = plans_of(model_of(lambda x: conv("c", activation=CappedReLU(3.0))(x)))
    assert type(model.get_layer("c")) is QConv2D
    assert model.get_layer("c").bounds == (0.0, 3.0)

    def build(x):
        return layers.ReLU(3.0)(layers.BatchNormalization()(conv("c")(x)))

    folded = qpipe.fold_batchnorm(model_of(build))
    assert folded.get_layer("c").activation.cap == 3.0
    assert quantize(folded).get_layer("c").bounds == (0.0, 3.0)


def relu(x):
    return ops.sin(x)


@pytest.mark.parametrize("own", [relu, layers.PReLU(shared_axes=[1, 2])], ids=["function", "prelu"])
def test_functions_of_the_user_stay_in_float_behind_the_layer(own):
    plans, model = plans_of(model_of(lambda x: conv("last")(conv("c", activation=own)(x))))
    name = "c_relu" if own is relu else "c_prelu"
    assert plans[name].treatment is Treatment.float
    assert plans[name].reason == f"activation '{name[2:]}' has no integer form"
    assert type(model.get_layer("c")) is QConv2D


def test_a_layer_that_is_called_twice_becomes_two(randomize):
    def build(x):
        swish = layers.Activation("swish", name="swish")
        return conv("c")(swish(conv("b")(swish(conv("a")(x)))))

    model = randomize(model_of(build))
    plans, quantized = plans_of(model)
    assert {name for name in plans if "swish" in name} == {"swish_1", "swish_2"}
    x = samples(model)
    calibrate(quantized, x)
    np.testing.assert_array_equal(quantized.predict(x, verbose=0), qpipe.integer_predict(quantized, x))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (layers.Softmax(axis=1), "its axis 1 is not the last one"),
        (layers.Activation("log_softmax"), "activation 'log_softmax' has no integer form yet"),
        (layers.Rescaling([1.0, 2.0, 3.0, 4.0]), "Rescaling has no integer form yet"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_reasons_of_what_stays_in_float(layer, reason):
    plans, _ = plans_of(model_of(lambda x: conv("last")(layer(conv("c")(x)))))
    assert plans[layer.name].reason == reason


def test_activations_on_real_values_stay_in_float():
    plans, _ = plans_of(
        model_of(lambda x: layers.Activation("tanh", name="t")(layers.UnitNormalization()(conv("c")(x))))
    )
    assert plans["t"].reason == "its input is in float"


@pytest.mark.parametrize("make", [layers.Softmax, lambda: ops.softmax])
def test_float_softmax_decides_at_the_models_output_only(make):
    def build(x):
        return make()(conv("last")(make()(conv("first")(x))))

    for float_softmax in (True, False):
        plans, model = plans_of(model_of(build), float_softmax=float_softmax)
        reasons = [plan.reason for plan in plans.values() if plan.treatment is Treatment.float]
        assert reasons == (["softmax at the model's output stays in float"] if float_softmax else [])
        assert sum(type(layer) is QSoftmax for layer in model.layers) == (1 if float_softmax else 2)


def test_rules_reach_activations():
    def build(x):
        x = conv("last", activation="swish")(layers.Activation("tanh", name="tanh")(conv("c")(x)))
        return layers.Activation("relu", name="relu")(layers.MaxPooling2D()(x))

    narrow = OutputQuantizerRule(bitwidth=4)
    plans, model = plans_of(model_of(build), layers=[LayerRule(match=name, output=narrow) for name in ("tanh", "last")])
    assert [plans[name].output_bits for name in ("c", "tanh", "last", "last_silu")] == [8, 4, 4, 4]
    assert model.get_layer("last").input_quantizer.bitwidth == 4
    with pytest.raises(ConfigError, match="layer 'relu' has no output"):
        plans_of(model_of(build), layers=[LayerRule(match="relu", output=narrow)])


def test_training_moves_tables_and_stays_equal_to_the_engine(calibrated):
    float_model, x, _, _ = calibrated
    model = calibrate(quantize(float_model, QuantizerConfig(float_softmax=False)), x)
    y = np.random.default_rng(1).integers(0, 4, len(x))
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(), jit_compile=False)
    before = model.get_layer("swish_silu").output_quantizer.scale.numpy()
    losses = model.fit(x, y, batch_size=16, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert model.get_layer("swish_silu").output_quantizer.scale.numpy() != before
    assert float(model.get_layer("attention_softmax").output_quantizer.scale) == 2.0**-8
    np.testing.assert_array_equal(model.predict(x, verbose=0), qpipe.integer_predict(model, x))


def test_a_model_with_activations_saves_and_loads(calibrated, tmp_path):
    _, x, _, quantized = calibrated
    quantized.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), quantized.predict(x, verbose=0))
    np.testing.assert_array_equal(qpipe.integer_predict(loaded, x), quantized.predict(x, verbose=0))
