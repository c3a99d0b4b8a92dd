import pytest
from small_job import prepare
from small_sweep import SmallSweep


@pytest.fixture(scope="session")
def small_files(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("swept"))


@pytest.fixture
def small_sweep(small_files, tmp_path):
    return SmallSweep(small_files, tmp_path / "runs")
