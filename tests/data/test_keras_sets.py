import gzip

import numpy as np
import pytest

from qpipe.config.schema import KerasData
from qpipe.data import check_data_source, load_dataset
from qpipe.data.samples import read_all
from qpipe.errors import DataError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "cifar_10"}, r"data\.dataset='cifar_10' is unknown; did you mean .*'cifar10'"),
        ({"dataset": "imdb"}, r"'imdb' holds no images; allowed: 'mnist', 'fashion_mnist', 'cifar10', 'cifar100'"),
        (
            {"dataset": "cifar100", "arguments": {"labelmode": "coarse"}},
            r"data\.arguments\.labelmode: .* did you mean 'label_mode'",
        ),
    ],
)
def test_wrong_names_are_answered_before_loading(options, message):
    with pytest.raises(DataError, match=message):
        check_data_source(KerasData(**options))


def test_a_failed_download_says_where_to_put_the_file(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError("Name or service not known")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", refuse)
    with pytest.raises(DataError, match=r"cifar10 could not be downloaded .*put .*cifar-10-batches-py-target_archive"):
        load_dataset(KerasData(dataset="cifar10"), seed=0)


def test_a_value_that_keras_refuses_is_told():
    with pytest.raises(DataError, match=r"data\.arguments\.label_mode=rough can't be loaded: .*label_mode"):
        load_dataset(KerasData(dataset="cifar100", arguments={"label_mode": "rough"}), seed=0)


def test_a_set_in_keras_folder_is_loaded(tmp_path, monkeypatch):
    folder = tmp_path / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 10)):
        images = np.random.default_rng(count).integers(0, 256, count * 28 * 28, dtype=np.uint8).tobytes()
        with gzip.open(folder / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(bytes(16) + images)
        with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(bytes(8) + bytes(number % 10 for number in range(count)))
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    data = load_dataset(KerasData(dataset="fashion_mnist"), seed=0)
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 10)
    assert data.signature.input_shape == (28, 28, 1)
    assert data.signature.classes == 10
    assert read_all(data.test.x).dtype == np.uint8
