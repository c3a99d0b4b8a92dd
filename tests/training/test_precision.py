import keras
import numpy as np
import pytest
from small_training import arrays, training

from qpipe.config.schema import Precision, Task
from qpipe.training.loop import fit
from qpipe.training.precision import precision_of_layers


def nested_network():
    inner_input = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", name="inner_conv")(inner_input)
    inner = keras.Model(inner_input, keras.layers.BatchNormalization(name="inner_bn")(x), name="inner")
    inputs = keras.Input((4, 4, 2))
    x = inner(inputs)
    x = keras.layers.Add(name="add")([x, keras.layers.Conv2D(4, 1, name="conv")(inputs)])
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.ReLU(name="relu")(x))
    head = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="dense"), keras.layers.Softmax(name="softmax")]
    )
    return keras.Model(inputs, head(x))


def policies(model):
    return {layer.name: layer.dtype_policy.name for layer in model._flatten_layers(include_self=False)}


def test_layers_compute_in_16_bits_and_variables_and_outputs_stay():
    model = nested_network()
    before = policies(model)
    with precision_of_layers(model, Precision.mixed_bfloat16):
        inside = policies(model)
        output = model(np.ones((2, 4, 4, 2), "float32"), training=True)
    changed = {name for name in inside if inside[name] == "mixed_bfloat16"}
    assert changed == {"inner_conv", "inner_bn", "add", "conv", "pool", "relu", "dense"}
    assert output.dtype == "float32"
    assert {variable.dtype for variable in model.weights} == {"float32"}
    assert policies(model) == before


def test_precision_is_set_back_after_an_error():
    model = nested_network()
    before = policies(model)
    with pytest.raises(RuntimeError), precision_of_layers(model, Precision.mixed_float16):
        raise RuntimeError
    assert policies(model) == before


@pytest.mark.parametrize("precision", [Precision.mixed_bfloat16, Precision.mixed_float16])
def test_trained_model_is_an_ordinary_float32_model(rng, precision, tmp_path):
    data = arrays(rng, (3,), Task.classification, features=(4, 4, 2))
    model = nested_network()
    before = model.get_weights()
    history = fit(model, training(precision=precision), "float", data, seed=0)
    assert np.isfinite(history["loss"]).all()
    assert any((value != old).any() for value, old in zip(model.get_weights(), before, strict=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert set(policies(loaded).values()) == {"float32"}
    np.testing.assert_array_equal(loaded(data.x), model(data.x))
    assert len(np.unique(model.predict(data.x, verbose=0))) > 100
