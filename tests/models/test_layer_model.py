import keras
import numpy as np
import pytest

from qpipe.config.composition import composed, to_job_config
from qpipe.config.schema import LayersModel
from qpipe.errors import ConfigError, ModelError
from qpipe.models import build_model
from qpipe.signature import Signature

SIGNATURE = Signature(input_shape=(8, 8, 1), output_shape=(4,))
STEM = {"layer": "Conv2D", "name": "stem", "filters": 2, "kernel_size": 3, "padding": "same"}
HEAD = [{"layer": "GlobalAveragePooling2D"}, {"layer": "Dense", "name": "scores", "units": "classes"}]


def build(*layers, signature=SIGNATURE, **options):
    return build_model(LayersModel(layers=list(layers), **options), signature)


def test_branches_compute_what_the_list_says():
    model = build(
        STEM,
        {"layer": "ReLU", "name": "left"},
        {"layer": "Conv2D", "name": "right", "inputs": "stem", "filters": 2, "kernel_size": 1},
        {"layer": "Add", "name": "sum", "inputs": ["left", "right"]},
        *HEAD,
    )
    assert model.layers[0].name == "input"
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    layers = {layer.name: layer for layer in model.layers}
    stem = layers["stem"](x)
    features = np.mean(np.maximum(stem, 0) + np.asarray(layers["right"](stem)), axis=(1, 2))
    np.testing.assert_allclose(model(x), layers["scores"](features), rtol=1e-5, atol=1e-6)


def test_the_same_list_and_seed_give_the_same_model():
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        model = build(STEM, *HEAD)
        weights.append(model.get_weights())
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)
    assert [layer.name for layer in model.layers] == ["input", "stem", "global_average_pooling2d", "scores"]


def test_classes_stand_for_the_datas_number_everywhere_but_in_names():
    model = build(
        {"layer": "Flatten", "name": "classes"},
        {"layer": "Dense", "units": 8},
        {"layer": "Reshape", "target_shape": [2, "classes"], "inputs": "dense"},
        {"layer": "GlobalAveragePooling1D"},
    )
    assert model.output_shape == (None, 4)
    assert model.layers[1].name == "classes"


def test_a_dense_output():
    pixels = Signature(input_shape=(8, 8, 1), output_shape=(8, 8, 3))
    model = build(STEM, {"layer": "Conv2D", "filters": "classes", "kernel_size": 1}, signature=pixels)
    assert model.output_shape == (None, 8, 8, 3)


def test_several_outputs_keep_their_order():
    early = {"layer": "Dense", "name": "early", "units": "classes", "inputs": "global_average_pooling2d"}
    model = build(STEM, *HEAD, early, outputs=["scores", "early"])
    assert [tensor._keras_history.operation.name for tensor in model.outputs] == ["scores", "early"]


def test_arguments_may_be_objects():
    model = build(STEM | {"kernel_regularizer": {"_target_": "keras.regularizers.L2", "l2": 0.5}}, *HEAD)
    assert model.get_layer("stem").kernel_regularizer.l2 == pytest.approx(0.5)


OWN_LAYERS = """
import keras

class Twice(keras.layers.Layer):
    def __init__(self, factor=2.0, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, x):
        return self.factor * x

class Pair(keras.layers.Layer):
    def call(self, x):
        return x, x

def function():
    return None
"""


@pytest.fixture
def own_layers(tmp_path, monkeypatch):
    (tmp_path / "own_layers_of_a_user.py").write_text(OWN_LAYERS)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_layers_of_a_user"


def test_layers_of_the_users_own(own_layers):
    model = build(STEM, {"layer": f"{own_layers}.Twice", "factor": 3.0}, *HEAD)
    assert model.get_layer("twice").factor == 3.0


def test_layers_of_the_users_own_that_do_not_fit(own_layers):
    with pytest.raises(ConfigError, match=r"^model\.layers\[0\]\.layer: .*has no 'Twise'; did you mean 'Twice'"):
        build({"layer": f"{own_layers}.Twise"}, *HEAD)
    with pytest.raises(ModelError, match=r"^model\.layers\[0\]\.layer: .*function is not a class of Keras layers"):
        build({"layer": f"{own_layers}.function"}, *HEAD)
    with pytest.raises(ModelError, match=r"^model\.layers\[0\] \('pair', .*\) gives a tuple; .*one tensor"):
        build({"layer": f"{own_layers}.Pair"}, *HEAD)


REFUSED = {
    "value": ([STEM | {"padding": "some"}, *HEAD], r"^model\.layers\[0\] \('stem', Conv2D\): .*padding"),
    "missing argument": (
        [{"layer": "Conv2D", "filters": 2}, *HEAD],
        r"^model\.layers\[0\] \('conv2d', Conv2D\): .*missing .*'kernel_size'",
    ),
    "rank": ([*HEAD, STEM | {"filters": "classes"}], r"^model\.layers\[2\] \('stem', Conv2D\) does not take 'scores'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_keras_sees_names_the_layer(name):
    layers, message = REFUSED[name]
    with pytest.raises(ModelError, match=message) as caught:
        build(*layers)
    assert "\n" not in str(caught.value)


def test_shapes_that_do_not_fit_each_other_are_named():
    pool = {"layer": "MaxPooling2D", "name": "pool", "pool_size": 3}
    add = {"layer": "Add", "name": "sum", "inputs": ["stem", "pool"]}
    message = r"^model\.layers\[2\] \('sum', Add\) does not take 'stem' \(None, 8, 8, 2\), 'pool' \(None, 2, 2, 2\): "
    with pytest.raises(ModelError, match=message):
        build(STEM, pool, add, *HEAD)


SHIPPED = {
    "mlp": ((8, 8, 1), (10,)),
    "resnet_layers": ((16, 16, 1), (10,)),
    "preact_resnet": ((16, 16, 1), (10,)),
    "unet": ((16, 16, 1), (16, 16, 11)),
    "ds_cnn": ((49, 10, 1), (12,)),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_layer_lists_build(name):
    with composed([f"model={name}"]) as tree:
        config = to_job_config(tree).model
    input_shape, output_shape = SHIPPED[name]
    model = build_model(config, Signature(input_shape=input_shape, output_shape=output_shape))
    assert model.output_shape == (None, *output_shape)
    assert model.layers[-1].activation.__name__ == "softmax"
