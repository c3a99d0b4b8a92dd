import math

import keras
import numpy as np
import pytest
from scipy.special import erf, expit

from qpipe.integer.operator import Notes
from qpipe.layers import CappedReLU, ElementwiseFunction, QActivation
from qpipe.layers.elementwise import FUNCTIONS, elementwise_function
from qpipe.lowering.lookup import lower_lookup
from qpipe.numerics import QuantizedTensor
from qpipe.quantizers import OutputQuantizer
from qpipe.quantizers.observation import Arithmetic, observe

SETTINGS = {
    "add": {"after": [3.0]},
    "clip": {"settings": {"x_min": -1.0, "x_max": 1.5}},
    "divide": {"after": [6.0]},
    "elu": {"settings": {"alpha": 0.3}},
    "leaky_relu": {"settings": {"negative_slope": 0.1}},
    "maximum": {"after": [0.5]},
    "minimum": {"after": [0.5]},
    "multiply": {"before": [1 / 6]},
    "power": {"after": [2.0]},
    "relu": {"settings": {"negative_slope": 0.1, "max_value": 2.0, "threshold": 0.25}},
    "rescale": {"settings": {"scale": 1 / 3, "offset": 0.1}},
    "subtract": {"before": [3.0]},
}
FLOAT64 = {
    "sigmoid": expit,
    "tanh": np.tanh,
    "silu": lambda x: x * expit(x),
    "gelu": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "elu": lambda x: np.where(x > 0, x, 0.3 * np.expm1(x)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "celu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "squareplus": lambda x: (x + np.sqrt(x**2 + 4)) / 2,
    "log_sigmoid": lambda x: -np.logaddexp(0, -x),
    "tanh_shrink": lambda x: x - np.tanh(x),
    "softplus": lambda x: np.logaddexp(0, x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "exponential": np.exp,
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.1 * x),
    "relu": lambda x: np.where(x > 0.25, np.minimum(x, 2.0), 0.1 * (x - 0.25)),
    "rescale": lambda x: x * (1 / 3) + 0.1,
    "subtract": lambda x: 3.0 - x,
    "power": lambda x: x**2,
}


def function(name):
    return ElementwiseFunction(name, **SETTINGS.get(name, {}))


def output_for(activation, source, **arguments):
    """A quantizer whose range is that of the function on the input's range."""
    values = np.asarray(activation(np.linspace(float(source.low), float(source.high), 1001)))
    quantizer = OutputQuantizer(**arguments)
    quantizer.set_range(float(values.min()), float(values.max()))
    return quantizer


def every_integer(quantizer):
    lowest, highest = quantizer.integers
    return np.arange(lowest, highest + 1)


def relative(quantizer):
    return (every_integer(quantizer) - int(quantizer.zero_point)).astype("float32")


def engine(layer):
    source = layer.input_quantizer
    return lower_lookup(layer)(QuantizedTensor(every_integer(source), source.format()), notes=Notes())


def traced(layers, inputs, **options):
    """What `predict` of a model computes, one output for each layer."""
    x = keras.Input((1,))
    model = keras.Model(x, [layer(x) for layer in layers])
    model.compile(**options)
    return [y[:, 0] for y in model.predict(inputs[:, None], batch_size=len(inputs), verbose=0)]


@pytest.mark.parametrize(
    ("bitwidth", "scale", "compiled"),
    [(8, "float", [False, True]), (8, "power_of_two", []), (16, "float", [False]), (5, "float", [])],
)
def test_simulation_and_engine_read_the_same_tables(ranged, bitwidth, scale, compiled):
    source = ranged(-3.7, 5.1, bitwidth=bitwidth, scale=scale)
    layers = []
    for name in FUNCTIONS:
        output = output_for(function(name), source, bitwidth=bitwidth, scale=scale)
        layers.append(QActivation(function(name), source, output, name=name))
    x = relative(source)
    expected = [engine(layer).centred for layer in layers]
    for simulated in ([layer(x) for layer in layers], *(traced(layers, x, jit_compile=jit) for jit in compiled)):
        for layer, ours, theirs in zip(layers, simulated, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=layer.name)


@pytest.mark.parametrize("name", FLOAT64)
def test_the_table_is_the_rounded_function(ranged, name):
    source = ranged(-6.3, 4.9)
    output = output_for(FLOAT64[name], source)
    table = lower_lookup(QActivation(function(name), source, output)).table
    format_in, format_out = source.format(), output.format()
    real = FLOAT64[name]((np.arange(256) - format_in.zero_point) * np.float64(format_in.scale))
    steps = real / np.float64(format_out.scale)
    inside = np.clip(steps, *format_out.centred_integers)
    np.testing.assert_array_less(np.abs(table - format_out.zero_point - inside), 0.5 + 1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_compute_in_float64(name):
    y = function(name)(keras.ops.convert_to_tensor(np.linspace(-4, 4, 9), "float64"))
    assert keras.backend.standardize_dtype(y.dtype) == "float64"
    if name in FLOAT64:
        np.testing.assert_allclose(y, FLOAT64[name](np.linspace(-4, 4, 9)), rtol=1e-12, atol=1e-14)


def test_ties_go_to_even_whatever_the_last_bits_say(ranged):
    source, output = ranged(0, 255.0, symmetric=True, signed=False), ranged(0, 255.0, symmetric=True, signed=False)
    halves = lower_lookup(QActivation(ElementwiseFunction("multiply", after=[0.5]), source, output)).table
    np.testing.assert_array_equal(halves, np.rint(np.arange(256) / 2))
    thirds = lower_lookup(QActivation(ElementwiseFunction("multiply", after=[1 / 6]), source, output)).table
    assert [thirds[3], thirds[9], thirds[15]] == [0, 2, 2]


def test_a_fused_clamp_bounds_the_table(ranged):
    source, output = ranged(-4.0, 4.0), ranged(0.0, 6.0)
    layer = QActivation(ElementwiseFunction("add", after=[3.0]), source, output, clamp="relu6")
    real = lower_lookup(layer).table * np.float64(output.scale)
    x = (np.arange(256) - int(source.zero_point)) * np.float64(source.scale)
    np.testing.assert_allclose(real, np.clip(x + 3, 0, 6), atol=float(output.scale) / 2 + 1e-6)
    np.testing.assert_array_equal(np.asarray(layer(relative(source))), engine(layer).centred)
    narrow = QActivation("tanh", source, ranged(-1.0, 1.0), clamp=CappedReLU(0.5))
    centred = engine(narrow).centred
    assert centred.min() == 0
    assert centred.max() == round(0.5 / float(narrow.output_quantizer.scale))


def test_the_table_follows_the_quantizers(ranged):
    layer = QActivation("tanh", ranged(-2.0, 2.0), ranged(-1.0, 1.0))
    x = relative(layer.input_quantizer)
    before = np.asarray(layer(x))
    layer.output_quantizer.set_range(-2.0, 2.0)
    after = np.asarray(layer(x))
    assert np.abs(before).max() > 1.9 * np.abs(after).max()
    np.testing.assert_array_equal(after, engine(layer).centred)


def test_training_applies_the_function_to_real_values(ranged):
    layer = QActivation("silu", ranged(-4.0, 4.0), ranged(-1.0, 4.0, fixed=True))
    x = np.linspace(-3, 3, 50, dtype="float32")
    y = np.asarray(layer(x, training=True))
    np.testing.assert_allclose(y, x * expit(x), atol=float(layer.output_quantizer.scale) / 2 + 1e-6)
    steps = y / np.asarray(layer.output_quantizer.scale)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)


def test_saturations_are_counted_on_both_sides(ranged):
    layer = QActivation("exponential", ranged(-4.0, 4.0), ranged(0.0, 10.0))
    x = relative(layer.input_quantizer)
    with observe(Arithmetic.integer) as observation:
        observed = np.asarray(layer(x))
    notes = Notes()
    source = layer.input_quantizer
    computed = lower_lookup(layer)(QuantizedTensor(every_integer(source), source.format()), notes=notes)
    np.testing.assert_array_equal(observed, computed.centred)
    beyond = np.rint(np.exp(x * float(source.scale)) / float(layer.output_quantizer.scale)) > 255
    assert int(observation.seen[0][2]) == notes.output_saturations == beyond.sum() > 0


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (keras.layers.LeakyReLU(0.3), {"name": "leaky_relu", "settings": {"negative_slope": 0.3}}),
        (keras.layers.ELU(0.5), {"name": "elu", "settings": {"alpha": 0.5}}),
        (keras.layers.Activation("swish"), {"name": "silu"}),
        (keras.layers.Rescaling(0.5, offset=1), {"name": "rescale", "settings": {"scale": 0.5, "offset": 1.0}}),
        (CappedReLU(3), {"name": "relu", "settings": {"max_value": 3.0}}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_and_activations_become_functions(layer, expected):
    config = elementwise_function(layer).get_config()
    assert config == {"before": [], "after": [], "settings": {}} | expected
    x = np.linspace(-4, 4, 17, dtype="float32")
    np.testing.assert_allclose(elementwise_function(layer)(x), layer(x), rtol=1e-6)


def relu(x):
    return keras.ops.sin(x)


@pytest.mark.parametrize(
    "activation", ["softmax", "linear", relu, keras.layers.Rescaling([1.0, 2.0]), keras.layers.PReLU()]
)
def test_what_is_not_elementwise_or_not_known_is_refused(ranged, activation):
    assert elementwise_function(activation) is None
    with pytest.raises(ValueError, match="is not an elementwise function that has a table; allowed: 'absolute', 'add'"):
        QActivation(activation, ranged(), ranged())


def test_mistakes_in_arguments(ranged):
    with pytest.raises(ValueError, match="function 'sigmiod' is not known; did you mean 'sigmoid'"):
        ElementwiseFunction("sigmiod")
    with pytest.raises(ValueError, match="clamp='tanh' is not allowed; give 'relu', 'relu6' or a CappedReLU"):
        QActivation("tanh", ranged(), ranged(), clamp="tanh")


@pytest.mark.parametrize(
    ("name", "signed", "expected"),
    [
        ("sigmoid", True, True),
        ("tanh", True, False),
        ("multiply", False, True),
        ("multiply", True, False),
        ("subtract", False, False),
        ("rescale", False, True),
        ("relu", True, False),
        ("square", True, True),
    ],
)
def test_which_functions_are_never_negative(name, signed, expected):
    assert function(name).never_negative(signed) is expected


def test_saving_keeps_function_clamp_and_quantizers(ranged, tmp_path):
    x = keras.Input((3,))
    source = ranged(-3.0, 3.0)
    layer = QActivation(function("subtract"), source, ranged(0.0, 4.0), clamp=CappedReLU(4.0), name="gate")
    model = keras.Model(x, layer(x))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").get_layer("gate")
    assert loaded.function.get_config() == layer.function.get_config()
    assert loaded.bounds == (0.0, 4.0)
    np.testing.assert_array_equal(lower_lookup(loaded).table, lower_lookup(layer).table)


@pytest.mark.parametrize(
    "settings",
    [
        {"approximate": True},
        {"approximate": False},
        {"negative_slope": 0.3},
        {"negative_slope": 0.3, "max_value": 2.0},
    ],
    ids=str,
)
def test_functions_are_those_of_keras(settings):
    name = "gelu" if "approximate" in settings else "relu"
    x = np.linspace(-4, 4, 33, dtype="float32")
    expected = FUNCTIONS[name](x, **settings)
    np.testing.assert_allclose(ElementwiseFunction(name, settings=settings)(x), expected, rtol=1e-5, atol=1e-7)
