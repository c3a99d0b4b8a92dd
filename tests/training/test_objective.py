import keras
import numpy as np
import pytest
from small_training import Arrays, arrays, training

from qpipe.config.schema import QuantizerConfig, Task
from qpipe.errors import ConfigError
from qpipe.graph import quantize
from qpipe.signature import Signature
from qpipe.training.class_weights import class_weights
from qpipe.training.loop import fit
from qpipe.training.loss import make_loss
from qpipe.training.objective import compile_model
from qpipe.training.outputs import gives_probabilities
from qpipe.training.streams import training_stream


def dense(units, activation=None, shape=(6,)):
    return keras.Sequential([keras.Input(shape), keras.layers.Dense(units, activation=activation)])


def outputs_of(*ends):
    inputs = keras.Input((4,))
    x = keras.layers.Dense(2)(inputs)
    return keras.Model(inputs, [end(x) for end in ends])


def test_gives_probabilities_looks_behind_layers_that_keep_values():
    layers = keras.layers
    nested = keras.Sequential([keras.Input((2,)), layers.Dense(2, activation="sigmoid")])
    model = outputs_of(
        layers.Softmax(),
        layers.Dense(2, activation="softmax"),
        layers.Dense(2),
        nested,
        lambda x: layers.Reshape((2, 1))(layers.Activation("sigmoid")(x)),
        lambda x: layers.Activation("linear")(layers.Dense(2)(x)),
        keras.ops.softmax,
        layers.ReLU(),
    )
    found = [gives_probabilities(model, output) for output in range(len(model.outputs))]
    assert found == [True, True, False, True, True, False, True, False]


def test_gives_probabilities_of_quantized_models():
    layers = keras.layers
    model = outputs_of(
        layers.Dense(2, activation="softmax"), layers.Dense(2, activation="sigmoid"), layers.Dense(2, activation="tanh")
    )
    for float_softmax in (True, False):
        quantized = quantize(model, QuantizerConfig(float_softmax=float_softmax))
        assert [gives_probabilities(quantized, output) for output in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("task", "output_shape", "activation", "names"),
    [
        (Task.classification, (3,), "softmax", {"loss", "accuracy"}),
        (Task.classification, (21,), None, {"loss", "accuracy", "top5_accuracy"}),
        (Task.multilabel, (3,), "sigmoid", {"loss", "accuracy"}),
        (Task.regression, (3,), None, {"loss", "mae"}),
    ],
)
def test_metrics_of_each_task(rng, task, output_shape, activation, names):
    data = arrays(rng, output_shape, task)
    history = fit(dense(output_shape[-1], activation), training(), "float", data, seed=0)
    assert set(history) == names | {f"val_{name}" for name in names}
    assert history["loss"][1] < history["loss"][0]


def test_metrics_measure_what_they_say(rng):
    logits = np.array([[2.0, -1.0, 0.5], [-0.1, 0.3, -2.0]], "float32")
    labels = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], "float32")
    data = Arrays(logits, labels, Signature(input_shape=(3,), output_shape=(3,), task=Task.multilabel))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, kernel_initializer="identity")])
    compile_model(model, training(), data, keras.optimizers.SGD(0.0))
    measured = model.evaluate(logits, labels, return_dict=True, verbose=0)
    assert measured["accuracy"] == pytest.approx(4 / 6)
    assert measured["loss"] == pytest.approx(np.mean(np.log1p(np.exp(logits)) - labels * logits), rel=1e-5)


def test_class_for_every_pixel_with_weights(rng):
    data = arrays(rng, (4, 5, 3), Task.classification, features=(4, 5, 2))
    history = fit(dense(3, "softmax", (4, 5, 2)), training(class_weights=[1.0, 2.0, 3.0]), "float", data, seed=0)
    assert history["loss"][0] > history["val_loss"][0]
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}


