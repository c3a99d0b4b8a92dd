import logging
import os
import time

import keras
import numpy as np
import pytest
from small_training import training

from qpipe.config.schema import (
    ApplicationModel,
    DigitsData,
    EarlyStopping,
    FoldingConfig,
    JobConfig,
    QuantizerConfig,
    TrainingStage,
    WeightQuantizerConfig,
)
from qpipe.training.callback_state import restore, state_of
from qpipe.training.checkpoint import KEPT_SECONDS, Checkpoints, TrainingState, qat_key
from qpipe.training.identity import training_identity

STATE = TrainingState(
    epoch=3,
    ended=False,
    history={"loss": [0.1, float("inf"), 1 / 3]},
    variables=[np.arange(6, dtype="float32").reshape(2, 3), np.array(True), np.array(4, "int64")],
    optimizer=[],
    callbacks=[{"best": None, "weights": [np.ones(2)]}],
)


def test_state_is_read_as_it_was_written(tmp_path):
    with Checkpoints(tmp_path / "new").open("key") as checkpoint:
        assert checkpoint.load() is None
        assert checkpoint.save(STATE)
        read = checkpoint.load()
    assert (read.epoch, read.ended, read.history) == (3, False, STATE.history)
    for value, expected in zip(read.variables, STATE.variables, strict=True):
        np.testing.assert_array_equal(value, expected, strict=True)
    np.testing.assert_array_equal(read.callbacks[0]["weights"][0], np.ones(2))
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"key.npz", "key.lock"}


def test_discarded_checkpoint_leaves_nothing(tmp_path):
    with Checkpoints(tmp_path).open("key") as checkpoint:
        checkpoint.save(STATE)
        (tmp_path / "key.npz.writing").write_text("from a job that was killed")
        checkpoint.discard()
        assert checkpoint.load() is None
    assert not list(tmp_path.glob("*.npz*"))


def test_another_job_with_the_same_key_keeps_no_checkpoints(tmp_path, caplog):
    caplog.set_level(logging.INFO, "qpipe")
    with Checkpoints(tmp_path).open("key") as first, Checkpoints(tmp_path).open("key") as second:
        assert first is not None
        assert second is None
    assert "Another job trains the same" in caplog.text
    with Checkpoints(tmp_path).open("key") as third:
        assert third is not None


def test_full_disk_is_reported_once_and_the_last_state_stays(tmp_path, caplog, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with Checkpoints(tmp_path).open("key") as checkpoint:
        checkpoint.save(STATE)
        monkeypatch.setattr(os, "fsync", full)
        assert not checkpoint.save(STATE)
        assert not checkpoint.save(STATE)
        assert caplog.text.count("can't be written (No space left on device)") == 1
        assert checkpoint.load().epoch == 3
    assert not list(tmp_path.glob("*.writing"))


def test_folder_that_can_not_be_written_is_reported(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with Checkpoints(tmp_path / "file" / "folder").open("key") as checkpoint:
        assert checkpoint is None
    assert "the training goes on, but can't be resumed" in caplog.text


def test_checkpoints_that_nobody_touched_for_a_month_are_removed(tmp_path):
    for key in ("old", "held", "young"):
        with Checkpoints(tmp_path).open(key) as checkpoint:
            checkpoint.save(STATE)
    before = time.time() - KEPT_SECONDS - 60
    with Checkpoints(tmp_path).open("held"):
        for path in [*tmp_path.glob("old.*"), *tmp_path.glob("held.*")]:
            os.utime(path, (before, before))
        with Checkpoints(tmp_path).open("another"):
            assert {path.name for path in tmp_path.glob("*.npz")} == {"held.npz", "young.npz"}
            assert not (tmp_path / "old.lock").exists()


def test_plain_attributes_of_a_callback_are_its_state():
    source = keras.callbacks.EarlyStopping()
    source.best, source.monitor_op, source.min_delta = np.float32(0.25), keras.ops.less, -0.5
    source.best_weights, source.pair, source.counts = [np.ones(3)], (1, "a"), {"x": {3: 0.5, None: 2}}
    source.file = object()
    target = keras.callbacks.EarlyStopping()
    restore(target, state_of(source))
    assert (target.best, target.min_delta, target.pair, target.counts) == (
        0.25,
        -0.5,
        (1, "a"),
        {"x": {3: 0.5, None: 2}},
    )
    assert isinstance(target.best, np.float32)
    assert target.monitor_op is keras.ops.less
    np.testing.assert_array_equal(target.best_weights[0], np.ones(3))
    assert not hasattr(target, "file")


def job(**changes):
    return JobConfig(**({"model": ApplicationModel(application="MobileNet"), "data": DigitsData()} | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"folding": FoldingConfig(ema_freeze_delay=5)},
        {"quantizer": QuantizerConfig(weight=WeightQuantizerConfig(bitwidth=4))},
        {"data": DigitsData(calibration_samples=32)},
        {"training": training(loss="categorical_crossentropy")},
        {"training": training(class_weights="balanced")},
        {"training": training(early_stopping=EarlyStopping(patience=1))},
    ],
    ids=str,
)
def test_everything_that_determines_the_quantized_model_is_in_its_key(changes):
    reference = job(training=training()) if "training" in changes else job()
    assert qat_key(job(**changes), "float") != qat_key(reference, "float")


def test_key_depends_on_the_float_model_and_on_nothing_else():
    assert qat_key(job(), "float") != qat_key(job(), "other")
    assert qat_key(job(), "float") == qat_key(job(name="other", runs_dir="elsewhere"), "float")


def test_source_of_a_target_is_part_of_the_identity(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module, identities = tmp_path / "own_callbacks.py", []
    stage = TrainingStage(callbacks=[{"_target_": "own_callbacks.Mine"}])
    for text in ("A = 1", "A = 2"):
        module.write_text(text)
        identities.append(training_identity(training(), stage))
    assert identities[0] != identities[1]


def test_file_of_an_own_target_is_part_of_the_identity(tmp_path):
    file, own, written = tmp_path / "costs.txt", [], []
    for text in ("1", "2"):
        file.write_text(text)
        loss = {"_target_": "own_losses.Costs", "path": str(file)}
        own.append(training_identity(training(loss=loss), TrainingStage()))
        stage = TrainingStage(callbacks=[{"_target_": "keras.callbacks.CSVLogger", "filename": str(file)}])
        written.append(training_identity(training(), stage))
    assert own[0] != own[1]
    assert written[0] == written[1]
