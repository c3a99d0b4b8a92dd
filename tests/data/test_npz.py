from pathlib import Path

import numpy as np
import pytest

from qpipe.config.schema import NpzData, NpzKeys
from qpipe.data import load_dataset
from qpipe.data.samples import read_all
from qpipe.errors import DataError


def arrays(**changes):
    generator = np.random.default_rng(0)
    contents = {
        "x_train": generator.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8),
        "y_train": np.arange(40) % 4,
        "x_test": generator.integers(0, 256, (8, 6, 5, 3), dtype=np.uint8),
        "y_test": np.arange(8) % 4,
    }
    contents.update(changes)
    return {name: array for name, array in contents.items() if array is not None}


@pytest.fixture
def save(tmp_path):
    def save_arrays(**changes) -> Path:
        path = tmp_path / "data.npz"
        np.savez(path, **arrays(**changes))
        return path

    return save_arrays


def load(path, **options):
    return load_dataset(NpzData(path=str(path), **options), seed=0)


def test_given_parts_are_kept_and_validation_is_split_off(save):
    data = load(save())
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 8)
    np.testing.assert_array_equal(read_all(data.test.x), arrays()["x_test"])
    assert data.signature.classes == 4
    assert data.signature.input_shape == (6, 5, 3)


def test_images_without_channel_axis_and_labels_as_column_are_understood(save):
    path = save(x_train=np.zeros((40, 6, 5), np.float64), x_test=None, y_test=None, y_train=np.arange(40)[:, None] % 4)
    data = load(path, keys=NpzKeys(x_test=None, y_test=None), preprocess="raw")
    assert data.signature.input_shape == (6, 5, 1)
    assert len(data.test) == 8
    assert len(data.train) == 29


def test_limit_takes_a_seeded_choice_of_given_parts(save):
    path = save()
    first, again, other = (load_dataset(NpzData(path=str(path), limit=5), seed=seed) for seed in (1, 1, 2))
    assert (len(first.train), len(first.validation), len(first.test)) == (5, 4, 5)
    np.testing.assert_array_equal(first.inputs("test"), again.inputs("test"))
    assert not np.array_equal(first.inputs("test"), other.inputs("test"))


IMAGES = np.zeros((40, 6, 5, 3), np.float32)
MISTAKES = {
    "labels too short": ({"y_train": np.arange(39) % 4}, "'x_train' has 40 samples but 'y_train' has 39 labels"),
    "NaN": ({"x_train": np.where(np.arange(5)[:, None] == 2, np.nan, IMAGES)}, "720 values that are NaN or infinite"),
    "infinite": ({"x_test": np.full((8, 6, 5, 3), np.inf)}, "'x_test'"),
    "negative label": ({"y_train": np.arange(40) % 4 - 1}, "negative label -1"),
    "fractional labels": ({"y_train": np.arange(40) % 4 + 0.5}, "'y_train' in .* has the type float64"),
    "one-hot labels": ({"y_train": np.eye(4, dtype=int)[np.arange(40) % 4]}, "one-hot"),
    "no samples": ({"x_train": IMAGES[:0], "y_train": np.zeros(0, int)}, "is empty"),
    "flat images": ({"x_train": IMAGES.reshape(40, -1)}, r"shape \(40, 90\)"),
    "text images": ({"x_train": np.full((40, 6, 5, 3), "a")}, "images are integers or floats"),
    "objects": ({"x_train": np.array([{}] * 40)}, "'x_train' in .* holds Python objects"),
    "one class": ({"y_train": np.zeros(40, int), "y_test": np.zeros(8, int)}, "at least two classes"),
    "class only in test": ({"y_test": np.full(8, 7)}, "test part reach 7"),
    "other image size in test": ({"x_test": np.zeros((8, 7, 5, 3))}, r"\(7, 5, 3\)"),
    "missing key": ({"x_train": None, "x_trian": IMAGES}, "data.keys.x_train='x_train' .* did you mean .*'x_trian'"),
    "missing test": ({"x_test": None}, "data.keys.x_test=null splits this part off"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_in_arrays_is_one_clear_sentence(save, name):
    changes, message = MISTAKES[name]
    with pytest.raises(DataError, match=message) as caught:
        load(save(**changes))
    assert "\n" not in str(caught.value)


def test_one_array_of_a_pair_is_refused(save):
    with pytest.raises(DataError, match=r"data\.keys\.y_test is null, but its partner is 'x_test'"):
        load(save(), keys=NpzKeys(y_test=None))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"data\.path=.*nothing\.npz does not exist"):
        load(tmp_path / "nothing.npz")
    with pytest.raises(DataError, match="is a folder"):
        load(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 300, 4000])
def test_truncated_file(save, tmp_path, keep):
    content = save().read_bytes()
    cut = tmp_path / "cut.npz"
    cut.write_bytes(content[:keep])
    with pytest.raises(DataError, match="truncated"):
        load(cut)


def test_damaged_member(save, tmp_path):
    content = bytearray(save().read_bytes())
    content[500] ^= 255
    path = tmp_path / "damaged.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"'x_train' in .* is damaged"):
        load(path)


def test_foreign_files(tmp_path):
    text = tmp_path / "text.npz"
    text.write_text("hello, I am not an archive")
    with pytest.raises(DataError, match=r"is not an \.npz file"):
        load(text)
    single = tmp_path / "single.npy"
    np.save(single, np.zeros(3))
    with pytest.raises(DataError, match="a single array"):
        load(single)
