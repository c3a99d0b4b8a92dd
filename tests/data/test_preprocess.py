import logging

import keras
import numpy as np
import pytest

from qpipe.config.schema import Augmentation, DataConfig, DigitsData
from qpipe.data import load_dataset
from qpipe.data.augmentation import augment
from qpipe.data.preprocess import Preprocessor
from qpipe.data.samples import ArraySamples
from qpipe.errors import DataError

COLOUR = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)


def stored(images):
    return ArraySamples(images, images.dtype)


def preprocess(images, **options):
    return Preprocessor.for_images(DataConfig(**options), image_shape=images.shape[1:]).all_at_once(stored(images))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("raw", COLOUR * 1.0), ("unit", COLOUR / 255), ("symmetric", COLOUR / 127.5 - 1)],
)
def test_own_scalings(name, expected):
    result = preprocess(COLOUR, preprocess=name)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["mobilenet", "resnet50", "densenet", "efficientnet"])
def test_scalings_of_keras_applications(name):
    module = getattr(keras.applications, name)
    np.testing.assert_allclose(
        preprocess(COLOUR, preprocess=name), module.preprocess_input(COLOUR.astype(np.float32)), atol=1e-4
    )


def test_unknown_scaling_names_the_nearest():
    with pytest.raises(DataError, match=r"data\.preprocess='mobilnet' is unknown; did you mean 'mobilenet'"):
        preprocess(COLOUR, preprocess="mobilnet")


def test_colour_scaling_of_grey_images_says_what_to_set():
    with pytest.raises(DataError, match=r"data\.preprocess=vgg16 needs colour images.*data\.channels=3"):
        preprocess(COLOUR[..., :1], preprocess="vgg16")


def test_channels_are_repeated_or_weighed():
    grey = COLOUR[..., :1]
    np.testing.assert_array_equal(preprocess(grey, channels=3, preprocess="raw"), np.repeat(grey, 3, axis=-1))
    luminance = COLOUR @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(preprocess(COLOUR, channels=1, preprocess="raw")[..., 0], luminance, rtol=1e-5)


def test_channels_that_can_not_be_converted():
    with pytest.raises(DataError, match=r"data\.channels=3, but the images have 2"):
        preprocess(COLOUR[..., :2], channels=3)


def test_resizing_is_bilinear():
    ramp = np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1)
    resized = preprocess(ramp, image_size=[1, 8], preprocess="raw")
    np.testing.assert_allclose(resized[0, 0, :, 0], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])


@pytest.mark.parametrize("factor", [1 / 255, 256])
def test_values_of_another_range_are_noticed(caplog, factor):
    preprocessor = Preprocessor.for_images(DataConfig(preprocess="unit"), image_shape=(6, 4, 3))
    with caplog.at_level(logging.WARNING, logger="qpipe"):
        preprocessor.warn_if_range_is_odd(stored(COLOUR.astype(np.float32)))
        assert caplog.text == ""
        preprocessor.warn_if_range_is_odd(stored(COLOUR.astype(np.float32) * factor))
    assert "data.preprocess=raw" in caplog.text


def test_augmentation_shifts_and_mirrors_whole_pixels():
    image = np.arange(30, dtype=np.float32).reshape(1, 5, 6, 1)
    batch = np.repeat(image, 200, axis=0)
    results = augment(batch, Augmentation(shift=0.2, flip=True), seed=[1, 2]).numpy()
    allowed = set()
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            rows = np.clip(np.arange(5) + down, 0, 4)
            columns = np.clip(np.arange(6) + right, 0, 5)
            moved = image[0][rows][:, columns]
            allowed |= {moved.tobytes(), moved[:, ::-1].tobytes()}
    assert {result.tobytes() for result in results} == allowed
    np.testing.assert_array_equal(results, augment(batch, Augmentation(shift=0.2, flip=True), seed=[1, 2]))


def test_no_augmentation_leaves_images_alone():
    np.testing.assert_array_equal(augment(COLOUR, Augmentation(), seed=[0, 0]), COLOUR)


def test_a_part_without_samples_is_refused():
    with pytest.raises(DataError, match=r"data\.test_fraction=0\.0001 of 1797 samples holds out 0"):
        load_dataset(DigitsData(test_fraction=0.0001), seed=0)


def test_too_few_samples_for_a_split_by_class_are_reported(caplog):
    with caplog.at_level(logging.WARNING, logger="qpipe"):
        data = load_dataset(DigitsData(test_fraction=0.003), seed=0)
    assert len(data.test) == 5
    assert "without regard to class" in caplog.text
