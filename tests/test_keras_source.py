import inspect

import keras
import pytest

from qpipe import keras_source


@pytest.mark.parametrize(
    "module", ["layers", "optimizers", "losses", "callbacks", "applications", "optimizers.schedules"]
)
def test_classes_are_those_that_keras_has(module):
    owner = keras
    for part in module.split("."):
        owner = getattr(owner, part)
    assert set(keras_source.classes(f"keras.{module}")) == {name for name in dir(owner) if name[0].isupper()}


@pytest.mark.parametrize("name", keras_source.classes("keras.layers"))
def test_arguments_of_every_layer(name):
    signature = inspect.signature(getattr(keras.layers, name))
    named = {key for key, value in signature.parameters.items() if value.kind not in (2, 4)}
    assert named <= set(keras_source.arguments("keras.layers", name))


def test_arguments_that_reach_the_base_class():
    assert {"filters", "kernel_regularizer", "trainable", "name", "dtype"} <= set(
        keras_source.arguments("keras.layers", "Conv2D")
    )
    assert "filters" not in keras_source.arguments("keras.layers", "Add")


def test_applications_are_functions():
    arguments = keras_source.arguments("keras.applications", "MobileNet")
    assert list(arguments) == list(inspect.signature(keras.applications.MobileNet).parameters)


def test_modules():
    assert {"mnist", "cifar10", "imdb"} <= set(keras_source.modules("keras.datasets"))
