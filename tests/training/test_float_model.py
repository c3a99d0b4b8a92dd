import logging
from dataclasses import replace

import numpy as np
import pytest
from small_job import write_images, write_model
from small_training import assert_same_weights, training

from qpipe.config.schema import EarlyStopping, FileModel, JobConfig, MethodConfig, MethodName, NpzData
from qpipe.data import load_dataset
from qpipe.errors import ConfigError
from qpipe.models import FloatModelCache
from qpipe.training.checkpoint import Checkpoints
from qpipe.training.float_model import float_model


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    return JobConfig(
        model=FileModel(path=str(write_model(folder / "small.keras")), train=True),
        data=NpzData(path=str(write_images(folder / "small.npz"))),
        training=training(),
        method=MethodConfig(name=MethodName.qat),
    )


@pytest.fixture(scope="module")
def dataset(config):
    return load_dataset(config.data, seed=0)


def run(config, dataset, folder, on_batch=lambda step, steps: None):
    return float_model(
        config,
        dataset,
        FloatModelCache(folder / "cache"),
        Checkpoints(folder / "checkpoints"),
        before_training=lambda model: None,
        on_batch=on_batch,
        on_epoch=lambda epoch, logs: None,
    )


def test_killed_training_goes_on_and_ends_the_same(config, dataset, tmp_path, caplog):
    caplog.set_level(logging.INFO, "qpipe")

    def kill(step, steps):
        if step == steps - 3:
            raise KilledError

    undisturbed = run(config, dataset, tmp_path / "undisturbed")
    with pytest.raises(KilledError):
        run(config, dataset, tmp_path, kill)
    assert list((tmp_path / "checkpoints").glob("*.npz"))
    np.random.seed(5)
    resumed = run(config, dataset, tmp_path)
    assert "training.float goes on after epoch 1 of 2 from a checkpoint" in caplog.text
    assert_same_weights(resumed.model, undisturbed.model)
    assert (resumed.history, resumed.key, resumed.cached) == (undisturbed.history, undisturbed.key, False)
    assert not list((tmp_path / "checkpoints").glob("*.npz"))

    again = run(config, dataset, tmp_path, lambda step, steps: pytest.fail("trained again"))
    assert again.cached
    assert_same_weights(again.model, undisturbed.model)


def test_model_that_is_not_trained_has_a_key_of_its_own(config, dataset, tmp_path):
    untrained = replace(config, model=replace(config.model, train=False))
    first, other = run(untrained, dataset, tmp_path), run(replace(untrained, seed=1), dataset, tmp_path)
    assert first.history == {}
    assert len({first.key, other.key}) == 2
    assert run(replace(untrained, training=training(epochs=9)), dataset, tmp_path).key == first.key


@pytest.mark.parametrize(
    ("qat", "sentence"),
    [
        ({"callbacks": [{"_target_": "keras.callbacks.ReduceLROnPlateau"}]}, "set training.qat.schedule=constant"),
        ({"callbacks": [{"_target_": "keras.layers.ReLU"}]}, r"training.qat.callbacks\[0\]: .* is no keras.callbacks"),
        (
            {"callbacks": [{"_target_": "keras.callbacks.CSVLogger"}]},
            r"callbacks\[0\]: .*required argument: 'filename'",
        ),
        (
            {"early_stopping": EarlyStopping(patience=1, monitor="val_mae")},
            "training.qat.early_stopping.monitor: there is no metric 'val_mae'",
        ),
        ({"optimizer": {"_target_": "keras.optimizers.SGD", "momentum": 2}}, "training.qat.optimizer: .*momentum"),
    ],
    ids=str,
)
def test_mistake_in_the_later_stage_shows_before_anything_is_trained(config, dataset, tmp_path, qat, sentence):
    wrong = replace(config, training=replace(config.training, qat=training(**qat).qat))
    with pytest.raises(ConfigError, match=sentence):
        run(wrong, dataset, tmp_path, lambda step, steps: pytest.fail("trained"))
