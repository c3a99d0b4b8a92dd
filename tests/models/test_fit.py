import keras
import pytest

from qpipe.config.schema import Task
from qpipe.errors import ModelError
from qpipe.models.fit import check_fit
from qpipe.signature import Signature


def signature(input_shape, output_shape, task=Task.classification):
    return Signature(input_shape=input_shape, output_shape=output_shape, task=task)


@pytest.fixture(scope="module")
def classifier():
    inputs = keras.Input((8, 6, 1))
    return keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(inputs)), name="small")


@pytest.fixture(scope="module")
def pixel_classifier():
    inputs = keras.Input((None, None, 1))
    return keras.Model(inputs, keras.layers.Conv2D(4, 1)(inputs), name="pixels")


def test_models_that_fit(classifier, pixel_classifier):
    check_fit(classifier, signature((8, 6, 1), (4,)))
    check_fit(pixel_classifier, signature((8, 6, 1), (8, 6, 4)))
    vector = keras.Input((5,))
    check_fit(keras.Model(vector, keras.layers.Dense(2)(vector)), signature((5,), (2,), Task.regression))


@pytest.mark.parametrize(
    ("input_shape", "output_shape", "message"),
    [
        ((16, 6, 1), (4,), r"\(8, 6, 1\).*\(16, 6, 1\).*: set data\.image_size=\[8,6\]\."),
        ((8, 6, 3), (4,), r": set data\.channels=1\."),
        ((9, 9, 3), (4,), r": set data\.image_size=\[8,6\] and data\.channels=1\."),
        ((48,), (4,), r"takes inputs of .*\(8, 6, 1\), the data gives samples of shape \(48,\)\."),
        ((8, 6, 1), (5,), "an output for 4 classes, but the data has 5 classes"),
        ((8, 6, 1), (8, 6, 4), r"output of shape \(4,\); one score per class for each pixel .* of \(8, 6, 4\)"),
    ],
)
def test_model_that_does_not_fit_the_data(classifier, input_shape, output_shape, message):
    with pytest.raises(ModelError, match=message):
        check_fit(classifier, signature(input_shape, output_shape))


def test_a_class_per_pixel_is_not_a_class_per_image(pixel_classifier):
    with pytest.raises(ModelError, match=r"one score per class is needed: a shape of \(4,\)"):
        check_fit(pixel_classifier, signature((8, 6, 1), (4,)))


def test_a_regression_speaks_of_values(classifier):
    with pytest.raises(ModelError, match=r"for 4 value\(s\), but the data has 1 value\(s\)"):
        check_fit(classifier, signature((8, 6, 1), (1,), Task.regression))


def test_each_of_several_outputs_has_to_fit(classifier):
    features = classifier.layers[1].output
    both = [classifier.output, keras.layers.Dense(4, name="second")(features)]
    check_fit(keras.Model(classifier.input, both), signature((8, 6, 1), (4,)))
    both[1] = keras.layers.Dense(3, name="third")(features)
    with pytest.raises(ModelError, match=r"output 1 \('.*'\) for 3 classes, but the data has 4 classes"):
        check_fit(keras.Model(classifier.input, both), signature((8, 6, 1), (4,)))


def test_several_inputs_are_refused():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    with pytest.raises(ModelError, match=r"has 2 inputs \('a' \(None, 4\), 'b' \(None, 4\)\)"):
        check_fit(keras.Model([a, b], keras.layers.Add()([a, b])), signature((4,), (4,)))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_inputs_that_are_no_floats_are_refused(dtype):
    inputs = keras.Input((4,), dtype=dtype)
    model = keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs), name="whole")
    with pytest.raises(ModelError, match=f"'whole' takes inputs of the type {dtype}, the data gives float32"):
        check_fit(model, signature((4,), (4,)))


def test_a_model_without_a_graph_is_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ModelError, match=r"\(Subclassed\) has no layer graph"):
        check_fit(Subclassed(), signature((4,), (4,)))
