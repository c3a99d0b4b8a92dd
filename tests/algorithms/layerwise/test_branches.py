"""A layer whose output is added to a branch makes up for the branch's error."""

import keras
import numpy as np
import pytest
from algorithms.small_networks import output_error, quantized, samples
from keras import layers

from qpipe.algorithms.adaround.apply import adaround_with_report
from qpipe.algorithms.adaround.problem import RoundingProblem
from qpipe.algorithms.layerwise.sample_store import SampleStore
from qpipe.algorithms.layerwise.walk import walk
from qpipe.config.schema import AdaRoundConfig
from qpipe.graph.plain import with_plain_layers


def residual(merge=layers.Add, first: bool = False, seed: int = 0) -> keras.Model:
    """A stem, and a body that is merged with a shortcut; `first` makes it the first input."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(inputs)
    shortcut = layers.Conv2D(8, 1, name="shortcut")(x)
    body = layers.Conv2D(8, 3, padding="same", name="body")(layers.ReLU()(shortcut))
    x = merge(name="merge")([body, shortcut] if first else [shortcut, body])
    return keras.Model(inputs, layers.Dense(4, name="classes")(layers.Flatten()(layers.ReLU()(x))))


def targets(model: keras.Model, name: str):
    """Returns the plain target, the one that makes up for branches, and their names."""
    ours = with_plain_layers(quantized(model))
    with SampleStore(2**30) as store:
        for data in walk(ours, model, samples(10), store):
            if data.layer.name == name:
                plain, full = (
                    np.concatenate([target for _, target in data.batches(with_branches=wanted)])
                    for wanted in (False, True)
                )
                return ours, plain, full, [branch.name for branch in data.branches]
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("merge", "first", "sign"),
    [(layers.Add, False, 1), (layers.Add, True, 1), (layers.Subtract, True, -1), (layers.Subtract, False, -1)],
)
def test_the_target_makes_the_sum_that_of_the_float_model(merge, first, sign):
    model = residual(merge, first)
    ours, plain, full, names = targets(model, "body")
    assert names == ["shortcut"]
    wanted = keras.Model(model.inputs, model.get_layer("shortcut").output).predict(samples(10), verbose=0)
    quantizer = ours.get_layer("shortcut").output_quantizer
    given = keras.Model(ours.inputs, ours.get_layer("shortcut").output).predict(samples(10), verbose=0)
    error = wanted - given * float(quantizer.scale)
    assert np.abs(error).max() > 0.01
    np.testing.assert_allclose(full - plain, sign * error, atol=1e-5)


def test_a_branch_that_is_computed_later_is_left_out():
    _, plain, full, names = targets(residual(), "shortcut")
    assert names == []
    np.testing.assert_array_equal(plain, full)


@pytest.mark.parametrize("case", ["activation", "second reader", "output", "twice", "product", "broadcast"])
def test_outputs_that_are_not_only_added_are_left_alone(case):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(inputs)
    pooled = layers.GlobalAveragePooling2D(keepdims=True)(x)
    activation = "relu" if case == "activation" else None
    body = layers.Conv2D(8, 1, activation=activation, name="body")(pooled if case == "broadcast" else x)
    merge = layers.Multiply if case == "product" else layers.Add
    total = merge(name="merge")([body, body] if case == "twice" else [x, body])
    outputs = [layers.Dense(4, name="classes")(layers.Flatten()(total))]
    if case == "second reader":
        outputs.append(layers.Dense(4, name="others")(layers.Flatten()(body)))
    if case == "output":
        outputs.append(body)
    _, plain, full, names = targets(keras.Model(inputs, outputs), "body")
    assert names == []
    np.testing.assert_array_equal(plain, full)


def test_the_sum_gets_closer_to_the_float_model_and_the_report_says_why(monkeypatch):
    model, x, unseen = residual(), samples(), samples(64, seed=7)
    ours = quantized(model)

    def rounded():
        result, report = adaround_with_report(ours, model, x, AdaRoundConfig())
        return output_error(result, model, unseen), report.of("body")

    error, record = rounded()
    assert record.makes_up_for == ["shortcut"]
    assert "makes up for 'shortcut'" in record.summary()
    monkeypatch.setattr(RoundingProblem, "branches", [])
    without, record = rounded()
    assert record.makes_up_for == []
    assert error < 0.9 * without


def test_a_symmetric_reconstruction_makes_up_for_nothing():
    model = residual()
    _, report = adaround_with_report(quantized(model), model, samples(), AdaRoundConfig(asymmetric=False))
    assert report.of("body").makes_up_for == []


def test_several_branches_and_16_bits():
    """Float tensors of a mixed precision model are float16; targets are float32."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inputs = keras.Input((6, 6, 3))
        x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(inputs)
        body = layers.Conv2D(8, 3, padding="same", name="body")(x)
        total = layers.Add(name="sum")(
            [layers.Conv2D(8, 1, name="first")(x), layers.Conv2D(8, 1, name="second")(x), body]
        )
        classes = layers.Dense(4, name="classes", dtype="float32")(layers.Flatten()(total))
        model = keras.Model(inputs, classes)
        ours = quantized(model)
        rounded, report = adaround_with_report(ours, model, samples(), AdaRoundConfig())
        last = report.layers[-2]
        assert len(last.makes_up_for) == 2
        assert {last.name, *last.makes_up_for} == {"body", "first", "second"}
        unseen = samples(64, seed=7)
        assert output_error(rounded, model, unseen) < output_error(ours, model, unseen)
    finally:
        keras.config.set_dtype_policy("float32")
