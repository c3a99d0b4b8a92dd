"""Jobs that are no plain classification: regression, several labels, a class per pixel, several outputs."""

import keras
import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.models import Model
from sklearn.metrics import f1_score, r2_score

import qpipe

BODY = (
    "{layer: Conv2D, name: conv, filters: 4, kernel_size: 3, padding: same},"
    "{layer: BatchNormalization, name: bn, momentum: 0.8},{layer: ReLU, name: relu},"
)
HEAD = BODY + "{layer: Flatten, name: flat},{layer: Dense, name: predicted, units: classes, activation: %s}"
DENSE = BODY + "{layer: Conv2D, name: predicted, filters: classes, kernel_size: 1, activation: softmax}"
TWO_OUTPUTS = (
    BODY
    + "{layer: GlobalAveragePooling2D, name: pool},{layer: Dense, name: early, units: classes, activation: softmax},"
    "{layer: Flatten, name: flat, inputs: relu},{layer: Dense, name: late, units: classes, activation: softmax}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tasks")


def run(folder, name, labels, layers, *more):
    images = np.random.default_rng(0).integers(0, 256, (96, 6, 6, 1)).astype("uint8")
    np.savez(folder / f"{name}.npz", x_train=images[:64], x_test=images[64:], **dict(
        zip(("y_train", "y_test"), np.split(labels(images / 255.0), [64]), strict=True)
    ))  # fmt: skip
    return qpipe.run(
        [
            f"name={name}",
            "data=npz",
            f"data.path={folder}/{name}.npz",
            "data.calibration_samples=32",
            "model=layers",
            f"model.layers=[{layers}]",
            f"runs_dir={folder}/runs",
            "training.float={epochs: 3, batch_size: 16, learning_rate: 0.01}",
            "tracking.log_models=false",
            *more,
        ]
    )


def outputs(result, folder, name):
    """The float and the quantized model's outputs for the test part, computed without the pipeline."""
    images = np.load(folder / f"{name}.npz")["x_test"].astype("float32") / 255.0
    source = keras.saving.load_model(result.directory / "model" / "float.keras")
    return source.predict(images, verbose=0), result.model.predict(images, verbose=0)


def test_regression(folder, capsys):
    name = "regression"
    result = run(
        folder,
        name,
        lambda x: np.stack([x.mean(axis=(1, 2, 3)), x[:, 0].mean(axis=(1, 2))], axis=1),
        HEAD % "linear",
        "data.task=regression",
        "method=ptq",
        "training.loss={_target_: keras.losses.Huber, delta: 0.5}",
    )
    expected = np.load(folder / f"{name}.npz")["y_test"]
    reference, quantized = outputs(result, folder, name)
    assert result.metrics["quantized/rmse"] == pytest.approx(np.sqrt(np.mean((quantized - expected) ** 2)), rel=1e-4)
    assert result.metrics["float/mae"] == pytest.approx(np.abs(reference - expected).mean(), rel=1e-4)
    assert result.metrics["float/r2"] == pytest.approx(r2_score(expected, reference), rel=1e-4)
    deviation = np.sqrt(np.mean((quantized - reference) ** 2)) / reference.std()
    assert result.metrics["deviation"] == pytest.approx(deviation, rel=1e-3)
    assert "agreement" not in result.metrics
    assert result.metrics["train/float/mae"] > 0
    assert "deviation from float" in capsys.readouterr().out


def test_several_labels_at_once(folder):
    name = "multilabel"
    result = run(
        folder,
        name,
        lambda x: (x.mean(axis=2)[:, :3, 0] > 0.5).astype("uint8"),
        HEAD % "sigmoid",
        "data.task=multilabel",
        "method=ptq",
    )
    expected = np.load(folder / f"{name}.npz")["y_test"]
    reference, quantized = outputs(result, folder, name)
    decided = quantized >= 0.5
    assert result.metrics["quantized/accuracy"] == pytest.approx((decided == expected).mean())
    assert result.metrics["quantized/f1"] == pytest.approx(
        f1_score(expected, decided, average="macro", zero_division=0)
    )
    assert result.metrics["agreement"] == pytest.approx((decided == (reference >= 0.5)).mean())


def test_a_class_per_pixel_with_class_weights(folder):
    name = "pixels"
    result = run(
        folder,
        name,
        lambda x: (x[..., 0] > 0.3).astype("int64") + (x[..., 0] > 0.9),
        DENSE,
        "method=qat",
        "training.qat={epochs: 1, batch_size: 16}",
        "training.class_weights=balanced",
    )
    expected = np.load(folder / f"{name}.npz")["y_test"]
    reference, quantized = outputs(result, folder, name)
    assert result.metrics["quantized/accuracy"] == pytest.approx((quantized.argmax(-1) == expected).mean())
    assert result.metrics["agreement"] == pytest.approx((quantized.argmax(-1) == reference.argmax(-1)).mean())
    assert 0 < result.metrics["quantized/mean_iou"] <= 1


def test_several_outputs_are_trained_measured_and_logged(folder):
    name = "two_outputs"
    result = run(
        folder,
        name,
        lambda x: (x.mean(axis=(1, 2, 3)) * 7).astype("int64") % 3,
        TWO_OUTPUTS,
        "model.outputs=[late, early]",
        "method=qat",
        "training.qat={epochs: 1, batch_size: 16}",
        "tracking.log_models=true",
    )
    expected = np.load(folder / f"{name}.npz")["y_test"]
    late, early = outputs(result, folder, name)[1]
    assert result.metrics["quantized/accuracy"] == pytest.approx((late.argmax(-1) == expected).mean())
    assert result.metrics["quantized/early/accuracy"] == pytest.approx((early.argmax(-1) == expected).mean())
    assert 0 <= result.metrics["early/agreement"] <= 1
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/runs/mlflow.db")
    logged = [output.model_id for output in client.get_run(result.run_id).outputs.model_outputs]
    assert len(logged) == 2
    for model_id in logged:
        signature = Model.load(client.get_logged_model(model_id).artifact_location).signature
        assert [tuple(tensor.shape) for tensor in signature.outputs.inputs] == [(-1, 3), (-1, 3)]
        predictor = mlflow.pyfunc.load_model(client.get_logged_model(model_id).artifact_location)
        predicted = predictor.predict(np.load(folder / f"{name}.npz")["x_test"].astype("float32") / 255.0)
        assert list(predicted) == [tensor.name for tensor in signature.outputs.inputs]


def test_top5_where_there_are_many_classes(folder):
    result = run(folder, "many", lambda x: (x[:, 0, 0, 0] * 29).astype("int64"), HEAD % "softmax", "method=ptq")
    reference, _ = outputs(result, folder, "many")
    expected = np.load(folder / "many.npz")["y_test"]
    ranks = (reference > np.take_along_axis(reference, expected[:, None], axis=1)).sum(axis=1)
    assert result.metrics["float/top5_accuracy"] == pytest.approx((ranks < 5).mean())
    assert "train/float/top5_accuracy" in result.metrics
