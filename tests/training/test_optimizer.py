import keras
import pytest
from small_training import stage, training

from qpipe.config.schema import EarlyStopping, Precision, TrainingStage
from qpipe.errors import ConfigError
from qpipe.training import check_training
from qpipe.training.optimizer import make_optimizer


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0.0, [1.0, 1.0, 1.0, 1.0]),
        ("cosine", 0.0, [1.0, 0.853553, 0.5, 0.0]),
        ("linear", 0.0, [1.0, 0.75, 0.5, 0.0]),
        ("constant", 0.5, [0.0, 0.5, 1.0, 1.0]),
        ("cosine", 0.5, [0.0, 0.5, 1.0, 0.0]),
        ("linear", 0.5, [0.0, 0.5, 1.0, 0.0]),
        ({"_target_": "keras.optimizers.schedules.CosineDecay", "alpha": 0.5}, 0.0, [1.0, 0.926777, 0.75, 0.5]),
        (
            {"_target_": "keras.optimizers.schedules.ExponentialDecay", "decay_rate": 0.5, "decay_steps": 50},
            0.0,
            [1.0, 0.5**0.5, 0.5, 0.25],
        ),
    ],
)
def test_learning_rate_over_the_steps(schedule, warmup, expected):
    config = TrainingStage(learning_rate=1.0, schedule=schedule, warmup_fraction=warmup)
    optimizer = make_optimizer(config, 100, "training.float")
    rates = []
    for step in (0, 25, 50, 100):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx(expected, abs=1e-5)


def test_optimizers_by_name_and_by_target():
    assert type(make_optimizer(stage(optimizer="AdamW"), 10, "")) is keras.optimizers.AdamW
    optimizer = make_optimizer(
        stage(optimizer={"_target_": "keras.optimizers.SGD", "momentum": 0.9}, learning_rate=0.25, schedule="constant"),
        10,
        "",
    )
    assert (type(optimizer), optimizer.momentum, float(optimizer.learning_rate)) == (keras.optimizers.SGD, 0.9, 0.25)


def test_float16_scales_its_loss():
    optimizer = make_optimizer(stage(precision=Precision.mixed_float16, schedule="constant"), 10, "")
    assert type(optimizer) is keras.optimizers.LossScaleOptimizer
    assert float(optimizer.learning_rate) == pytest.approx(0.01)


CALLBACK = "training.float.callbacks[0]"
MISTAKES = [
    ({"optimizer": "adm"}, "training.float.optimizer: unknown optimizer 'adm'; did you mean 'adam'"),
    ({"optimizer": "MultiOptimizer"}, "unknown optimizer 'MultiOptimizer'"),
    ({"optimizer": {"_target_": "keras.optimizers.SDG"}}, "keras.optimizers has no 'SDG'; did you mean 'SGD'"),
    ({"optimizer": {"_target_": "keras.optimizer.SGD"}}, "'keras.optimizer'; did you mean 'keras.optimizers'"),
    ({"optimizer": {"_target_": "keras.optimizers.SGD", "momentun": 1}}, "'momentun'; did you mean 'momentum'"),
    (
        {"optimizer": {"_target_": "keras.optimizers.SGD", "learning_rate": 1}},
        "training.float.optimizer.learning_rate: the optimizer gets its learning rate from training",
    ),
    (
        {"optimizer": {"_target_": "keras.optimizers.SGD", "lr": 1}},
        "training.float.optimizer.lr: the optimizer gets its learning rate from training",
    ),
    (
        {"optimizer": {"_target_": "keras.optimizers.LossScaleOptimizer"}, "precision": Precision.mixed_float16},
        "training.float.optimizer: keras.optimizers.LossScaleOptimizer is not allowed",
    ),
    ({"optimizer": {"_target_": "no_such_package.Adam"}}, "there is no module 'no_such_package'"),
    ({"schedule": "cosin"}, "training.float.schedule: unknown schedule 'cosin'; did you mean 'cosine'"),
    ({"schedule": {"_target_": "keras.optimizers.schedules.CosineDecy"}}, "did you mean 'CosineDecay'"),
    ({"loss": "hubr"}, "training.loss: unknown loss 'hubr'; did you mean 'huber'"),
    ({"loss": {"_target_": "keras.losses.Hubr"}}, "keras.losses has no 'Hubr'; did you mean 'Huber'"),
    ({"callbacks": [{"_target_": "keras.callbacks.TerminateOnNan"}]}, f"{CALLBACK}: keras.callbacks has no"),
    (
        {"callbacks": [{"_target_": "keras.callbacks.BackupAndRestore", "backup_dir": "x"}]},
        "training.checkpoints resumes",
    ),
    (
        {"early_stopping": EarlyStopping(patience=1, monitor="val_acuracy")},
        "training.float.early_stopping.monitor: there is no metric 'val_acuracy'; did you mean 'val_accuracy'",
    ),
]


@pytest.mark.parametrize(("changes", "sentence"), MISTAKES, ids=str)
def test_mistake_that_shows_without_keras(changes, sentence):
    with pytest.raises(ConfigError) as caught:
        check_training(training(**changes))
    assert sentence in str(caught.value)


def test_names_that_are_right_pass():
    check_training(
        training(
            optimizer={"_target_": "keras.optimizers.SGD", "momentum": 0.9},
            schedule={"_target_": "keras.optimizers.schedules.ExponentialDecay", "decay_rate": 0.9},
            loss="mean_squared_error",
            callbacks=[{"_target_": "keras.callbacks.TerminateOnNaN"}],
            early_stopping=EarlyStopping(patience=1, monitor="val_head_accuracy"),
        )
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"optimizer": {"_target_": "keras.Variable", "initializer": 1}},
            "returned a Variable; a Keras optimizer is needed",
        ),
        ({"optimizer": {"_target_": "keras.optimizers.SGD", "momentum": 2}}, "keras.optimizers.SGD raised ValueError"),
        (
            {"schedule": {"_target_": "keras.Variable", "initializer": 1}},
            "returned a Variable; a schedule of keras.optimizers.schedules",
        ),
        ({"schedule": {"_target_": "keras.optimizers.schedules.ExponentialDecay"}}, "decay_rate"),
    ],
    ids=str,
)
def test_mistake_that_only_keras_sees(changes, sentence):
    with pytest.raises(ConfigError) as caught:
        make_optimizer(stage(**changes), 10, "training.qat")
    assert str(caught.value).startswith("training.qat.")
    assert sentence in str(caught.value)
