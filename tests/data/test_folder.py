import logging
import shutil

import numpy as np
import pytest
from image_samples import TWO_FRAME_GIF, bmp, write_image

from qpipe.config.schema import Augmentation, FolderData, Task
from qpipe.data import check_data_source, load_dataset, samples
from qpipe.data.samples import read_all
from qpipe.errors import DataError


def load(path, seed=0, **options):
    return load_dataset(FolderData(path=str(path), **options), seed=seed)


def pixels(number, shape=(6, 5, 3)):
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def write_classes(root, classes=("ant", "bee", "cat"), count=10, shape=(6, 5, 3), ending="png"):
    for number, name in enumerate(classes):
        for index in range(count):
            write_image(root / name / f"{index:02}.{ending}", pixels(100 * number + index, shape))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes of ten images (6, 5, 3), in one folder."""
    root = tmp_path_factory.mktemp("photos")
    write_classes(root)
    return root


@pytest.fixture
def own(photos, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(photos, tmp_path / "own")


def test_classes_are_the_sub_folders_in_alphabetical_order(photos):
    data = load(photos)
    assert data.class_names == ("ant", "bee", "cat")
    assert data.signature.input_shape == (6, 5, 3)
    assert data.signature.output_shape == (3,)
    assert (len(data.train), len(data.validation), len(data.test)) == (22, 2, 6)
    np.testing.assert_array_equal(np.bincount(data.labels("test")), [2, 2, 2])
    known = {pixels(100 * number + index).tobytes(): number for number in range(3) for index in range(10)}
    stored = read_all(data.train.x)
    assert [known[image.tobytes()] for image in stored] == data.labels("train").tolist()


def test_folders_of_parts_are_used_as_they_are(tmp_path):
    for part, count in (("train", 8), ("val", 3), ("test", 2)):
        write_classes(tmp_path / part, count=count)
    data = load(tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (24, 9, 6)
    assert data.labels("test").tolist() == [0, 0, 1, 1, 2, 2]


def test_streamed_training_equals_training_in_memory(photos, monkeypatch):
    options = {"image_size": [8, 8], "channels": 1, "augmentation": Augmentation(shift=0.2, flip=True)}

    def batches():
        data = load(photos, **options)
        return [(x.numpy(), y.numpy()) for x, y in data.training_batches(5, seed=3, epochs=2)]

    at_once = batches()
    monkeypatch.setattr(samples, "LARGEST_IN_MEMORY", 0)
    streamed = batches()
    assert len(at_once) == len(streamed) == 10
    for (x, y), (x_streamed, y_streamed) in zip(at_once, streamed, strict=True):
        np.testing.assert_array_equal(x, x_streamed)
        np.testing.assert_array_equal(y, y_streamed)


def test_images_of_different_sizes_are_resized_at_reading(own, monkeypatch):
    write_image(own / "bee" / "other.png", pixels(7, (12, 10, 3)))
    with pytest.raises(
        DataError, match=r"different sizes: .*\.png has .*; data\.image_size=\[height,width\]"
    ) as caught:
        load(own)
    assert "(6, 5)" in str(caught.value)
    assert "other.png" in str(caught.value)
    assert "(12, 10)" in str(caught.value)
    data = load(own, image_size=[6, 5], preprocess="raw")
    whole = data.inputs("train")
    kept = {pixels(100 * number + index).astype(np.float32).tobytes() for number in range(3) for index in range(10)}
    assert len({image.tobytes() for image in whole} & kept) >= len(whole) - 1
    monkeypatch.setattr(samples, "LARGEST_IN_MEMORY", 0)
    streamed = np.concatenate([x.numpy() for x, _ in data.evaluation_batches("train", 7)])
    np.testing.assert_array_equal(whole, streamed)


def test_every_kind_of_file_is_read(tmp_path, caplog):
    colour = np.full((1, 1, 3), (200, 100, 50), np.uint8)
    write_image(tmp_path / "a" / "1.png", colour)
    write_image(tmp_path / "a" / "2.bmp", colour)
    write_image(tmp_path / "a" / "3.JPG", np.full((1, 1, 3), 90, np.uint8))
    write_image(tmp_path / "b" / "4.png", np.full((1, 1, 1), 30, np.uint8))
    write_image(tmp_path / "b" / "5.png", np.array([[[70, 128]]], np.uint8))
    (tmp_path / "b" / "6.gif").write_bytes(TWO_FRAME_GIF)
    with caplog.at_level(logging.WARNING, logger="qpipe"):
        data = load(tmp_path, test_fraction=0.2, validation_fraction=0.2)
    assert "1 images have transparency, which is ignored, such as" in caplog.text
    found = {tuple(image.ravel()) for part in (data.train, data.validation, data.test) for image in read_all(part.x)}
    assert found == {(200, 100, 50), (90, 90, 90), (30, 30, 30), (70, 70, 70), (0, 0, 0)}
    assert data.signature.input_shape == (1, 1, 3)


def test_grey_images_have_one_channel(tmp_path):
    write_classes(tmp_path, shape=(4, 4, 1))
    assert load(tmp_path).signature.input_shape == (4, 4, 1)
    assert load(tmp_path, channels=3).signature.input_shape == (4, 4, 3)


def test_the_fingerprint_follows_the_content_of_the_files(own):
    before = load(own).fingerprint
    assert load(own).fingerprint == before
    write_image(own / "ant" / "03.png", pixels(999))
    assert load(own).fingerprint != before


def test_other_files_are_passed_over_with_one_warning_and_hidden_ones_without(own, caplog):
    (own / "notes.txt").write_text("notes")
    (own / "ant" / "labels.csv").write_text("x")
    (own / "ant" / ".DS_Store").write_text("x")
    (own / ".cache").mkdir()
    with caplog.at_level(logging.WARNING, logger="qpipe"):
        data = load(own, validation_fraction=0.3)
    assert data.class_names == ("ant", "bee", "cat")
    assert "2 files or folders are passed over, such as" in caplog.text
    assert len(caplog.records) == 1


def test_only_the_files_that_are_used_are_opened(own):
    for index in range(10):
        (own / "bee" / f"{index:02}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bee.0\d\.png is damaged"):
        load(own)
    check_data_source(FolderData(path=str(own)))


def mixed_parts(root):
    for part in ("train", "test"):
        write_classes(root / part, count=2)
    shutil.rmtree(root / "test" / "bee")


def more_classes(root):
    for part in ("train", "test"):
        write_classes(root / part, count=2)
    write_classes(root / "test", ("dog",), count=2)


def two_validations(root):
    for part in ("train", "validation", "val"):
        write_classes(root / part, count=1)


def nested(root):
    write_classes(root, count=1)
    write_classes(root / "dog", ("big",), count=1)


FOLDERS = {
    "no sub-folders": (lambda root: write_image(root / "1.png", pixels(1)), "has no sub-folders"),
    "one class": (lambda root: write_classes(root, ("only",)), "has only one sub-folder, 'only'"),
    "empty class": (lambda root: (write_classes(root), (root / "dog").mkdir()), r"class folder .*dog has no images"),
    "nested class": (nested, r"class folder .*dog has no images.*it has sub-folders, which are not searched"),
    "class lacking in test": (mixed_parts, r"test lacks the class 'bee', unlike .*train"),
    "class only in test": (more_classes, r"test has the class 'dog', unlike .*train"),
    "validation twice": (two_validations, "has both 'validation' and 'val'"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_wrong_folder_is_answered_before_any_file_is_opened(tmp_path, name):
    make, message = FOLDERS[name]
    make(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        check_data_source(FolderData(path=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_missing_folder_file_and_wrong_task(photos, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        check_data_source(FolderData(path=str(tmp_path / "nothing")))
    with pytest.raises(DataError, match="is a file"):
        check_data_source(FolderData(path=str(photos / "ant" / "00.png")))
    with pytest.raises(DataError, match=r"data\.task=regression does not fit a folder"):
        check_data_source(FolderData(path=str(photos), task=Task.regression))


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
def test_a_truncated_image_is_named(own, ending):
    path = own / "cat" / f"cut.{ending}"
    write_image(path, pixels(5))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=rf"cut\.{ending} is damaged, truncated or not a") as caught:
        load(own)
    assert "\n" not in str(caught.value)


def test_a_bmp_image_with_colours_in_a_palette_is_refused(own):
    (own / "cat" / "palette.bmp").write_bytes(bmp(pixels(5, (6, 5, 1))))
    with pytest.raises(DataError, match=r"palette\.bmp is a BMP image with a palette"):
        load(own)
