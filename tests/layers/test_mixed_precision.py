"""Mixed precision: operations in 16 bits; weights, statistics, quantized tensors and integers in float32."""

import keras
import numpy as np
import pytest
from folded_kinds import KINDS, MODES, Pair
from keras import layers

import qpipe
from qpipe.layers.inventory import quantized_linear_layers
from qpipe.layers.linear import QuantizedLinear
from qpipe.training.freeze import follow_data, freeze

SIXTEEN_BITS = {"mixed_bfloat16": 2.0**-6, "mixed_float16": 2.0**-9}
"""Policies, and how far rounding of products and outputs may part two ways to compute the same."""


@pytest.fixture(params=SIXTEEN_BITS)
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def as_float32(tensor):
    return np.array(keras.ops.cast(tensor, "float32"))


def assert_alike(ours, plain, policy):
    plain = as_float32(plain)
    np.testing.assert_allclose(as_float32(ours), plain, rtol=0, atol=4 * SIXTEEN_BITS[policy] * np.abs(plain).max())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_folded_layer_computes_what_the_plain_pair_does(kind, mode, policy):
    pair = Pair(kind, mode)
    x = pair.batch()
    for training in (True, False):
        ours, plain = pair.folded(x, training=training), pair.plain(x, training)
        assert keras.backend.standardize_dtype(ours.dtype) == policy.removeprefix("mixed_")
        assert_alike(ours, plain, policy)
    for name in ("moving_mean", "moving_variance"):
        assert_alike(getattr(pair.folded, name), getattr(pair.norm, name), policy)
    for variable in pair.folded.weights:
        assert variable.dtype == ("int64" if variable.name == "steps" else "float32")


def network():
    inputs = keras.Input((8, 8, 4))
    x = layers.DepthwiseConv2D(3, use_bias=False)(inputs)
    x = layers.MaxPooling2D()(layers.ReLU(6.0)(layers.BatchNormalization()(x)))
    x = layers.BatchNormalization()(layers.Conv2D(4, 1, use_bias=False)(x))
    x = layers.Add()([x, layers.Conv2D(4, 1)(x)])
    x = layers.Activation("sigmoid")(layers.BatchNormalization()(x))
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", dtype="float32")(x))


def assert_exact(model, x):
    np.testing.assert_array_equal(model.predict(x, verbose=0), qpipe.integer_predict(model, x))


@pytest.mark.parametrize("fold", [True, False])
def test_a_network_calibrates_trains_and_keeps_its_integers(fold, policy, rng, tmp_path):
    model = network()
    x, y = rng.normal(size=(64, 8, 8, 4)).astype("float32"), np.eye(3)[rng.integers(0, 3, 64)]
    quantized = qpipe.quantize(qpipe.fold_batchnorm(model) if fold else model)
    qpipe.calibrate(quantized, x)
    assert np.abs(quantized.predict(x, verbose=0) - model.predict(x, verbose=0)).max() < 0.05
    assert_exact(quantized, x)
    for layer in quantized.layers[1:]:
        assert layer.compute_dtype == "float32" or isinstance(layer, QuantizedLinear), layer.name
    follow_data(quantized)
    before = [np.array(layer.folded_weights()[0]) for layer in quantized_linear_layers(quantized)]
    quantized.compile(keras.optimizers.Adam(1e-2), "categorical_crossentropy")
    history = quantized.fit(x, y, epochs=3, verbose=0).history["loss"]
    freeze(quantized)
    assert history[-1] < history[0]
    after = [np.array(layer.folded_weights()[0]) for layer in quantized_linear_layers(quantized)]
    assert not any(np.array_equal(*kernels) for kernels in zip(before, after, strict=True))
    assert_exact(quantized, x)
    quantized.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), quantized.predict(x, verbose=0))
