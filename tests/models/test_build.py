import zipfile

import keras
import numpy as np
import pytest

from qpipe.config.schema import ApplicationModel, FileModel
from qpipe.errors import ModelError
from qpipe.models import build_model
from qpipe.models.keras_applications import builder_names, preprocess_names

SHAPE = (32, 32, 3)


def build(config, input_shape=SHAPE, classes=10):
    return build_model(config, input_shape=input_shape, classes=classes)


def file(path, **options):
    return FileModel(path=str(path), **options)


@pytest.fixture
def small():
    inputs = keras.Input((8, 6, 1))
    x = keras.layers.Conv2D(2, 3)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(4)(x), name="small")


@pytest.fixture
def saved(small, tmp_path):
    path = tmp_path / "small.keras"
    small.save(path)
    return path


def test_names_are_those_that_keras_has():
    public = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(builder_names()) == public
    modules = {
        name for name in dir(keras.applications) if hasattr(getattr(keras.applications, name), "preprocess_input")
    }
    assert set(preprocess_names()) == modules - {"imagenet_utils"}


def test_application_is_built_for_the_data():
    model = build(ApplicationModel(application="MobileNet", arguments={"alpha": 0.25}))
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 10)
    assert model.count_params() < 300_000


APPLICATION_MISTAKES = {
    "unknown name": ({"application": "MobilNet"}, r"model\.application='MobilNet'.*did you mean 'MobileNet'"),
    "unknown argument": ({"arguments": {"alhpa": 0.25}}, r"model\.arguments\.alhpa .*did you mean 'alpha'"),
    "shape as argument": (
        {"arguments": {"input_shape": [8, 8, 3]}},
        r"model\.arguments\.input_shape .*data\.image_size",
    ),
    "refused value": (
        {"arguments": {"alpha": 0.25, "dropout": "much"}},
        r"keras\.applications\.MobileNet refuses .*much",
    ),
    "weights of another size": ({"weights": "imagenet"}, "classes.* should be 1000"),
    "missing weights": ({"weights": "nothing.weights.h5"}, r"model\.weights=nothing\.weights\.h5 is neither"),
    "no classifier": ({"arguments": {"include_top": False}}, "one score per class"),
}


@pytest.mark.parametrize("name", APPLICATION_MISTAKES)
def test_mistake_in_an_application_is_one_clear_sentence(name):
    options, message = APPLICATION_MISTAKES[name]
    with pytest.raises(ModelError, match=message) as caught:
        build(ApplicationModel(**{"application": "MobileNet", **options}))
    assert "\n" not in str(caught.value)


def test_saved_model_is_loaded_with_its_weights(small, saved):
    x = np.random.default_rng(0).normal(size=(3, 8, 6, 1)).astype(np.float32)
    loaded = build(file(saved), input_shape=(8, 6, 1), classes=4)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), small.predict(x, verbose=0))


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [
        ((16, 6, 1), 4, r"\(8, 6, 1\).*\(16, 6, 1\).*: set data\.image_size=\[8,6\]\."),
        ((8, 6, 3), 4, r": set data\.channels=1\."),
        ((9, 9, 3), 4, r": set data\.image_size=\[8,6\] and data\.channels=1\."),
        ((8, 6, 1), 5, r"\(None, 4\), but the data has 5 classes"),
    ],
)
def test_model_that_does_not_fit_the_data(saved, shape, classes, message):
    with pytest.raises(ModelError, match=message):
        build(file(saved), input_shape=shape, classes=classes)


def test_code_in_a_file_runs_only_if_trusted(tmp_path):
    path = tmp_path / "lambda.keras"
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Lambda(lambda t: t * 2.0, output_shape=(4, 4, 1))(inputs)
    keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x))).save(path)
    with pytest.raises(ModelError, match=r"set model\.trusted=true if you trust this file"):
        build(file(path), input_shape=(4, 4, 1), classes=2)
    assert build(file(path, trusted=True), input_shape=(4, 4, 1), classes=2).output_shape == (None, 2)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ModelError, match=r"model\.path=.*nothing\.keras does not exist"):
        build(file(tmp_path / "nothing.keras"))
    with pytest.raises(ModelError, match="is a folder"):
        build(file(tmp_path))


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_truncated_file(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(ModelError, match="truncated"):
        build(file(saved))


def test_damaged_file(saved):
    with zipfile.ZipFile(saved) as archive:
        start = archive.getinfo("model.weights.h5").header_offset
    content = bytearray(saved.read_bytes())
    content[start + 500] ^= 255
    saved.write_bytes(content)
    with pytest.raises(ModelError, match=r"checksum of its member model\.weights\.h5 is wrong"):
        build(file(saved))


def test_foreign_files(small, saved, tmp_path):
    other = tmp_path / "other.keras"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelError, match=r"lacks config\.json"):
        build(file(other))
    renamed = saved.rename(tmp_path / "small.zip")
    with pytest.raises(ModelError, match=r"has to end in \.keras"):
        build(file(renamed))


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_several_inputs_or_outputs_are_refused(tmp_path, kind):
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    dense = keras.layers.Dense(2)
    model = keras.Model([a, b], dense(a + b)) if kind == "inputs" else keras.Model(a, [dense(a), a])
    model.save(tmp_path / "several.keras")
    with pytest.raises(ModelError, match=f"has 2 {kind}"):
        build(file(tmp_path / "several.keras"))


def test_class_that_is_not_known_is_named(saved):
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = members["config.json"].replace(b'"Conv2D"', b'"Conv2Dx"')
    with zipfile.ZipFile(saved, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ModelError, match=r"can't be loaded by Keras: .*Conv2Dx") as caught:
        build(file(saved))
    assert "\n" not in str(caught.value)
