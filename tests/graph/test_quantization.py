import keras
import numpy as np
import pytest
from keras import layers

from qpipe.algorithms import calibrate
from qpipe.config.schema import LayerRule, OutputQuantizerConfig, QuantizerConfig, WeightQuantizerRule
from qpipe.errors import ConfigError, QuantizationError
from qpipe.graph import fold_batchnorm, quantize
from qpipe.graph.layer_plan import Treatment
from qpipe.graph.quantization import quantize_with_plan
from qpipe.layers import Dequantize, QAdd, QConv2D, QDense, Quantize, QuantizedBatchNormalization


def model_of(build, shape=(8, 8, 3)):
    inputs = keras.Input(shape, name="input")
    return keras.Model(inputs, build(inputs))


def conv(name="conv", filters=4, **arguments):
    return layers.Conv2D(filters, 3, padding="same", name=name, **arguments)


def chain(*parts):
    def build(x):
        for part in parts:
            x = part(x)
        return x

    return build


def residual(x):
    x = layers.ReLU(6.0, name="relu_1")(conv("conv_1")(x))
    y = layers.BatchNormalization(name="norm")(layers.MaxPooling2D(2, name="max")(x))
    z = layers.AveragePooling2D(2, name="average")(x)
    x = layers.Activation("relu", name="relu_2")(layers.Add(name="add")([y, z]))
    x = layers.DepthwiseConv2D(3, name="depthwise", activation="relu")(layers.ZeroPadding2D(1, name="pad")(x))
    x = layers.Dropout(0.5, name="dropout")(layers.GlobalAveragePooling2D(name="mean")(x))
    return layers.Dense(5, name="dense", activation="softmax")(x)


def calibrated(model, config=None, samples=64):
    x = np.random.default_rng(0).normal(size=(samples, *model.inputs[0].shape[1:])).astype("float32")
    return calibrate(quantize(model, config), x), x


def assert_near(ours, theirs, tolerance=0.05):
    for our, their in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True):
        error = np.abs(np.array(our) - their).max() / np.abs(their).max()
        assert error < tolerance
        assert error > 0


def treatments(model, config=None):
    result = quantize_with_plan(model, config or QuantizerConfig())
    return {plan.name: plan for plan in result.plans}, result


def layers_of(model, kind):
    return [layer.name for layer in model.layers if isinstance(layer, kind)]


@pytest.fixture(scope="module")
def pair(randomize):
    """The residual model, its calibrated quantization, and the samples."""
    model = randomize(model_of(residual))
    return model, *calibrated(model)


def test_the_quantized_model_stays_near_the_float_one(pair):
    model, quantized, x = pair
    assert_near(quantized(x), model(x))


def test_the_float_model_is_untouched(randomize):
    model = randomize(fold_batchnorm(model_of(residual)))
    weights, config = model.get_weights(), model.get_config()
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    quantize(model)
    assert model.get_config() == config
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_every_layer_is_in_the_plan_with_its_treatment(randomize):
    plans, result = treatments(model_of(residual))
    quantized = {name for name, plan in plans.items() if plan.treatment is Treatment.quantized}
    assert quantized == {"conv_1", "norm", "average", "add", "depthwise", "mean", "dense"}
    assert {name for name, plan in plans.items() if plan.treatment is Treatment.keeps} == {"max", "pad", "dropout"}
    fused = {name: plan.fused for name, plan in plans.items() if plan.fused}
    assert fused == {"conv_1": "relu_1", "add": "relu_2"}
    every = {layer.name for layer in model_of(residual).layers} - {"input"} | {"dense_softmax"}
    assert set(plans) | set(fused.values()) == every
    assert result.rule_matches == {}


def test_widths_in_the_plan_are_those_of_the_layers():
    config = QuantizerConfig(
        output=OutputQuantizerConfig(bitwidth=6),
        layers=[
            LayerRule(match="d*", weight=WeightQuantizerRule(bitwidth=4)),
            LayerRule(match="re:.*conv_1", buffer_bitwidth=20),
        ],
    )
    plans, result = treatments(model_of(residual), config)
    assert [plans[name].weight_bits for name in ("conv_1", "depthwise", "dense", "norm")] == [8, 4, 4, 8]
    assert [plans[name].output_bits for name in ("conv_1", "add", "average", "mean")] == [6, 6, 6, 6]
    assert (plans["conv_1"].buffer_bits, plans["conv_1"].bias_bits, plans["norm"].bias_bits) == (20, 20, 16)
    assert plans["dense"].rules == ["d*"]
    layer = result.model.get_layer("dense")
    assert (layer.kernel_quantizer.bitwidth, layer.output_quantizer.bitwidth) == (4, 6)
    assert result.rule_matches == {"d*": 3, "re:.*conv_1": 1}
    assert any("dropout" in note for note in result.notes)


def test_neighbours_share_one_quantizer_object():
    model = quantize(model_of(residual))
    first = model.get_layer("conv_1").output_quantizer
    assert model.get_layer("norm").input_quantizer is first
    assert model.get_layer("average").input_quantizer is first
    assert model.get_layer("add").input_quantizers[1] is first
    assert model.get_layer("depthwise").input_quantizer is model.get_layer("add").output_quantizer


