import importlib
import sys
import zipfile

import keras
import numpy as np
import pytest

from qpipe.config.schema import FileModel
from qpipe.errors import ModelError
from qpipe.models import build_model
from qpipe.signature import Signature


def build(config, input_shape=(32, 32, 3), classes=10):
    return build_model(config, Signature(input_shape=input_shape, output_shape=(classes,)))


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


def test_saved_model_is_loaded_with_its_weights(small, saved):
    x = np.random.default_rng(0).normal(size=(3, 8, 6, 1)).astype(np.float32)
    loaded = build(file(saved), input_shape=(8, 6, 1), classes=4)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), small.predict(x, verbose=0))


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


OWN_CODE = """
import keras

class Twice(keras.layers.Layer):
    def call(self, x):
        return 2.0 * x

@keras.saving.register_keras_serializable("mine")
class Thrice(Twice):
    def call(self, x):
        return 3.0 * x

def half(x):
    return 0.5 * x
"""


@pytest.fixture(scope="module")
def with_own_code(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_code_of_a_user.py").write_text(OWN_CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        own = importlib.import_module("own_code_of_a_user")
    del sys.modules["own_code_of_a_user"]
    inputs = keras.Input((2,))
    dense = keras.layers.Dense(2, activation=own.half, kernel_initializer="identity")
    keras.Model(inputs, own.Thrice()(own.Twice()(dense(inputs)))).save(folder / "own.keras")
    return folder


def test_classes_of_the_users_own_are_imported_only_if_trusted(with_own_code, monkeypatch):
    path = with_own_code / "own.keras"
    monkeypatch.chdir(with_own_code)
    with pytest.raises(ModelError, match=r"needs '(Twice|half)', which Keras does not have: set model\.trusted=true"):
        build(file(path), input_shape=(2,), classes=2)
    assert "own_code_of_a_user" not in sys.modules
    monkeypatch.syspath_prepend(with_own_code)
    model = build(file(path, trusted=True), input_shape=(2,), classes=2)
    np.testing.assert_array_equal(model(np.array([[1.0, -2.0]], "float32")), [[3.0, -6.0]])
    del sys.modules["own_code_of_a_user"]


def test_classes_that_are_nowhere_are_named(with_own_code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"needs '(Twice|half)', .*: its module is neither in the working folder nor"):
        build(file(with_own_code / "own.keras", trusted=True), input_shape=(2,), classes=2)
