import errno
import os

import pytest

from qpipe.errors import StorageError
from qpipe.storage import whole_file, write_text

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write_half(path, error):
    with whole_file(path) as temporary:
        temporary.write_text("new")
        raise error


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with whole_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.suffix == ".txt"
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [FULL, ValueError("x")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises((StorageError, ValueError)):
        write_half(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_sentence_names_file_and_reason(tmp_path):
    with pytest.raises(StorageError, match=r"a\.json can't be written \(No space left on device\): free some space"):
        write_half(tmp_path / "a.json", FULL)


def test_a_file_where_a_folder_belongs(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match="can't be written"):
        write_text(tmp_path / "runs" / "a.txt", "")
