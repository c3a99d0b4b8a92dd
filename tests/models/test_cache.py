import errno
import logging
import os
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest

from qpipe.errors import ModelError
from qpipe.models import FloatModelCache

HISTORY = {"loss": [1.0, 0.1 + 0.2], "val_accuracy": [np.float32(0.5), 0.75]}


@pytest.fixture
def model():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


@pytest.fixture
def cache(tmp_path):
    return FloatModelCache(tmp_path / "cache")


def test_an_absent_entry_is_none(cache):
    assert cache.load("abc") is None


def test_what_is_stored_is_loaded(cache, model):
    cache.store("abc", model, HISTORY, {"accuracy": 0.9})
    entry = cache.load("abc")
    assert entry.history == {"loss": [1.0, 0.1 + 0.2], "val_accuracy": [0.5, 0.75]}
    assert entry.metadata == {"accuracy": 0.9}
    loaded = keras.saving.load_model(entry.model_path)
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    assert [path.name for path in cache.folder.iterdir()] == ["abc"]


@pytest.mark.parametrize("damage", ["truncate model", "change history", "remove metadata", "empty checksums"])
def test_a_damaged_entry_is_noticed_removed_and_made_again(cache, model, caplog, damage):
    entry = cache.store("abc", model, HISTORY, {})
    folder = entry.model_path.parent
    if damage == "truncate model":
        entry.model_path.write_bytes(entry.model_path.read_bytes()[:-20])
    elif damage == "change history":
        (folder / "history.json").write_text("{}")
    elif damage == "remove metadata":
        (folder / "metadata.json").unlink()
    else:
        (folder / "sha256.json").write_text("")
    with caplog.at_level(logging.WARNING, logger="qpipe"):
        assert cache.load("abc") is None
    assert "is damaged" in caplog.text
    assert list(cache.folder.iterdir()) == []
    assert cache.store("abc", model, HISTORY, {}).model_path.exists()


def test_the_first_of_two_writers_wins(cache, model):
    first = cache.store("abc", model, HISTORY, {"writer": 1})
    second = cache.store("abc", model, {}, {"writer": 2})
    assert second == first


def test_a_writer_that_comes_second_while_writing_uses_the_first(cache, model, monkeypatch):
    save = model.save

    def save_slowly(path):
        save(path)
        if "-" in path.parent.name and not (cache.folder / "abc").exists():
            monkeypatch.setattr(model, "save", save)
            cache.store("abc", model, HISTORY, {"writer": 1})

    monkeypatch.setattr(model, "save", save_slowly)
    assert cache.store("abc", model, HISTORY, {"writer": 2}).metadata == {"writer": 1}
    assert [path.name for path in cache.folder.iterdir()] == ["abc"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(cache, model, monkeypatch):
    def save(path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(model, "save", save)
    with pytest.raises(ModelError, match=r"can't be stored in .*No space left on device.*runs_dir"):
        cache.store("abc", model, HISTORY, {})
    assert list(cache.folder.iterdir()) == []


def test_a_folder_that_can_not_be_made(tmp_path, model):
    (tmp_path / "file").write_text("")
    cache = FloatModelCache(tmp_path / "file" / "cache")
    with pytest.raises(ModelError, match="can't be stored"):
        cache.store("abc", model, HISTORY, {})
    with pytest.raises(ModelError, match="can't be written"), cache.lock("abc"):
        pass


def test_what_a_killed_writer_left_is_removed_later(cache, model):
    old, young = cache.folder / ".writing-abc-old", cache.folder / ".writing-abc-young"
    old.mkdir(parents=True)
    young.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    cache.store("abc", model, HISTORY, {})
    assert not old.exists()
    assert young.exists()


HOLD_LOCK = """
import sys
from qpipe.models import FloatModelCache
with FloatModelCache(sys.argv[1]).lock("abc"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_makes_another_process_wait_and_say_so(cache, caplog):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(cache.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        let_go = threading.Timer(0.5, other.stdin.close)
        let_go.start()
        with caplog.at_level(logging.INFO, logger="qpipe"), cache.lock("abc"):
            assert let_go.finished.is_set()
    assert "waiting for it" in caplog.text


def test_the_lock_of_another_key_is_free(cache):
    entered = threading.Event()

    def enter():
        with cache.lock("other"):
            entered.set()

    with cache.lock("abc"):
        thread = threading.Thread(target=enter)
        thread.start()
        assert entered.wait(10)
        thread.join()
