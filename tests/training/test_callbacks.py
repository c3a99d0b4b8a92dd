import math

import keras
import pytest
from small_training import arrays, stage, training

from qpipe.config.schema import EarlyStopping, Task
from qpipe.errors import ConfigError
from qpipe.training.callbacks import make_callbacks
from qpipe.training.loop import fit
from qpipe.training.progress import Progress

MONITORS = ["loss", "accuracy", "val_loss", "val_accuracy"]
PLATEAU = {"_target_": "keras.callbacks.ReduceLROnPlateau"}


def test_early_stopping_follows_its_settings():
    early_stopping = EarlyStopping(patience=3, monitor="val_accuracy", min_delta=0.01, restore_best=False)
    (callback,) = make_callbacks(stage(early_stopping=early_stopping), MONITORS, "training.float")
    assert (callback.patience, callback.monitor, callback.mode) == (3, "val_accuracy", "max")
    assert (callback.min_delta, callback.restore_best_weights) == (0.01, False)


def test_own_callbacks_come_before_early_stopping():
    settings = stage(callbacks=[PLATEAU], schedule="constant", early_stopping=EarlyStopping(patience=1))
    kinds = [type(callback) for callback in make_callbacks(settings, MONITORS, "training.float")]
    assert kinds == [keras.callbacks.ReduceLROnPlateau, keras.callbacks.EarlyStopping]


def test_no_patience_no_early_stopping():
    assert make_callbacks(stage(), MONITORS, "training.float") == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"early_stopping": EarlyStopping(patience=1, monitor="val_mae")},
            r"training\.qat\.early_stopping\.monitor: there is no metric 'val_mae'; allowed: 'accuracy'",
        ),
        (
            {"callbacks": [PLATEAU | {"monitor": "val_los"}], "schedule": "constant"},
            r"training\.qat\.callbacks\[0\]\.monitor: .* did you mean 'val_loss'",
        ),
        ({"callbacks": [PLATEAU]}, r"callbacks\[0\]: .*set training\.qat\.schedule=constant"),
        (
            {"callbacks": [PLATEAU], "schedule": "constant", "warmup_fraction": 0.1},
            r"callbacks\[0\]: .*set training\.qat\.warmup_fraction=0",
        ),
        ({"callbacks": [{"_target_": "keras.layers.ReLU"}]}, "returned a ReLU; a keras.callbacks.Callback is needed"),
    ],
    ids=str,
)
def test_callbacks_that_do_not_fit(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_callbacks(stage(**settings), MONITORS, "training.qat")


def test_metric_of_an_empty_validation_part_is_refused_before_training(rng):
    data = arrays(rng, (3,), Task.classification, validated=False)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    config = training(early_stopping=EarlyStopping(patience=1))
    steps = []
    with pytest.raises(ConfigError, match="there is no metric 'val_loss'; did you mean 'loss'"):
        fit(model, config, "float", data, seed=0, on_batch=lambda *step: steps.append(step))
    assert steps == []


def test_without_a_validation_part_the_training_part_is_measured(rng):
    data = arrays(rng, (3,), Task.classification, validated=False)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    assert set(fit(model, training(epochs=1), "float", data, seed=0)) == {"loss", "accuracy"}


def test_error_of_a_callback_names_it(rng, tmp_path):
    data = arrays(rng, (3,), Task.classification)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    logger = {"_target_": "keras.callbacks.CSVLogger", "filename": str(tmp_path / "missing" / "log.csv")}
    with pytest.raises(ConfigError, match=r"training\.float\.callbacks\[0\]: CSVLogger\.on_train_begin raised FileNot"):
        fit(model, training(epochs=1, callbacks=[logger]), "float", data, seed=0)


def test_metric_that_some_epochs_lack_is_nan_there():
    progress = Progress(lambda *step: None, lambda *epoch: None, steps=3, step=0, history={}, where="")
    for epoch, logs in enumerate([{"loss": 1.0}, {"loss": 0.5, "extra": 2.0}, {"loss": 0.25}]):
        progress.on_epoch_end(epoch, logs)
    assert progress.history["loss"] == [1.0, 0.5, 0.25]
    assert progress.history["extra"] == pytest.approx([math.nan, 2.0, math.nan], nan_ok=True)
