from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from qpipe.config.schema import Augmentation, CallableData, Task
from qpipe.data import check_data_source, growing_array, load_dataset, samples
from qpipe.data.samples import read_all
from qpipe.errors import ConfigError, DataError

HERE = __name__


def arrays(count=40, classes=4, form="pair"):
    images = np.random.default_rng(0).integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)
    labels = np.arange(count) % classes
    stream = tf.data.Dataset.from_tensor_slices((images, labels))
    return {
        "pair": lambda: (images, labels),
        "lists": lambda: [images, labels.tolist()],
        "tensors": lambda: (tf.constant(images), tf.constant(labels)),
        "two pairs": lambda: ((images, labels), (images[:8], labels[:8])),
        "stream": lambda: stream,
        "two streams": lambda: (stream, stream.take(8)),
        "deeply ragged": lambda: ([[[1, 2], [3]], [[4]]], [0, 1]),
        "stream of unknown length": lambda: stream.filter(lambda x, y: True),
        "mapping": lambda: {"train": (images, labels), "validation": stream.take(8), "test": (images[:4], labels[:4])},
        "three": lambda: (images, labels, labels),
        "nothing": lambda: None,
        "one array": lambda: images,
        "text": lambda: (images, "labels"),
        "ragged": lambda: ([[1], [1, 2]], labels),
        "without train": lambda: {"test": (images, labels)},
        "misspelt part": lambda: {"train": (images, labels), "validaton": (images, labels)},
        "endless": lambda: stream.repeat(),
        "batched": lambda: stream.batch(16),
        "dictionaries": lambda: stream.map(lambda x, y: {"image": x, "label": y}),
        "empty": lambda: stream.take(0),
        "varying": lambda: stream.map(lambda x, y: (x[: tf.cast(y, tf.int32) + 1], y)),
        "failing": lambda: stream.map(lambda x, y: (x, tf.debugging.check_numerics(tf.cast(y, tf.float32) / 0, "no"))),
    }[form]()


def mapped(path):
    return np.load(f"{path}/x.npy", mmap_mode="r"), np.load(f"{path}/y.npy", mmap_mode="r")


def failing():
    raise RuntimeError("no such sensor")


def load(target="arrays", *, scratch=None, options=None, **arguments):
    config = CallableData(_target_=f"{HERE}.{target}", arguments=arguments, **(options or {}))
    return load_dataset(config, seed=0, scratch=scratch)


def epoch(data, **options):
    pairs = [(x.numpy(), y.numpy()) for x, y in data.training_batches(8, seed=1, epochs=2, **options)]
    return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])


@pytest.mark.parametrize("form", ["lists", "tensors", "stream", "stream of unknown length"])
def test_every_form_of_one_part_gives_the_same_data(form):
    expected, data = load(), load(form=form)
    assert data.signature == expected.signature
    assert data.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(data.inputs("train"), expected.inputs("train"))


def test_parts_that_are_returned_are_kept():
    for form in ("two pairs", "two streams"):
        data = load(form=form)
        assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 8)
    data = load(form="mapping")
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 8, 4)


def test_a_stream_that_outgrows_memory_is_moved_to_a_file_that_nobody_sees(tmp_path, monkeypatch):
    options = {"augmentation": Augmentation(shift=0.2, flip=True)}
    expected = load(options=options)
    in_memory = epoch(expected)
    monkeypatch.setattr(samples, "LARGEST_IN_MEMORY", 1000)
    monkeypatch.setattr(growing_array, "_WRITE_BYTES", 500)
    data = load(form="stream", options=options, scratch=tmp_path / "scratch")
    assert isinstance(data.train.x.array, np.memmap)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert data.fingerprint == expected.fingerprint
    for stored, streamed in zip(in_memory, epoch(data), strict=True):
        np.testing.assert_array_equal(stored, streamed)
    second = len(data.train)
    np.testing.assert_array_equal(epoch(data, first_epoch=1)[0][:second], in_memory[0][second:])


