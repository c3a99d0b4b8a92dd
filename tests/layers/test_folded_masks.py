"""Masks and tensor-valued `training` of folded layers, against Keras' BatchNormalization called alike."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from folded_kinds import KINDS, MODES, Pair, assert_close, assert_same_gradients, assert_same_statistics

from qpipe.layers import QConv1DBatchnorm, QDenseBatchnorm, QDepthwiseConv1DBatchnorm

MASKABLE = {"dense": (6, 7, 4), "conv1d": (6, 7, 4), "depthwise1d": (6, 7, 4), "conv1d_transpose": (6, 7, 4)}
ONE_STRIDE = {"conv1d": {}, "depthwise1d": {"padding": "same"}, "conv1d_transpose": {"strides": 1, "padding": "same"}}


def masked_pair(kind, mode, seed=0):
    pair = Pair(kind, mode, seed, {"momentum": 0.6}, shape=MASKABLE[kind], **ONE_STRIDE.get(kind, {}))
    return pair, tf.constant(pair.random.uniform(size=pair.shape[:-1]) < 0.6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", MASKABLE)
def test_moments_are_weighted_by_the_mask_as_keras_does(kind, mode):
    for seed in range(5):
        pair, mask = masked_pair(kind, mode, seed)
        for _ in range(2):
            x = pair.batch()
            assert_close(pair.folded(x, training=True, mask=mask), pair.plain(x, True, mask))
            assert_same_statistics(pair)
        assert_close(pair.folded(x, training=False, mask=mask), pair.plain(x, False))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", MASKABLE)
def test_gradients_under_a_mask(kind, mode):
    pair, mask = masked_pair(kind, mode)
    x = pair.batch()
    ours = pair.gradients(lambda x: pair.folded(x, training=True, mask=mask), [pair.folded], x)
    plain = pair.gradients(lambda x: pair.plain(x, True, mask), [pair.linear, pair.norm], x)
    assert_same_gradients(ours, plain, training=True)


def test_a_mask_changes_the_statistics():
    pair, mask = masked_pair("dense", "ema_stats_folding")
    x = pair.batch()
    pair.folded(x, training=True, mask=mask)
    masked = np.array(pair.folded.moving_mean)
    pair.folded.moving_mean.assign(pair.norm.moving_mean)
    pair.folded(x, training=True)
    assert not np.allclose(masked, pair.folded.moving_mean)


@pytest.mark.parametrize("source", [keras.layers.Masking(), keras.layers.Embedding(5, 3, mask_zero=True)])
def test_the_mask_of_the_layers_before_arrives_in_fit(source, rng):
    shape = (6, 2) if isinstance(source, keras.layers.Masking) else (6,)
    x = rng.integers(0, 5, size=(16, *shape)).astype("float32")
    x[:, 4:] = 0

    def model(*layers):
        before = type(source).from_config(source.get_config())
        return keras.Sequential([keras.Input(shape), before, *layers, keras.layers.GlobalAveragePooling1D()])

    plain = model(keras.layers.Dense(3, name="dense"), keras.layers.BatchNormalization(momentum=0.5, name="norm"))
    folded = model(QDenseBatchnorm(3, momentum=0.5, name="dense"))
    folded.layers[0].set_weights(plain.layers[0].get_weights())
    folded.get_layer("dense").kernel.assign(plain.get_layer("dense").kernel)
    for trained in (plain, folded):
        trained.compile("sgd", "mse", jit_compile=False)
        trained.fit(x, np.ones((16, 3)), batch_size=8, epochs=1, shuffle=False, verbose=0)
    assert_close(folded.get_layer("dense").moving_mean, plain.get_layer("norm").moving_mean)
    assert_close(folded.predict(x, verbose=0), plain.predict(x, verbose=0))


@pytest.mark.parametrize(
    ("layer", "handed_on"),
    [
        (QDenseBatchnorm(3), True),
        (QConv1DBatchnorm(3, 3, padding="causal"), True),
        (QDepthwiseConv1DBatchnorm(3, padding="same"), True),
        (QConv1DBatchnorm(3, 3, padding="same", strides=2), False),
    ],
)
def test_a_mask_is_handed_on_where_positions_stay(layer, handed_on):
    assert layer.supports_masking is handed_on


@pytest.mark.parametrize(("shape", "mask"), [((4, 7, 3), (4, 7)), ((4, 7, 3), (4, 7, 3))])
def test_a_mask_that_does_not_fit_is_an_error(shape, mask):
    layer = QConv1DBatchnorm(2, 3, strides=2, name="conv")
    with pytest.raises(ValueError, match=r"conv: a mask of the shape .* does not fit the output's \(4, 3, 2\)"):
        layer(np.ones(shape, "float32"), training=True, mask=np.ones(mask, bool))


@pytest.mark.parametrize("delay", [None, 2])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_training_may_be_a_tensor(kind, mode, delay):
    pair = Pair(kind, mode, normalization={"momentum": 0.6})
    layer = type(pair.folded).from_config(pair.folded.get_config() | {"ema_freeze_delay": delay, "name": "traced"})
    layer.build(pair.shape)
    layer.set_weights(pair.folded.get_weights())
    step = tf.function(lambda x, training: layer(x, training=training))
    for training in (True, False, True):
        x = pair.batch()
        assert_close(step(x, tf.constant(training)), pair.plain(x, training))
        assert_close(layer.moving_mean, pair.norm.moving_mean)
    assert step.experimental_get_tracing_count() == 1
    assert int(layer.steps) == 2
    if delay:
        before = np.array(layer.moving_mean)
        step(pair.batch(), tf.constant(True))
        np.testing.assert_array_equal(layer.moving_mean, before)


def test_gradients_with_a_tensor_for_training():
    pair = Pair("conv", "ema_stats_folding")
    x = pair.batch()
    gradients = tf.function(
        lambda training: pair.gradients(lambda x: pair.folded(x, training=training), [pair.folded], x)
    )
    plain = pair.gradients(lambda x: pair.plain(x, True), [pair.linear, pair.norm], x)
    assert_same_gradients(gradients(tf.constant(True)), plain, training=True)