def test_outputs_share_the_labels_and_their_weights(rng):
    data = arrays(rng, (3,), Task.classification)
    inputs = keras.Input((6,))
    heads = [
        keras.layers.Dense(3, activation="softmax", name="main")(inputs),
        keras.layers.Dense(3, name="extra")(inputs),
    ]
    history = fit(keras.Model(inputs, heads), training(class_weights="balanced"), "float", data, seed=0)
    names = {"loss", "main_loss", "extra_loss", "main_accuracy", "extra_accuracy"}
    assert set(history) == names | {f"val_{name}" for name in names}


def test_weights_go_into_the_stream_with_every_label(rng):
    data = arrays(rng, (2, 3), Task.classification)
    weights = np.array([0.5, 1.0, 4.0], "float32")
    stream = training_stream(dense(3), data, weights, batch_size=48, seed=0, first_epoch=0, epochs=1)
    ((_, y, w),) = [[array.numpy() for array in batch] for batch in stream]
    np.testing.assert_array_equal(w, weights[y])


def test_balanced_weights_are_inverse_to_the_frequency():
    labels = np.array([0, 0, 0, 1, 3, 3])
    data = Arrays(np.zeros((6, 1)), labels, Signature(input_shape=(1,), output_shape=(4,)))
    weights = class_weights("balanced", data)
    np.testing.assert_allclose(weights, [6 / 9, 2.0, 1.0, 1.0])
    assert weights[labels].mean() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("task", "config", "sentence"),
    [
        (Task.classification, [1.0, 2.0], "training.class_weights: 2 weights are given, but the data has 3 classes"),
        (Task.regression, "balanced", "only data.task=classification has class weights, not regression"),
    ],
)
def test_class_weights_that_do_not_fit(rng, task, config, sentence):
    with pytest.raises(ConfigError, match=sentence):
        class_weights(config, arrays(rng, (3,), task))


class Own(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.square(keras.ops.cast(y_true, y_pred.dtype) - y_pred), axis=-1)


def test_losses_by_name_and_target():
    huber = make_loss({"_target_": "keras.losses.Huber", "delta": 2.0}, Task.regression, from_logits=True)
    assert float(huber(np.zeros((1, 2)), np.full((1, 2), 3.0))) == pytest.approx(4.0)
    assert type(make_loss("log_cosh", Task.regression, from_logits=True)) is keras.losses.LogCosh
    function = make_loss({"_target_": "keras.losses.huber", "delta": 2.0}, Task.regression, from_logits=True)
    assert float(np.mean(function(np.zeros((1, 2)), np.ones((1, 2))))) == pytest.approx(0.5)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("name", ["CategoricalCrossentropy", "categorical_crossentropy"])
def test_one_hot_losses_get_class_numbers(rng, from_logits, name):
    labels = rng.integers(0, 3, (5, 2))
    outputs = rng.uniform(0.1, 0.9, (5, 2, 3)).astype("float32")
    settings = {"_target_": f"keras.losses.{name}", "label_smoothing": 0.1}
    loss = make_loss(settings, Task.classification, from_logits=from_logits)
    expected = keras.losses.CategoricalCrossentropy(from_logits=from_logits, label_smoothing=0.1)
    assert float(loss(labels, outputs)) == pytest.approx(float(expected(np.eye(3)[labels], outputs)), rel=1e-6)


@pytest.mark.parametrize(
    ("task", "config", "sentence"),
    [
        (Task.classification, "huber", "training.loss: Huber can't compare the class numbers"),
        (
            Task.classification,
            {"_target_": "keras.losses.huber"},
            "training.loss: huber can't compare the class numbers",
        ),
        (Task.classification, {"_target_": "test_objective.Own"}, "can't compare outputs of shape .'samples', 3. with"),
        (Task.regression, "hubr", "unknown loss 'hubr'"),
        (Task.regression, {"_target_": "keras.losses.Huber", "delta": 1, "dleta": 1}, "'dleta'"),
        (Task.regression, "sparse_categorical_crossentropy", "can't compare outputs of shape .'samples', 3. with"),
    ],
    ids=str,
)
def test_losses_that_do_not_fit(rng, task, config, sentence):
    data = arrays(rng, (3,), task)
    with pytest.raises(ConfigError, match=sentence):
        compile_model(dense(3), training(loss=config), data, keras.optimizers.SGD())
