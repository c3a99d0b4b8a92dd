import sys

import keras
import numpy as np
import pytest

from qpipe.config.schema import CallableModel
from qpipe.errors import ConfigError, ModelError
from qpipe.models import build_model, check_model_source, load_built
from qpipe.signature import Signature

SIGNATURE = Signature(input_shape=(8, 8, 1), output_shape=(4,))
OWN_MODELS = """
import keras

def net(input_shape, classes, width=2, activation=None):
    inputs = keras.Input(input_shape)
    x = keras.layers.Dense(width)(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(classes, activation=activation)(x))

def half(x):
    return 0.5 * x

class Twice(keras.layers.Layer):
    def call(self, x):
        return 2.0 * x

def own_parts(input_shape, classes):
    inputs = keras.Input(input_shape)
    x = Twice()(keras.layers.Lambda(lambda x: x + 1.0)(keras.layers.Flatten()(inputs)))
    return keras.Model(inputs, keras.layers.Dense(classes, activation=half)(x))

def fixed():
    return net((4, 4, 1), 4)

def nothing():
    return None

def broken():
    raise RuntimeError("No such luck.")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_models_of_a_user.py").write_text(OWN_MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name, **arguments: CallableModel(_target_=f"own_models_of_a_user.{name}", arguments=arguments)


def test_the_function_gets_shape_classes_and_arguments(own):
    model = build_model(own("net", width=5, activation={"_target_": "keras.layers.ReLU"}), SIGNATURE)
    assert (model.input_shape, model.output_shape) == ((None, 8, 8, 1), (None, 4))
    assert model.layers[2].units == 5
    assert isinstance(model.layers[3].activation, keras.layers.ReLU)


def test_a_model_with_classes_and_functions_of_the_users_own_loads_again(own, tmp_path, monkeypatch):
    config = own("own_parts")
    model = build_model(config, SIGNATURE)
    model.save(tmp_path / "saved.keras")
    monkeypatch.delitem(sys.modules, "own_models_of_a_user")
    x = np.ones((1, 8, 8, 1), "float32")
    np.testing.assert_array_equal(load_built(config, tmp_path / "saved.keras")(x), model(x))


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("nett", {}, ConfigError, r"^model\._target_: .*has no 'nett'; did you mean 'net'"),
        ("net", {"widht": 3}, ConfigError, r"^model\._target_: .* has no argument 'widht'; did you mean 'width'"),
        ("nothing", {}, ModelError, r"^model\._target_: .*nothing returned a NoneType; a Keras model is needed"),
        ("broken", {}, ConfigError, r"^model\._target_: .*broken raised RuntimeError: No such luck"),
        ("fixed", {}, ModelError, r"set data\.image_size=\[4,4\]"),
    ],
)
def test_mistake_is_one_sentence(own, name, arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        build_model(own(name, **arguments), SIGNATURE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        ("nowhere.net", {}, r"^model\._target_: there is no module 'nowhere'"),
        ("net", {}, r"^model\._target_: 'net' is not allowed; give a dotted path"),
        ("keras.applications.MobilNet", {}, r"^model\._target_: .*did you mean 'MobileNet'"),
        (
            "keras.applications.MobileNet",
            {"alpha": {"_target_": "keras.nowhere.X"}},
            r"^model\.arguments\.alpha: Keras has no",
        ),
    ],
)
def test_mistake_is_found_without_importing_the_target(target, arguments, message):
    with pytest.raises(ConfigError, match=message):
        check_model_source(CallableModel(_target_=target, arguments=arguments))
