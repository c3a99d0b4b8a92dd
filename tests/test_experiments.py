"""Every shipped experiment runs with `debug=fast`; files that only the user has are replaced by small ones."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import qpipe

EXPERIMENTS = sorted(path.stem for path in (Path(__file__).parent.parent / "conf" / "experiment").glob("*.yaml"))

LONG = ("mobilenet_4bit", "mobilenet_v2_8bit", "ds_cnn_audio_8bit", "unet_8bit")
"""Their training steps take long to trace; mobilenet_8bit stands for them in the quick tests."""


OTHER_KERNELS = ("mobilenet_4bit", "mobilenet_4bit_adaround", "resnet8_cifar10_4bit_adaround", "unet_8bit")
"""LiteRT computes convolutions with 4-bit weights, and scores of 16 bits, with kernels that round otherwise."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def stand_ins(experiment: str, folder: Path) -> list[str]:
    """Returns the overrides that put small files in the place of those that only the user has."""
    rng = np.random.default_rng(0)
    if experiment == "ds_cnn_audio_8bit":
        return [f"data.path={write_arrays(folder, rng.normal(size=(180, 49, 10)).astype('float32'))}"]
    if experiment == "mobilenet_fashion_mnist":
        return [f"data.path={write_arrays(folder, rng.integers(0, 256, (180, 28, 28), 'uint8'))}"]
    if experiment.startswith("resnet8_cifar10"):
        path = write_arrays(folder, rng.integers(0, 256, (180, 32, 32, 3), "uint8"))
        return [f"model.path={write_resnet(folder)}", f"data.path={path}"]
    return []


def write_arrays(folder: Path, samples: np.ndarray) -> Path:
    labels, path = np.arange(len(samples)) % 10, folder / "arrays.npz"
    np.savez(path, x_train=samples[:130], y_train=labels[:130], x_test=samples[130:], y_test=labels[130:])
    return path


def write_resnet(folder: Path) -> Path:
    import keras

    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    y = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, padding="same")(x))
    x = keras.layers.Activation("relu")(keras.layers.Add()([x, y]))
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(4)(x))
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))
    model.save(folder / "resnet.keras")
    return folder / "resnet.keras"


@pytest.mark.parametrize(
    "experiment", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in EXPERIMENTS]
)
def test_experiment_runs(experiment, runs, tmp_path):
    result = qpipe.run([f"experiment={experiment}", "debug=fast", f"runs_dir={runs}", *stand_ins(experiment, tmp_path)])
    assert result.run_id is not None
    assert 0.0 <= result.metrics["agreement"] <= 1.0
    assert result.report.quantized >= 4
    assert all(row.plan.reason for row in result.report.rows if row.plan.treatment.name == "float")
    if importlib.util.find_spec("ai_edge_litert"):
        assert_exported(result.metrics, exact=experiment not in OTHER_KERNELS)


def assert_exported(metrics: dict[str, float], *, exact: bool) -> None:
    """Asserts that there is a LiteRT file, with 8-bit kernels of the very same integers as the engine's."""
    assert metrics["size/file_bytes"] > metrics["size/packed_weight_bytes"]
    if exact:
        assert metrics["litert/mismatch_rate"] <= 1e-4
        assert metrics["litert/layer_mismatch_rate"] <= 1e-4
