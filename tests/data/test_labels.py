import logging

import numpy as np
import pytest

from qpipe.config.schema import Augmentation, DigitsData, DigitsTarget, NpzData, NpzKeys, Task
from qpipe.data import load_dataset, samples
from qpipe.data.samples import read_all
from qpipe.errors import DataError

KEYS = NpzKeys(x_test=None, y_test=None)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 4, 1), dtype=np.uint8)


@pytest.fixture
def load(tmp_path):
    def load_labels(labels, x=IMAGES, y_test=None, **options):
        path = tmp_path / "data.npz"
        test = {} if y_test is None else {"x_test": x[: len(y_test)], "y_test": y_test}
        np.savez(path, x_train=x, y_train=labels, **test)
        return load_dataset(NpzData(path=str(path), keys=NpzKeys() if test else KEYS, **options), seed=0)

    return load_labels


def rows(classes=3):
    return np.random.default_rng(1).integers(0, 2, (40, classes))


MISTAKES = {
    "multilabel value": (rows() * 2, Task.multilabel, "holds the label 2; data.task=multilabel needs 0 or 1"),
    "multilabel NaN": (np.where(rows() > 0, np.nan, 0.0), Task.multilabel, "holds the label nan"),
    "multilabel rank": (np.zeros((40, 2, 3)), Task.multilabel, r"has the shape \(40, 2, 3\)"),
    "multilabel text": (np.full((40, 3), "yes"), Task.multilabel, "has the type <U3"),
    "regression NaN": (np.where(np.arange(40) == 3, np.nan, 1.0), Task.regression, "holds 1 values that are NaN"),
    "regression text": (np.full(40, "a"), Task.regression, "needs integers or floats"),
    "float classes": (
        np.arange(40) % 2 + 0.0,
        Task.classification,
        "to be predicted need data.task=regression",
    ),
    "one-hot": (np.eye(4, dtype=int)[np.arange(40) % 4], Task.classification, "argmax, .*data.task=multilabel"),
    "map of other size": (np.arange(40 * 9).reshape(40, 3, 3) % 2, Task.classification, r"3x3 pixels don't fit .*6x4"),
    "lengths": (np.arange(39) % 2, Task.classification, "'x_train' has 40 samples but 'y_train' has 39 labels"),
    "absurd class": (
        np.where(np.arange(40) == 3, 10**9, 1),
        Task.classification,
        r"1000000000 \(sample 3\).*below 1000",
    ),
    "no labels": (np.zeros(0, int), Task.classification, "'x_train' has 40 samples but 'y_train' has 0 labels"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_labels_that_do_not_fit_the_task_are_refused(load, name):
    labels, task, message = MISTAKES[name]
    with pytest.raises(DataError, match=message) as caught:
        load(labels, task=task)
    assert "\n" not in str(caught.value)


def test_parts_need_labels_of_one_shape(load):
    with pytest.raises(DataError, match=r"test part have the shape \(2,\) per sample, those of the training part \(3,"):
        load(rows(3), y_test=rows(2)[:8], task=Task.multilabel)


@pytest.mark.parametrize("labels", [rows(), rows().astype(bool), rows(1)[:, 0]])
def test_multilabel(load, labels):
    data = load(labels, task=Task.multilabel)
    assert data.labels("train").shape == (len(data.train), *data.signature.output_shape)
    assert data.labels("train").dtype == np.float32
    assert data.signature.output_shape == ((3,) if labels.ndim == 2 else (1,))


@pytest.mark.parametrize(
    ("shape", "output_shape"),
    [((40,), (1,)), ((40, 2), (2,)), ((40, 6, 4), (6, 4, 1)), ((40, 6, 4, 2), (6, 4, 2)), ((40, 3, 5), (3, 5))],
)
def test_regression(load, shape, output_shape, caplog):
    with caplog.at_level(logging.WARNING, logger="qpipe"):
        data = load(np.random.default_rng(0).normal(size=shape), task=Task.regression)
    assert data.signature.output_shape == output_shape
    assert data.labels("test").shape == (8, *output_shape)
    assert data.labels("test").dtype == np.float32
    assert caplog.text == ""


def test_classes_without_a_training_sample_are_counted_with_a_warning(load, caplog):
    with caplog.at_level(logging.WARNING, logger="qpipe"):
        data = load(np.arange(40) % 2 * 3)
    assert data.signature.output_shape == (4,)
    assert "no sample of 2 of its 4 classes (class numbers are 0...3), such as class 1" in caplog.text


def test_a_class_per_pixel_is_resized_by_nearest_neighbour(load):
    labels = np.random.default_rng(0).integers(0, 5, (40, 6, 4))
    data = load(labels[..., np.newaxis], image_size=[12, 8])
    assert data.signature.output_shape == (12, 8, 5)
    stored = read_all(data.test.y)
    np.testing.assert_array_equal(data.labels("test"), stored.repeat(2, axis=1).repeat(2, axis=2))
    assert data.labels("test").dtype == np.int64


def test_maps_of_numbers_are_resized_as_images_are(load):
    data = load(IMAGES[..., :1] * 1.0, image_size=[7, 9], preprocess="raw", task=Task.regression)
    np.testing.assert_allclose(data.labels("train"), data.inputs("train"), atol=1e-4)


@pytest.mark.parametrize("limit", [2**30, 0])
@pytest.mark.parametrize("task", [Task.classification, Task.regression])
def test_augmentation_moves_labels_exactly_as_images(load, monkeypatch, limit, task):
    monkeypatch.setattr(samples, "LARGEST_IN_MEMORY", limit)
    size = [12, 8] if task == Task.regression else None
    augmentation = Augmentation(shift=0.25, flip=True)
    data = load(IMAGES.astype(np.int32), preprocess="raw", image_size=size, augmentation=augmentation, task=task)
    stored = {image.tobytes() for image in data.inputs("train")}
    for x, y in data.training_batches(8, seed=3, epochs=1):
        labels = y.numpy() if task == Task.regression else y.numpy()[..., np.newaxis]
        np.testing.assert_array_equal(x.numpy(), labels)
        assert not {image.tobytes() for image in x.numpy()} <= stored


def test_labels_that_are_no_maps_stay_with_a_warning(load, caplog):
    with caplog.at_level(logging.WARNING, logger="qpipe"):
        load(np.zeros((40, 3, 5)), task=Task.regression, augmentation=Augmentation(flip=True))
    assert "not their labels of shape (3, 5)" in caplog.text


def test_the_pixels_of_the_digits():
    data = load_dataset(DigitsData(target=DigitsTarget.pixels, preprocess="raw", limit=100), seed=0)
    assert data.signature.output_shape == (8, 8, 11)
    assert data.class_names[:2] == ("background", "0")
    images, labels = data.inputs("train")[..., 0], data.labels("train")
    np.testing.assert_array_equal(labels > 0, images > 127.5)
    assert {len(np.unique(label[label > 0])) for label in labels} == {1}


def test_only_classes_have_names():
    assert load_dataset(DigitsData(limit=100), seed=0).class_names == tuple("0123456789")
    assert load_dataset(DigitsData(limit=100, task=Task.regression), seed=0).class_names is None


def test_the_task_changes_the_fingerprint(load):
    classes = load(rows(1)[:, 0], task=Task.multilabel)
    numbers = load(rows(1)[:, 0], task=Task.regression)
    assert classes.fingerprint != numbers.fingerprint


def test_samples_that_are_no_images_need_two_axes(load):
    with pytest.raises(DataError, match=r"has the shape \(40,\); .* at least two axes"):
        load(np.arange(40) % 2, x=np.zeros(40), images=False, preprocess="raw")
