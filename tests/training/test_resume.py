import logging

import keras
import numpy as np
import pytest
from small_job import write_images
from small_training import arrays, assert_same_weights, float_network, quantized_network, training

from qpipe.config.schema import Augmentation, EarlyStopping, NpzData, Task
from qpipe.data import load_dataset
from qpipe.training.checkpoint import Checkpoints
from qpipe.training.loop import fit
from qpipe.training.objective import compile_model
from qpipe.training.progress import Progress
from qpipe.training.resume import Resumable, resumed_state
from qpipe.training.state_file import read_state, write_state

EPOCHS = 4
STEPS_PER_EPOCH = 9


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = write_images(tmp_path_factory.mktemp("data") / "images.npz", samples=208)
    config = NpzData(path=str(path), augmentation=Augmentation(shift=0.2, flip=True))
    data = load_dataset(config, seed=0)
    assert data.steps_per_epoch(16) == STEPS_PER_EPOCH
    return data


def with_dropout(dataset):
    return float_network(dataset.signature.input_shape, dataset.signature.classes, dropout=0.3)


def kill_at(step):
    def on_batch(number, steps):
        if number == step:
            raise KilledError

    return on_batch


def killed_and_resumed(build, config, stage, dataset, folder, *kills):
    """Trains with a kill in each of these steps, each time from a fresh model on; returns model and history."""
    for step in kills:
        keras.utils.set_random_seed(step)
        model = build()
        with Checkpoints(folder).open("key") as checkpoint, pytest.raises(KilledError):
            fit(model, config, stage, dataset, seed=7, checkpoint=checkpoint, on_batch=kill_at(step))
    keras.utils.set_random_seed(99)
    with Checkpoints(folder).open("key") as checkpoint:
        model = build()
        return model, fit(model, config, stage, dataset, seed=7, checkpoint=checkpoint)


def check(build, config, stage, dataset, folder, *kills):
    reference = build()
    expected = fit(reference, config, stage, dataset, seed=7)
    model, history = killed_and_resumed(build, config, stage, dataset, folder, *kills)
    assert_same_weights(model, reference)
    assert history == expected
    return expected


def test_float_training_with_dropout_and_augmentation_ends_the_same(dataset, tmp_path):
    config = training(epochs=EPOCHS, warmup_fraction=0.3)
    check(lambda: with_dropout(dataset), config, "float", dataset, tmp_path, 13, 30)


@pytest.mark.parametrize("delay", [6, 24])
def test_qat_ends_the_same_with_the_freeze_on_either_side_of_the_kill(dataset, tmp_path, delay):
    check(lambda: quantized_network(dataset, delay), training(epochs=EPOCHS), "qat", dataset, tmp_path, 20)


def test_early_stopping_and_learning_rate_on_plateau_go_on_as_if_nothing_happened(dataset, tmp_path):
    config = training(
        epochs=8,
        schedule="constant",
        learning_rate=0.05,
        early_stopping=EarlyStopping(patience=3, min_delta=0.02),
        callbacks=[{"_target_": "keras.callbacks.ReduceLROnPlateau", "patience": 1, "factor": 0.3, "min_delta": 0.02}],
    )
    expected = check(lambda: with_dropout(dataset), config, "float", dataset, tmp_path, 23)
    assert len(expected["loss"]) < 8
    assert len(set(expected["learning_rate"])) > 1


def test_resume_is_announced_and_a_complete_training_is_not_repeated(dataset, tmp_path, caplog):
    caplog.set_level(logging.INFO, "qpipe")
    config, steps, epochs = training(epochs=3), [], []

    def train(model, on_batch):
        with Checkpoints(tmp_path).open("key") as checkpoint:
            return fit(
                model,
                config,
                "float",
                dataset,
                seed=7,
                checkpoint=checkpoint,
                on_batch=on_batch,
                on_epoch=lambda epoch, logs: epochs.append(epoch),
            )

    with pytest.raises(KilledError):
        train(with_dropout(dataset), kill_at(20))
    resumed = with_dropout(dataset)
    history = train(resumed, lambda *step: steps.append(step))
    assert "training.float goes on after epoch 2 of 3 from a checkpoint" in caplog.text
    assert steps == [(step, 27) for step in range(19, 28)]
    assert epochs == [1, 2, 3]

    again = with_dropout(dataset)
    assert train(again, lambda *step: pytest.fail("trained again")) == history
    assert_same_weights(again, resumed)
    assert "training.float is complete in a checkpoint after epoch 3 of 3" in caplog.text


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-200]), "it is damaged or foreign"),
        (lambda file: file.write_text("no checkpoint"), "it is damaged or foreign"),
        (lambda file: np.savez(file, other=np.ones(3)), "it is damaged or foreign"),
        (lambda file: write_state(file, {"epoch": 3}), "it is damaged or foreign"),
        (lambda file: write_state(file, read_state(file) | {"variables": []}), "it was written for another model"),
        (lambda file: write_state(file, read_state(file) | {"callbacks": []}), "it was written for another model"),
    ],
    ids=["truncated", "text", "other arrays", "incomplete", "other model", "other callbacks"],
)
def test_useless_checkpoint_is_reported_and_the_training_starts_anew(rng, tmp_path, caplog, damage, reason):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    compile_model(model, training(), arrays(rng, (3,), Task.regression), keras.optimizers.Adam())
    callbacks = [keras.callbacks.EarlyStopping()]
    with Checkpoints(tmp_path).open("key") as checkpoint:
        saving = Resumable(checkpoint, None, Progress(print, print, steps=1, step=0, history={}, where=""), callbacks)
        saving.set_model(model)
        saving.on_epoch_end(0)
        assert resumed_state(model, callbacks, checkpoint, epochs=3, where="training.qat").epoch == 1
        damage(checkpoint.path)
        assert resumed_state(model, callbacks, checkpoint, epochs=3, where="training.qat") is None
        assert not checkpoint.path.exists()
    assert f"The checkpoint {checkpoint.path} is removed, and the training starts anew: {reason}" in caplog.text


def test_no_checkpoints_where_none_are_wanted(dataset, tmp_path):
    with Checkpoints(tmp_path).open("key") as checkpoint:
        fit(
            with_dropout(dataset),
            training(epochs=1, checkpoints=False),
            "float",
            dataset,
            seed=7,
            checkpoint=checkpoint,
        )
    assert not list(tmp_path.glob("*.npz*"))
