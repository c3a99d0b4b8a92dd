from urllib.error import URLError

import keras
import numpy as np
import pytest

from qpipe import keras_source
from qpipe.config.schema import ApplicationModel, Task
from qpipe.errors import ModelError
from qpipe.models import build_model, check_model_source
from qpipe.signature import Signature

SHAPE = (32, 32, 3)
TINY = {"alpha": 0.25}


def tiny(**options):
    return ApplicationModel(**{"application": "MobileNet", "arguments": TINY, **options})


def build(config, input_shape=SHAPE, classes=10, task=Task.classification):
    return build_model(config, Signature(input_shape=input_shape, output_shape=(classes,), task=task))


def test_names_and_arguments_are_those_that_keras_has():
    names = keras_source.classes("keras.applications")
    assert set(names) == {name for name in dir(keras.applications) if name[0].isupper()}
    assert all("weights" in keras_source.arguments("keras.applications", name) for name in names)


def test_application_is_built_for_the_data():
    model = build(tiny())
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 10)
    assert model.count_params() < 300_000


@pytest.mark.parametrize(
    ("task", "activation"),
    [(Task.classification, "softmax"), (Task.multilabel, "sigmoid"), (Task.regression, "linear")],
)
def test_the_task_decides_the_activation_of_either_head(task, activation):
    assert build(tiny(), task=task).layers[-1].activation.__name__ == activation
    model = build(tiny(arguments={**TINY, "include_top": False}), task=task)
    assert (model.layers[-1].name, model.layers[-1].activation.__name__) == ("predictions", activation)
    assert isinstance(model.layers[-2], keras.layers.GlobalAveragePooling2D)
    assert model.output_shape == (None, 10)


def test_the_users_activation_and_pooling_stay():
    own = tiny(arguments={**TINY, "classifier_activation": None})
    assert build(own).layers[-1].activation is keras.activations.linear
    pooled = build(tiny(arguments={**TINY, "include_top": False, "pooling": "max"}))
    assert isinstance(pooled.layers[-2], keras.layers.GlobalMaxPooling2D)


def test_momentum_goes_to_all_batch_normalizations():
    model = build(tiny(batchnorm_momentum=0.9))
    momenta = [layer.momentum for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert momenta == [0.9] * 27


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    source = keras.applications.MobileNet(input_shape=SHAPE, classes=10, weights=None, alpha=0.25)
    path = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
    source.save_weights(path)
    return path, source.get_weights()


def test_weights_of_a_file_are_loaded(weights):
    path, expected = weights
    loaded = build(tiny(weights=str(path)))
    for ours, theirs in zip(loaded.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    without_top = tiny(weights=str(path), arguments={**TINY, "include_top": False})
    np.testing.assert_array_equal(build(without_top, classes=3).get_weights()[0], expected[0])


@pytest.mark.parametrize("mistake", ["classes", "network", "no weights"])
def test_weights_that_do_not_fit_are_one_sentence(weights, tmp_path, mistake, recwarn):
    path = weights[0]
    if mistake == "no weights":
        path = tmp_path / "foreign.weights.h5"
        path.write_bytes(b"something else")
    config = tiny(weights=str(path), arguments={"alpha": 0.5 if mistake == "network" else 0.25})
    message = r"model\.weights=.*\.weights\.h5 can't be loaded into keras\.applications\.MobileNet: .*same network"
    with pytest.raises(ModelError, match=message) as caught:
        build(config, classes=7 if mistake == "classes" else 10)
    assert "\n" not in str(caught.value)
    assert [warning for warning in recwarn if "Skipping nested" in str(warning.message)] == []


def test_a_download_that_fails_is_one_sentence(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise URLError("no route to host")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", refuse)
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    message = r"model\.weights=imagenet: the weights of MobileNet can't be downloaded \(.*no route to host.*without"
    with pytest.raises(ModelError, match=message) as caught:
        build(tiny(weights="imagenet"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "task", "new_head"),
    [(10, Task.classification, True), (1000, Task.multilabel, True), (1000, Task.classification, False)],
)
def test_imagenet_weights_get_a_new_head_for_other_classes(monkeypatch, classes, task, new_head):
    builder, seen = keras.applications.MobileNet, {}

    def without_download(**arguments):
        seen.update(arguments)
        return builder(**{**arguments, "weights": None})

    monkeypatch.setattr(keras.applications, "MobileNet", without_download)
    model = build(tiny(weights="imagenet"), classes=classes, task=task)
    assert seen["weights"] == "imagenet"
    assert ("include_top" in seen) == new_head
    assert (model.layers[-1].name == "predictions") == new_head or isinstance(model.layers[-2], keras.layers.Reshape)
    assert model.output_shape == (None, classes)


MISTAKES = {
    "unknown name": ({"application": "MobilNet"}, r"model\.application='MobilNet'.*did you mean 'MobileNet'"),
    "unknown argument": ({"arguments": {"alhpa": 0.25}}, r"model\.arguments\.alhpa .*did you mean 'alpha'"),
    "shape as argument": (
        {"arguments": {"input_shape": [8, 8, 3]}},
        r"model\.arguments\.input_shape .*data\.image_size",
    ),
    "missing weights": (
        {"weights": "nothing.weights.h5"},
        r"model\.weights=nothing\.weights\.h5 does not exist .*imagenet or the path",
    ),
    "long name": ({"weights": "w" * 300}, r"model\.weights=w+ can't be read: File name too long"),
    "no such home": ({"weights": "~nosuchuser/x.h5"}, r"model\.weights=.* ~nosuchuser is no known home folder"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_found_before_keras_is_needed(name):
    options, message = MISTAKES[name]
    with pytest.raises(ModelError, match=message):
        check_model_source(tiny(**options))


def test_what_only_keras_refuses_is_one_sentence():
    with pytest.raises(ModelError, match=r"keras\.applications\.MobileNet refuses .*much") as caught:
        build(tiny(arguments={**TINY, "dropout": "much"}))
    assert "\n" not in str(caught.value)


def test_images_that_are_too_small():
    with pytest.raises(ModelError, match=r"^model\.application: .*data\.image_size=\[75,75\] or more"):
        build(ApplicationModel(application="InceptionV3"))


def test_data_that_are_no_images():
    with pytest.raises(ModelError, match=r"takes images .*samples of shape \(16,\)"):
        build(tiny(), input_shape=(16,))
