import keras
import numpy as np
import pytest

from qpipe.integer.operator import Notes
from qpipe.layers import CappedReLU, QClamp, QConv2D, QDense
from qpipe.layers.activations import activation_of_layer, fused_bounds, never_negative
from qpipe.lowering.lookup import lower_clamp
from qpipe.numerics import QuantizedTensor
from qpipe.quantizers import OutputQuantizer, WeightQuantizer
from qpipe.quantizers.observation import Arithmetic, observe


def relu(x):
    return keras.ops.sin(x)


@pytest.mark.parametrize(
    ("activation", "bounds"),
    [
        (None, (-np.inf, np.inf)),
        ("relu", (0.0, np.inf)),
        (keras.activations.relu6, (0.0, 6.0)),
        (CappedReLU(2.5), (0.0, 2.5)),
        (relu, None),
        ("tanh", None),
    ],
)
def test_bounds_of_activations_are_found_by_the_object(activation, bounds):
    assert fused_bounds(activation) == bounds


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (keras.layers.ReLU(), "relu"),
        (keras.layers.ReLU(6), "relu6"),
        (keras.layers.ReLU(3.5), 3.5),
        (keras.layers.ReLU(negative_slope=0.1), None),
        (keras.layers.ReLU(threshold=1.0), None),
        (keras.layers.Activation("relu6"), "relu6"),
        (keras.layers.Activation(CappedReLU(2)), 2.0),
        (keras.layers.Activation(relu), None),
        (keras.layers.Activation("linear"), None),
    ],
)
def test_layers_that_are_clamps(layer, expected):
    found = activation_of_layer(layer)
    assert (found.cap if isinstance(found, CappedReLU) else found) == expected
    assert never_negative(layer) is (expected is not None)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (keras.ops.relu, "relu"),
        (keras.ops.relu6, "relu6"),
        (lambda x: keras.activations.relu(x, max_value=4.0), 4.0),
        (lambda x: keras.activations.relu(x, negative_slope=0.5), None),
        (keras.ops.tanh, None),
    ],
)
def test_operations_that_are_clamps(operation, expected):
    found = activation_of_layer(operation(keras.Input((3,)))._keras_history.operation)
    assert (found.cap if isinstance(found, CappedReLU) else found) == expected


@pytest.mark.parametrize("scale", ["float", "power_of_two"])
@pytest.mark.parametrize("activation", ["relu", "relu6", CappedReLU(2.3)])
def test_a_clamp_on_its_own(ranged, activation, scale):
    source = ranged(-3.0, 9.0, scale=scale)
    layer = QClamp(activation, source)
    x = np.arange(256) - int(source.zero_point)
    integers = np.asarray(layer(x.astype("float32")))
    cap = np.rint(np.float32(layer.bounds[1]) / np.float32(source.scale))
    np.testing.assert_array_equal(integers, np.clip(x, 0, cap))
    computed = lower_clamp(layer)(QuantizedTensor(np.arange(256), source.format()), notes=Notes())
    np.testing.assert_array_equal(integers, computed.centred)
    real = x.astype("float32") * np.float32(source.scale)
    np.testing.assert_allclose(layer(real, training=True), integers * np.float32(source.scale), rtol=1e-6)
    with observe(Arithmetic.weights):
        np.testing.assert_allclose(layer(real), np.clip(real, 0, layer.bounds[1]), rtol=1e-6)


@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_only_clamps_clamp(ranged, activation):
    with pytest.raises(ValueError, match=f"activation '{activation}' is not allowed; give 'relu'"):
        QClamp(activation, ranged())


@pytest.mark.parametrize("cap", [-1.0, float("nan"), float("inf")])
def test_caps_are_finite_and_not_negative(cap):
    with pytest.raises(ValueError, match=r"cap=.* is not allowed; give a finite number of at least 0"):
        CappedReLU(cap)


def test_linear_layers_take_a_capped_relu_and_save_it(ranged, rng, tmp_path):
    source = ranged(-3.0, 3.0, name="source")
    connected = {"kernel_quantizer": WeightQuantizer(), "input_quantizer": source}
    x = keras.Input((4, 4, 2))
    y = QConv2D(3, 1, activation=CappedReLU(1.5), output_quantizer=ranged(0.0, 2.0), name="conv", **connected)(x)
    model = keras.Model(x, QClamp(CappedReLU(1.0), y._keras_history.operation.output_quantizer, name="clamp")(y))
    integers = rng.integers(-100, 100, (2, 4, 4, 2)).astype("float32")
    expected = model(integers)
    highest = np.rint(np.float32(1.0) / np.float32(model.get_layer("conv").output_quantizer.scale))
    assert np.max(expected) == highest
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(integers), expected)
    assert loaded.get_layer("conv").bounds == (0.0, 1.5)
    assert loaded.get_layer("clamp").input_quantizer is loaded.get_layer("conv").output_quantizer


def test_layers_as_activations_are_refused_by_name():
    with pytest.raises(ValueError, match="activation 'leakyrelu' can't be fused"):
        QDense(2, activation=keras.layers.LeakyReLU(), output_quantizer=OutputQuantizer())
