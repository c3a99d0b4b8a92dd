import logging

import keras
import numpy as np
import pytest
from small_job import write_images
from small_training import assert_same_weights, float_network, quantized_network, training

from qpipe.config.schema import Augmentation, EarlyStopping, NpzData
from qpipe.data import load_dataset
from qpipe.training.checkpoint import Checkpoints
from qpipe.training.loop import fit

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
    check(lambda: with_dropout(dataset), config, "float", dataset, tmp_path, 5, 13, 30)


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
    expected = check(lambda: with_dropout(dataset), config, "float", dataset, tmp_path, 14, 40)
    assert len(expected["loss"]) < 8
    assert len(set(expected["learning_rate"])) > 1


def test_training_that_is_complete_is_not_repeated(dataset, tmp_path, caplog):
    caplog.set_level(logging.INFO, "qpipe")
    config = training(epochs=2)
    model, history = killed_and_resumed(lambda: with_dropout(dataset), config, "float", dataset, tmp_path)
    steps = []
    again = with_dropout(dataset)
    with Checkpoints(tmp_path).open("key") as checkpoint:
        repeated = fit(
            again, config, "float", dataset, seed=7, checkpoint=checkpoint, on_batch=lambda *step: steps.append(step)
        )
    assert (steps, repeated) == ([], history)
    assert_same_weights(again, model)
    assert "training.float is complete in a checkpoint after epoch 2 of 2" in caplog.text


def test_resume_is_announced_and_steps_are_counted_on(dataset, tmp_path, caplog):
    caplog.set_level(logging.INFO, "qpipe")
    config, steps, epochs = training(epochs=3), [], []
    with Checkpoints(tmp_path).open("key") as checkpoint:
        with pytest.raises(KilledError):
            fit(with_dropout(dataset), config, "qat", dataset, seed=7, checkpoint=checkpoint, on_batch=kill_at(20))
        fit(
            with_dropout(dataset),
            config,
            "qat",
            dataset,
            seed=7,
            checkpoint=checkpoint,
            on_batch=lambda *step: steps.append(step),
            on_epoch=lambda epoch, logs: epochs.append(epoch),
        )
    assert "training.qat goes on after epoch 2 of 3 from a checkpoint" in caplog.text
    assert steps == [(step, 27) for step in range(19, 28)]
    assert epochs == [3]


@pytest.mark.parametrize("damage", ["truncated", "text", "other model"])
def test_useless_checkpoint_is_reported_and_the_training_starts_anew(dataset, tmp_path, caplog, damage):
    config, epochs = training(epochs=1), []
    file = tmp_path / "key.npz"
    with Checkpoints(tmp_path).open("key") as checkpoint:
        other = float_network(dataset.signature.input_shape, dataset.signature.classes)
        fit(other, training(epochs=1, optimizer="sgd"), "float", dataset, seed=7, checkpoint=checkpoint)
        if damage == "truncated":
            file.write_bytes(file.read_bytes()[:-200])
        if damage == "text":
            file.write_text("no checkpoint")
        fit(
            with_dropout(dataset),
            config,
            "float",
            dataset,
            seed=7,
            checkpoint=checkpoint,
            on_epoch=lambda epoch, logs: epochs.append(epoch),
        )
    assert epochs == [1]
    assert f"The checkpoint {file} is removed, and the training starts anew" in caplog.text
    assert np.load(file)["tree"].size


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
