import logging

import numpy as np
import pytest

from qpipe.config.schema import Augmentation, DigitsData
from qpipe.data import load_dataset, samples
from qpipe.data.samples import read_all


def digits(seed=0, **options):
    return load_dataset(DigitsData(**options), seed=seed)


def epoch_arrays(batches):
    pairs = [(x.numpy(), y.numpy()) for x, y in batches]
    return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])


AUGMENTED = {"augmentation": Augmentation(shift=0.15, flip=True), "limit": 100}


def test_digits_are_real_and_split_by_class():
    data = digits()
    assert len(data.train) + len(data.validation) + len(data.test) == 1797
    pixels = read_all(data.train.x)
    assert pixels.dtype == np.uint8
    assert (pixels.min(), pixels.max()) == (0, 255)
    shares = [np.bincount(data.labels(part)) / len(data.labels(part)) for part in ("train", "validation", "test")]
    assert np.abs(shares[0] - shares[1]).max() < 0.01
    assert np.abs(shares[0] - shares[2]).max() < 0.01


def test_same_seed_gives_identical_arrays_and_fingerprint():
    first, again, other = digits(seed=3), digits(seed=3), digits(seed=4)
    np.testing.assert_array_equal(first.inputs("train"), again.inputs("train"))
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint


def test_test_part_does_not_depend_on_validation_fraction():
    np.testing.assert_array_equal(
        digits(validation_fraction=0.1).inputs("test"), digits(validation_fraction=0.4).inputs("test")
    )


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": [9, 9]},
        {"channels": 3},
        {"preprocess": "raw"},
        {"augmentation": Augmentation(shift=0.2)},
        {"limit": 50},
        {"validation_fraction": 0.2},
    ],
)
def test_every_option_that_shapes_samples_changes_the_fingerprint(change):
    assert digits(**change).fingerprint != digits().fingerprint


def test_calibration_samples_do_not_change_the_fingerprint():
    assert digits(calibration_samples=7).fingerprint == digits().fingerprint


def test_an_epoch_holds_each_sample_once_in_an_order_of_its_own():
    data = digits(limit=100)
    batches = list(data.training_batches(32, seed=1, epochs=2))
    assert [len(y) for _, y in batches] == [32, 32, 32, 4] * 2
    assert data.steps_per_epoch(32) == 4
    first, second = epoch_arrays(batches[:4])[0], epoch_arrays(batches[4:])[0]
    assert not np.array_equal(first, second)
    for epoch in (first, second):
        rows = np.sort(epoch.reshape(100, -1), axis=0)
        np.testing.assert_array_equal(rows, np.sort(data.inputs("train").reshape(100, -1), axis=0))


def test_a_stream_that_starts_later_equals_the_rest_of_the_whole_one():
    data = digits(**AUGMENTED)
    whole = epoch_arrays(data.training_batches(32, seed=5, epochs=3))
    rest = epoch_arrays(data.training_batches(32, seed=5, epochs=2, first_epoch=1))
    np.testing.assert_array_equal(whole[0][100:], rest[0])
    np.testing.assert_array_equal(whole[1][100:], rest[1])


def test_an_endless_stream_goes_beyond_one_epoch():
    data = digits(limit=20)
    assert len(list(data.training_batches(10, seed=0).take(7))) == 7


def test_the_seed_decides_order_and_augmentation():
    data = digits(**AUGMENTED)
    one, other = (epoch_arrays(data.training_batches(32, seed=seed, epochs=1))[0] for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_large_parts_are_preprocessed_batch_by_batch_with_the_same_result(monkeypatch):
    options = {"image_size": [12, 10], "channels": 3, "preprocess": "symmetric", **AUGMENTED}
    at_once = epoch_arrays(digits(**options).training_batches(32, seed=5, epochs=1))
    calibration = digits(**options).calibration_inputs(10, seed=2)
    evaluated = epoch_arrays(digits(**options).evaluation_batches("test", 32))
    monkeypatch.setattr(samples, "LARGEST_IN_MEMORY", 0)
    per_batch = epoch_arrays(digits(**options).training_batches(32, seed=5, epochs=1))
    np.testing.assert_allclose(at_once[0], per_batch[0], atol=1e-6)
    np.testing.assert_array_equal(at_once[1], per_batch[1])
    np.testing.assert_allclose(calibration, digits(**options).calibration_inputs(10, seed=2), atol=1e-6)
    np.testing.assert_allclose(
        evaluated[0], epoch_arrays(digits(**options).evaluation_batches("test", 32))[0], atol=1e-6
    )


def test_evaluation_is_in_order_and_equal_to_the_arrays():
    data = digits(**AUGMENTED)
    x, y = epoch_arrays(data.evaluation_batches("validation", 17))
    np.testing.assert_array_equal(x, data.inputs("validation"))
    np.testing.assert_array_equal(y, data.labels("validation"))


def test_calibration_inputs_are_seeded_distinct_and_not_augmented():
    data = digits(**AUGMENTED)
    drawn = data.calibration_inputs(30, seed=1)
    np.testing.assert_array_equal(drawn, data.calibration_inputs(30, seed=1))
    assert not np.array_equal(drawn, data.calibration_inputs(30, seed=2))
    stored = {image.tobytes() for image in data.inputs("train")}
    assert {image.tobytes() for image in drawn} <= stored
    assert len({image.tobytes() for image in drawn}) == 30


def test_too_few_samples_for_calibration_are_all_used_with_a_warning(caplog):
    data = digits(limit=40)
    with caplog.at_level(logging.WARNING, logger="qpipe"):
        assert len(data.calibration_inputs(64, seed=0)) == 40
    assert "data.calibration_samples=64" in caplog.text