def test_outputs_that_cannot_be_negative_are_unsigned():
    config = QuantizerConfig(output=OutputQuantizerConfig(symmetric=True))
    model = quantize(model_of(residual), config)
    lowest = {
        name: model.get_layer(name).output_quantizer.integers.lowest for name in ("conv_1", "norm", "add", "mean")
    }
    assert lowest == {"conv_1": 0, "norm": -128, "add": 0, "mean": 0}


def test_softmax_inside_dense_is_split_off():
    plans, result = treatments(model_of(residual))
    assert [layer.name for layer in result.model.layers][-3:] == ["dense", "dense_output_dequantize", "dense_softmax"]
    assert result.model.get_layer("dense").activation is keras.activations.linear
    assert plans["dense"].reason is None
    assert plans["dense_softmax"].treatment is Treatment.float
    assert plans["dense_softmax"].reason == "softmax at the model's output stays in float"


def test_the_models_outputs_are_dequantized(randomize):
    def build(x):
        x = conv()(x)
        return {"features": x, "pooled": layers.MaxPooling2D(2)(x), "scores": layers.Dense(3)(layers.Flatten()(x))}

    model = randomize(model_of(build))
    quantized, x = calibrated(model)
    assert len(layers_of(quantized, Dequantize)) == 3
    assert sorted(quantized.output) == ["features", "pooled", "scores"]
    assert_near(quantized(x), model(x))


def test_an_island_in_float_has_boundaries_around(randomize):
    def build(x):
        x = layers.UnitNormalization(name="unit")(conv("before")(x))
        return layers.Flatten()(conv("after")(x))

    model = randomize(model_of(build))
    plans, result = treatments(model)
    assert plans["unit"].treatment is Treatment.float
    assert plans["unit"].reason == "UnitNormalization has no integer form yet"
    names = [layer.name for layer in result.model.layers]
    around = names[names.index("unit") - 1 : names.index("unit") + 2]
    kinds = [type(result.model.get_layer(name)) for name in around]
    assert kinds == [Dequantize, layers.UnitNormalization, Quantize]
    quantized, x = calibrated(model)
    assert_near(quantized(x), model(x))


def shared_layer(x):
    layer = conv("shared", filters=3)
    return layers.Add(name="add")([conv("left")(layer(x)), conv("right")(layer(layer(x)))])


def two_outputs(x):
    first, second = keras.ops.split(conv()(x), 2, axis=-1)
    return layers.Add(name="add")([conv("left")(first), conv("right")(second)])


def float_layers_on_one_quantizer(x):
    x = conv()(x)
    y = layers.MaxPooling2D(1, name="max")(x)
    return layers.Concatenate()([layers.UnitNormalization()(x), layers.UnitNormalization()(y)])


def operators(x):
    return keras.ops.relu(conv("second")(conv()(x) * 2.0 + 1.0))


def activation_layer_as_argument(x):
    return conv("second")(conv(activation=layers.LeakyReLU(0.2))(x))


def same_input_twice(x):
    x = conv()(x)
    return layers.Add(name="add")([x, x])


def padded_input(x):
    return conv()(layers.ZeroPadding2D(1, name="pad")(x))


def rescaled_input(x):
    return conv()(layers.Rescaling(0.5, offset=0.1, name="rescale")(x))


def nested(x):
    inner = keras.Sequential([keras.Input((8, 8, 3)), conv("inner"), layers.ReLU()])
    return layers.Dense(3)(layers.Flatten()(inner(x)))


GRAPHS = [
    shared_layer,
    two_outputs,
    float_layers_on_one_quantizer,
    operators,
    activation_layer_as_argument,
    same_input_twice,
    padded_input,
    rescaled_input,
    nested,
]


@pytest.mark.parametrize("build", GRAPHS, ids=lambda build: build.__name__)
def test_graphs_of_all_kinds_compute_nearly_the_same(build, randomize):
    model = randomize(model_of(build))
    plans, result = treatments(model)
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32")
    quantized = calibrate(result.model, x)
    assert_near(quantized(x), model(x), 0.1)
    assert layers_of(quantized, QConv2D | QDense)
    for plan in plans.values():
        assert plan.treatment is not Treatment.float or plan.reason


def test_a_shared_layer_stays_in_float():
    plans, result = treatments(model_of(shared_layer))
    assert plans["shared"].treatment is Treatment.float
    assert "called 3 times" in plans["shared"].reason
    assert type(result.model.get_layer("shared")) is layers.Conv2D


@pytest.mark.parametrize("build", [padded_input, rescaled_input])
def test_the_models_input_has_the_inputs_quantizer(build):
    model = quantize(model_of(build), QuantizerConfig(input=OutputQuantizerConfig(bitwidth=11)))
    assert model.get_layer("conv").input_quantizer.bitwidth == 11


