"""Every shipped experiment runs with `debug=fast`; files that only the user has are replaced by small ones."""

from pathlib import Path

import numpy as np
import pytest

import qpipe

EXPERIMENTS = sorted(path.stem for path in (Path(__file__).parent.parent / "conf" / "experiment").glob("*.yaml"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def stand_ins(experiment: str, folder: Path) -> list[str]:
    if not experiment.startswith("resnet8"):
        return []
    import keras

    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (150, 32, 32, 3), "uint8"), np.arange(150) % 10
    np.savez(folder / "cifar.npz", x_train=images[:100], y_train=labels[:100], x_test=images[100:], y_test=labels[100:])
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    y = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, padding="same")(x))
    x = keras.layers.Activation("relu")(keras.layers.Add()([x, y]))
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(4)(x))
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))
    model.save(folder / "resnet.keras")
    return [f"model.path={folder}/resnet.keras", f"data.path={folder}/cifar.npz"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_runs(experiment, runs, tmp_path):
    result = qpipe.run([f"experiment={experiment}", "debug=fast", f"runs_dir={runs}", *stand_ins(experiment, tmp_path)])
    assert result.run_id is not None
    assert 0.0 <= result.metrics["agreement"] <= 1.0
    assert result.report.quantized >= 5
    assert all(row.plan.reason for row in result.report.rows if row.plan.treatment.name == "float")
