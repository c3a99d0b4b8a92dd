import numpy as np
import pytest

from qpipe.config.schema import Task
from qpipe.evaluation import decisions, likeness, quality, top_accuracy


def one_hot(classes, count=3):
    return np.eye(count, dtype="float32")[classes]


def test_accuracy_of_a_classifier():
    measured = quality(one_hot([0, 1, 2, 2]), np.array([0, 1, 2, 0]), Task.classification)
    assert measured == {"accuracy": 0.75}


def test_top5_accuracy_where_there_are_more_than_20_classes(rng):
    scores, labels = rng.normal(size=(50, 21)), rng.integers(0, 21, 50)
    ranks = (scores > scores[np.arange(50), labels, None]).sum(axis=1)
    assert quality(scores, labels, Task.classification)["top5_accuracy"] == np.mean(ranks < 5)
    assert "top5_accuracy" not in quality(scores[:, :20], labels % 20, Task.classification)
    assert top_accuracy(np.eye(21), np.arange(21)) == 1.0


def test_a_class_per_pixel():
    labels = np.array([[[0, 0], [1, 1]]])
    scores = one_hot(np.array([[[0, 1], [1, 1]]]), 2)
    measured = quality(scores, labels, Task.classification)
    assert measured["accuracy"] == 0.75
    assert measured["mean_iou"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_multilabel_decides_at_one_half_or_at_the_logit_0():
    labels = np.array([[1, 0], [1, 1]])
    probabilities = np.array([[0.5, 0.4], [0.6, 0.2]])
    logits = np.log(probabilities / (1 - probabilities))
    for scores, are_probabilities in ((probabilities, True), (logits, False)):
        measured = quality(scores, labels, Task.multilabel, probabilities=are_probabilities)
        assert measured == {"accuracy": 0.75, "f1": 0.5}
        assert decisions(scores, Task.multilabel, probabilities=are_probabilities).tolist() == [[1, 0], [1, 0]]


def test_errors_of_a_regression():
    labels = np.array([[0.0], [2.0], [4.0]])
    measured = quality(labels + np.array([[1.0], [-1.0], [3.0]]), labels, Task.regression)
    assert measured == pytest.approx({"mae": 5 / 3, "rmse": (11 / 3) ** 0.5, "r2": 1 - 11 / 8})


def test_likeness():
    first, second = one_hot([0, 1, 2, 2]), one_hot([0, 1, 2, 1])
    assert likeness(first, second, Task.classification) == {"agreement": 0.75}
    values = np.array([[1.0], [3.0]], "float32")
    assert likeness(values + 0.5, values, Task.regression) == pytest.approx({"deviation": 0.5})
    assert likeness(values, values * 0 + 1, Task.regression)["deviation"] > 1e30
