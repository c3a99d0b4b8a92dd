import sys

import pytest

from qpipe.config.schema import CallableModel, LayersModel
from qpipe.errors import ModelError
from qpipe.models import build_model, check_savable, savable
from qpipe.signature import Signature

SIGNATURE = Signature(input_shape=(4,), output_shape=(2,))
OWN_PARTS = """
import keras

class Scale(keras.layers.Layer):
    def __init__(self, factor, **options):
        super().__init__(**options)
        self.factor = float(factor)

    def call(self, x):
        return self.factor * x

class Forgetful(Scale):
    def get_config(self):
        return keras.layers.Layer.get_config(self)

def half(x):
    return 0.5 * x

def net(layer, input_shape, classes):
    inputs = keras.Input(input_shape)
    local = lambda x: 0.5 * x
    local.__name__ = "local"
    own = {
        "none": lambda: keras.layers.ReLU(),
        "good": lambda: Scale(2),
        "object": lambda: Scale(Number()),
        "forgetful": lambda: Forgetful(2),
        "half": lambda: keras.layers.Activation(half),
        "local": lambda: keras.layers.Activation(local),
    }[layer]()
    return keras.Model(inputs, own(keras.layers.Dense(classes)(inputs)))

class Number:
    def __float__(self):
        return 2.0
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_savable.py").write_text(OWN_PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_savable", raising=False)
    return lambda layer: CallableModel(_target_="own_savable.net", arguments={"layer": layer})


@pytest.mark.parametrize("layer", ["good", "half"])
def test_what_loads_again_passes(own, layer):
    check_savable(own(layer), build_model(own(layer), SIGNATURE))


@pytest.mark.parametrize(("layer", "name"), [("object", "Scale"), ("forgetful", "Forgetful"), ("local", "local")])
def test_what_does_not_load_again_is_named(own, layer, name):
    model = build_model(own(layer), SIGNATURE)
    message = rf"^model\._target_: the model can't be saved .* because of '(own_savable\.)?{name}' .*get_config"
    with pytest.raises(ModelError, match=message) as caught:
        check_savable(own(layer), model)
    assert "\n" not in str(caught.value)


def test_keras_own_layers_are_not_saved(own, monkeypatch):
    monkeypatch.setattr(savable, "load_built", lambda *_: pytest.fail("was loaded"))
    check_savable(own("none"), build_model(own("none"), SIGNATURE))
    layers = LayersModel(layers=[{"layer": "Dense", "units": "classes"}])
    check_savable(layers, build_model(layers, SIGNATURE))
