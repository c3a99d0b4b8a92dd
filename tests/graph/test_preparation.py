import keras
import numpy as np
import pytest
from keras import layers

import qpipe
from qpipe.algorithms import calibrate
from qpipe.config.schema import LayerRule, OutputQuantizerConfig, QuantizerConfig
from qpipe.graph import fold_batchnorm, quantize
from qpipe.graph.layer_plan import Treatment
from qpipe.graph.quantization import quantize_with_plan
from qpipe.layers import Quantize
from qpipe.quantizers import OutputQuantizer

SHAPE = (6, 6, 3)


def adapted(**arguments):
    layer = layers.Normalization(name="normalize", **arguments)
    layer.adapt(pixels(seed=9))
    return layer


def pixels(seed=0, samples=16):
    """Images of integers from 0 to 255, both ends included."""
    x = np.random.default_rng(seed).integers(0, 256, size=(samples, *SHAPE)).astype("float32")
    x[0, 0, 0], x[0, 0, 1] = 0, 255
    return x


CHAINS = {
    "rescaling": lambda: [layers.Rescaling(1 / 255)],
    "rescaling with an offset": lambda: [layers.Rescaling(1 / 127.5, offset=-1)],
    "rescaling of each channel": lambda: [layers.Rescaling([0.01, 0.02, 0.005], offset=[0.0, 0.5, -1.0])],
    "normalization": lambda: [layers.Normalization(mean=(100.0, 127.3, 90.0), variance=(300.0, 250.7, 810.0))],
    "one mean for all": lambda: [layers.Normalization(axis=None, mean=113.7, variance=2150.0)],
    "adapted normalization": lambda: [adapted()],
    "inverse normalization": lambda: [layers.Normalization(mean=3.3, variance=0.7, invert=True)],
    "chain": lambda: [
        layers.Rescaling(1 / 255, offset=0.3),
        layers.Normalization(mean=(0.485, 0.456, 0.406), variance=(0.229, 0.224, 0.225)),
        layers.Rescaling([0.7, 1.3, 0.9]),
    ],
}


def model_of(parts, dtype="float32"):
    x = inputs = keras.Input(SHAPE, name="image", dtype=dtype)
    for part in parts:
        x = part(x)
    return keras.Model(inputs, layers.Conv2D(2, 3, name="conv")(x))


def quantize_layer(model) -> Quantize:
    (layer,) = (layer for layer in model.layers if isinstance(layer, Quantize))
    return layer


@pytest.mark.parametrize("name", CHAINS)
def test_the_inputs_quantizer_gives_the_integers_that_it_gives_behind_the_layers(name, randomize):
    parts = CHAINS[name]()
    config = QuantizerConfig(input=OutputQuantizerConfig(bitwidth=9))
    result = quantize_with_plan(model_of(parts), config)
    plans = {plan.name: plan for plan in result.plans}
    for part in parts:
        assert plans[part.name].treatment is Treatment.quantized
        assert plans[part.name].reason == "part of the input's quantizer"
    assert plans[parts[-1].name].output_bits == 9
    assert [type(layer) for layer in result.model.layers[:2]] == [layers.InputLayer, Quantize]
    calibrate(result.model, pixels())
    merged, x = quantize_layer(result.model), pixels(seed=1)
    real = x
    for part in parts:
        real = part(real)
    np.testing.assert_array_equal(merged(x), Quantize(merged.quantizer)(real))
    np.testing.assert_array_equal(merged(x, training=False), keras.Model(result.model.input, merged.output).predict(x))
    np.testing.assert_array_equal(qpipe.integer_predict(result.model, x), result.model.predict(x, verbose=0))


def test_integers_come_in_as_they_are():
    model = calibrate(quantize(model_of([layers.Rescaling(1 / 255)], "uint8")), pixels().astype("uint8"))
    x = pixels(seed=1)
    np.testing.assert_array_equal(quantize_layer(model)(x.astype("uint8")), x)
    np.testing.assert_array_equal(qpipe.integer_predict(model, x.astype("uint8")), model.predict(x, verbose=0))


def test_a_merged_preparation_is_saved(tmp_path):
    model = calibrate(quantize(model_of(CHAINS["chain"]())), pixels())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(pixels(seed=1)), model(pixels(seed=1)))


def test_an_adapted_normalization_keeps_its_statistics_when_a_model_is_rebuilt():
    model = model_of([adapted()])
    np.testing.assert_array_equal(fold_batchnorm(model)(pixels()), model(pixels()))


# What is not merged ---------------------------------------------------------------------------------


def two_readers(inputs):
    x = layers.Rescaling(0.1, name="prepare")(inputs)
    return layers.Conv2D(2, 3, name="conv")(x), layers.LayerNormalization()(x)


def an_output(inputs):
    x = layers.Rescaling(0.1, name="prepare")(inputs)
    return layers.Conv2D(2, 3, name="conv")(x), x


def values_for_each_position(inputs):
    mean = np.random.default_rng(0).normal(size=SHAPE)
    x = layers.Normalization(axis=(1, 2, 3), mean=mean, variance=np.ones(SHAPE), name="prepare")(inputs)
    return layers.Conv2D(2, 3, name="conv")(x)


@pytest.mark.parametrize("build", [two_readers, an_output, values_for_each_position])
def test_what_others_need_in_float_stays_a_layer(build):
    inputs = keras.Input(SHAPE, name="image")
    result = quantize_with_plan(keras.Model(inputs, build(inputs)), QuantizerConfig())
    plan = next(plan for plan in result.plans if plan.name == "prepare")
    assert plan.treatment is Treatment.float
    assert plan.reason == "it prepares the input in float, before the input's quantizer"
    assert result.model.get_layer("prepare_quantize").preparation == ()
    assert result.model.get_layer("conv").input_quantizer is result.model.get_layer("prepare_quantize").quantizer


def test_a_rule_leaves_a_preparation_in_float():
    config = QuantizerConfig(layers=[LayerRule(match="rescale", quantize=False)])
    result = quantize_with_plan(model_of([layers.Rescaling(0.1, name="rescale")]), config)
    assert result.plans[0].reason == "left in float by a rule"


def test_an_unknown_operation_is_refused():
    with pytest.raises(ValueError, match="preparation='multiplied' is not known; did you mean 'multiply'"):
        Quantize(OutputQuantizer(), [("multiplied", 2.0)])