def test_memory_maps_are_neither_copied_nor_changed(tmp_path, monkeypatch):
    x, y = arrays()
    np.save(tmp_path / "x.npy", x.astype(np.float64) / 255)
    np.save(tmp_path / "y.npy", y)
    monkeypatch.setattr(samples, "LARGEST_IN_MEMORY", 0)
    data = load("mapped", path=str(tmp_path), options={"preprocess": "raw"})
    assert all(isinstance(part.x.array, np.memmap) for part in (data.train, data.validation, data.test))
    images, labels = next(iter(data.evaluation_batches("test", 3)))
    np.testing.assert_array_equal(images, read_all(data.test.x)[:3])
    assert images.dtype == tf.float32
    assert labels.dtype == tf.int64
    assert data.examples("train", 5).shape == (5, 6, 5, 3)


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "LARGEST_IN_MEMORY", 1000)
    monkeypatch.setattr(growing_array.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**20))
    with pytest.raises(DataError, match=r"only 1 MiB are free in .*end the data with \.take\(n\)"):
        load(form="stream", scratch=tmp_path)


def test_a_scratch_folder_that_can_not_be_written_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "LARGEST_IN_MEMORY", 1000)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"can't be written to .*Not a directory"):
        load(form="stream", scratch=tmp_path / "file" / "below")


RETURNS = {
    "three": "returned a tuple of 3 items for train; allowed: \\(x, y\\)",
    "nothing": "returned nothing \\(None\\) for train; allowed",
    "one array": "returned a ndarray of shape \\(40, 6, 5, 3\\) for train",
    "text": "y of the part train .* is a str; an array is needed",
    "ragged": "x of the part train .* does not become an array",
    "deeply ragged": "x of the part train .* does not become an array",
    "without train": "a mapping without 'train'",
    "misspelt part": "a mapping with 'validaton'; did you mean 'validation'",
    "endless": "is endless .* a finite one is needed",
    "batched": r"gives batches .*append \.unbatch\(\)",
    "dictionaries": r"are \['image', 'label'\]; pairs of tensors \(x, y\) are needed",
    "empty": "is empty",
    "varying": r"Element 1 .* has x of the shape \(2, 5, 3\) .* the first one \(1, 5, 3\)",
    "failing": "Reading the tf.data.Dataset .* raised InvalidArgumentError",
}


@pytest.mark.parametrize("form", RETURNS)
def test_what_does_not_fit_is_told_in_one_sentence(form):
    with pytest.raises(DataError, match=RETURNS[form]) as caught:
        load(form=form)
    assert "\n" not in str(caught.value)


def sequences(batch=None):
    x = np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32)
    stream = tf.data.Dataset.from_tensor_slices((x, np.arange(20) % 2))
    return stream.batch(batch, drop_remainder=True) if batch else stream


def test_batches_of_other_samples_than_images_are_noticed_where_they_differ():
    options = {"images": False, "preprocess": "raw"}
    assert load("sequences", options=options).signature.input_shape == (7,)
    for batch in (8, 10):
        with pytest.raises(DataError, match=r"\.unbatch\(\)"):
            load("sequences", batch=batch, options=options)


def test_mistakes_in_the_target():
    with pytest.raises(ConfigError, match=r"data\._target_: there is no module 'no_such_module'"):
        check_data_source(CallableData(_target_="no_such_module.load"))
    with pytest.raises(ConfigError, match=r"data\._target_: .* has no 'arays'; did you mean 'arrays'"):
        load("arays")
    with pytest.raises(ConfigError, match=r"data\._target_: .* has no argument 'cuont'; did you mean 'count'"):
        load(cuont=3)
    with pytest.raises(ConfigError, match=r"failing raised RuntimeError: no such sensor"):
        load("failing")


def measured(task="regression"):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(30, 8, 3)).astype(np.float32)
    return x, generator.normal(size=30) if task == "regression" else generator.integers(0, 2, (30, 5))


def test_samples_of_any_shape_and_other_tasks():
    options = {"images": False, "preprocess": "raw"}
    data = load("measured", options={**options, "task": Task.regression})
    assert data.signature.input_shape == (8, 3)
    assert data.signature.output_shape == (1,)
    assert data.task == Task.regression
    x, y = next(iter(data.training_batches(4, seed=0)))
    assert (x.shape, y.shape, y.dtype) == ((4, 8, 3), (4, 1), tf.float32)
    data = load("measured", task="multilabel", options={**options, "task": Task.multilabel})
    assert data.signature.output_shape == (5,)
    assert data.labels("train").dtype == np.float32