def test_a_rule_can_leave_a_layer_in_float(randomize):
    config = QuantizerConfig(layers=[LayerRule(match="conv_1", quantize=False)])
    plans, result = treatments(model_of(residual), config)
    assert plans["conv_1"].reason == "left in float by a rule"
    assert type(result.model.get_layer("conv_1")) is layers.Conv2D
    assert result.model.get_layer("norm").input_quantizer is result.model.get_layer("max_quantize").quantizer


def test_rules_are_checked_against_the_models_layers():
    with pytest.raises(
        ConfigError, match=r"quantizer\.layers\[0\]\.match: 'densse' matches no layer; did you mean 'dense'"
    ):
        quantize(model_of(residual), QuantizerConfig(layers=[LayerRule(match="densse", quantize=False)]))
    rule = LayerRule(match="add", weight=WeightQuantizerRule(bitwidth=4))
    with pytest.raises(ConfigError, match=r"layer 'add' has no weight"):
        quantize(model_of(residual), QuantizerConfig(layers=[rule]))


@pytest.mark.parametrize("mode", ["plain", "folded"])
def test_normalizations_that_stay_become_quantized_ones(mode, randomize):
    model = randomize(model_of(residual))
    if mode == "folded":
        model = fold_batchnorm(model)
    layer = quantize(model).get_layer("norm")
    assert type(layer) is QuantizedBatchNormalization
    np.testing.assert_array_equal(layer.gamma, model.get_layer("norm").gamma)
    np.testing.assert_array_equal(layer.moving_variance, model.get_layer("norm").moving_variance)
    assert layer.epsilon == model.get_layer("norm").epsilon


def test_freeze_delay_reaches_statistics_and_ranges():
    model = quantize_with_plan(fold_batchnorm(model_of(residual)), QuantizerConfig(), ema_freeze_delay=5).model
    assert model.get_layer("norm").ema_freeze_delay == 5
    assert model.get_layer("dense").output_quantizer.ema_freeze_delay == 5


def test_a_quantized_model_saves_and_loads(pair, tmp_path):
    _, model, x = pair
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.get_layer("add").input_quantizers[1] is loaded.get_layer("conv_1").output_quantizer
    assert loaded.get_layer("conv_1").kernel_quantizer.fixed


def test_a_quantized_model_trains(randomize, rng):
    small = model_of(chain(conv(), layers.BatchNormalization(), layers.ReLU(), layers.Flatten(), layers.Dense(5)))
    model = quantize(fold_batchnorm(randomize(small)))
    x, y = rng.normal(size=(32, 8, 8, 3)).astype("float32"), rng.integers(0, 5, 32)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    history = model.fit(x, y, batch_size=16, epochs=6, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert np.isfinite(np.array(model(x))).all()


def test_mobilenet(randomize):
    model = keras.applications.MobileNet(
        alpha=0.25, input_shape=(32, 32, 3), weights=None, classes=10, classifier_activation="softmax"
    )
    folded = fold_batchnorm(randomize(model))
    plans, result = treatments(folded)
    in_float = {name: plan.reason for name, plan in plans.items() if plan.treatment is Treatment.float}
    assert in_float == {"predictions": "softmax at the model's output stays in float"}
    assert not layers_of(result.model, QAdd)
    assert len(layers_of(result.model, Quantize)) == 1
    assert len(layers_of(result.model, Dequantize)) == 1


def test_a_model_without_any_quantizable_layer_is_refused():
    inputs = keras.Input((8, 3))
    outputs = keras.layers.Softmax(name="scores")(keras.layers.LSTM(4, name="memory")(inputs))
    message = (
        r"'recurrent' has no layer that can be quantized: 'memory': LSTM has no integer form yet; 'scores': softmax"
    )
    with pytest.raises(QuantizationError, match=message):
        quantize(keras.Model(inputs, outputs, name="recurrent"))
    flat = keras.Model(inputs, keras.layers.Flatten()(inputs), name="flat")
    with pytest.raises(QuantizationError, match=r"'flat' has no layer .* no convolution, dense layer"):
        quantize(flat)


def test_rules_that_leave_every_layer_in_float_are_refused():
    model = keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(2, name=f"d{index}") for index in range(5))])
    config = QuantizerConfig(layers=[LayerRule(match="*", quantize=False)])
    with pytest.raises(QuantizationError, match="'d2': left in float by a rule; and 2 more"):
        quantize(model, config)


def test_reasons_of_operations_and_of_chained_input_preparation():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Normalization(mean=0.5, variance=2.0, name="normalize")(keras.layers.Rescaling(0.1)(inputs))
    x = keras.ops.cumsum(keras.layers.Conv2D(4, 3, name="conv")(x), axis=1)
    plans, _ = treatments(keras.Model(inputs, keras.layers.ReLU(4.0, name="gate")(x)))
    assert plans["normalize"].reason == "part of the input's quantizer"
    operation = next(plan for plan in plans.values() if plan.layer == "Cumsum")
    assert operation.reason == "the operation Cumsum is not a layer and has no integer form yet"
    assert plans["gate"].reason == "its input is in float"
