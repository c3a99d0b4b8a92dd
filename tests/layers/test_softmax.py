import keras
import numpy as np
import pytest

from qpipe.integer.operator import Notes
from qpipe.layers import QSoftmax
from qpipe.lowering.softmax import lower_softmax
from qpipe.numerics import QuantizedTensor
from qpipe.quantizers import OutputQuantizer


def shares(bitwidth=8):
    quantizer = OutputQuantizer(bitwidth, symmetric=True, signed=False, scale="power_of_two")
    quantizer.set_parameters(2.0**-bitwidth, 0)
    return quantizer


def engine(layer, integers):
    return lower_softmax(layer)(QuantizedTensor(integers, layer.input_quantizer.format()), notes=Notes()).integers


def exact(integers, scale, bitwidth):
    real = np.float64(scale) * (integers - integers.max(axis=-1, keepdims=True))
    share = np.exp(real) / np.exp(real).sum(axis=-1, keepdims=True)
    return np.minimum(np.rint(share * 2.0**bitwidth), 2**bitwidth - 1)


@pytest.mark.parametrize(("bitwidth", "classes"), [(8, 2), (8, 10), (8, 1000), (16, 10), (4, 5)])
def test_simulation_and_engine_give_the_same_integers(ranged, rng, bitwidth, classes):
    layer = QSoftmax(ranged(-7.0, 6.0, bitwidth=bitwidth), shares(bitwidth))
    integers = rng.integers(0, 2**bitwidth, (40, 3, classes))
    integers[0] = 5
    computed = engine(layer, integers)
    x = keras.Input((3, classes))
    model = keras.Model(x, layer(x))
    centred = (integers - int(layer.input_quantizer.zero_point)).astype("float32")
    for jit in (False, True):
        model.compile(jit_compile=jit)
        np.testing.assert_array_equal(model.predict(centred, batch_size=40, verbose=0), computed)
    difference = np.abs(computed - exact(integers, layer.input_quantizer.scale, bitwidth))
    assert difference.max() <= 1
    assert (difference > 0).mean() < (1e-2 if bitwidth == 16 else 1e-3)


def test_equal_values_share_equally(ranged):
    layer = QSoftmax(ranged(-7.0, 6.0), shares())
    np.testing.assert_array_equal(engine(layer, np.full((1, 4), 77)), [[64, 64, 64, 64]])
    np.testing.assert_array_equal(engine(layer, np.array([[255, 0, 0]])), [[255, 0, 0]])


def test_training_gives_shares_on_the_grid(ranged, rng):
    layer = QSoftmax(ranged(-7.0, 6.0), shares())
    x = rng.normal(size=(6, 5)).astype("float32")
    y = np.asarray(layer(x, training=True))
    np.testing.assert_allclose(y, keras.ops.softmax(x), atol=0.5 / 256 + 1e-6)
    np.testing.assert_array_equal(y * 256, np.rint(y * 256))


def test_saving(ranged, rng, tmp_path):
    x = keras.Input((5,))
    layer = QSoftmax(ranged(-7.0, 6.0), shares(), name="softmax")
    model = keras.Model(x, layer(x))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    integers = rng.integers(-100, 100, (7, 5)).astype("float32")
    np.testing.assert_array_equal(loaded(integers), model(integers))
    assert loaded.get_layer("softmax").output_quantizer.fixed
