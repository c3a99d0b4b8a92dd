import keras
import numpy as np
import pytest
from keras import layers

import qpipe
from qpipe.algorithms import calibrate
from qpipe.config.schema import QuantizerConfig
from qpipe.graph.layer_plan import Treatment
from qpipe.graph.quantization import quantize_with_plan
from qpipe.graph.trace import trace


def dense(x, units=4):
    return layers.Dense(units)(x)


AS_LAYERS = {
    "Add": lambda x: dense(x) + dense(x),
    "Subtract": lambda x: keras.ops.subtract(dense(x), dense(x)),
    "Multiply": lambda x: dense(x) * dense(x, 1),
    "Concatenate": lambda x: keras.ops.concatenate([dense(x), dense(x), dense(x)], axis=-1),
}


def model_of(build, shape=(6,)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, build(inputs))


@pytest.mark.parametrize("name", AS_LAYERS)
def test_operators_on_tensors_are_quantized_like_layers(name, randomize, rng):
    model = randomize(model_of(AS_LAYERS[name]))
    last = trace(model).nodes[-1]
    assert type(last.operation) is getattr(layers, name)
    result = quantize_with_plan(model, QuantizerConfig())
    assert all(plan.treatment is not Treatment.float for plan in result.plans)
    x = rng.normal(size=(32, 6)).astype("float32")
    calibrate(result.model, x)
    simulation = result.model.predict(x, verbose=0)
    np.testing.assert_array_equal(qpipe.integer_predict(result.model, x), simulation)
    expected = model.predict(x, verbose=0)
    assert 0 < np.abs(simulation - expected).max() < 0.05 * np.abs(expected).max()


STAY = {
    "one tensor and a constant": lambda x: dense(x) + 3.0,
    "tensors of different ranks": lambda x: dense(x) + keras.ops.mean(dense(x)),
    "the batch axis": lambda x: keras.ops.concatenate([dense(x), dense(x)], axis=0),
    "other types": lambda x: keras.ops.cast(x, "int32") * keras.ops.cast(x, "int32"),
}


@pytest.mark.parametrize("case", STAY)
def test_other_operators_stay_what_they_are(case):
    assert not isinstance(trace(model_of(STAY[case])).nodes[-1].operation, layers.Layer)
