"""Folded layers without quantizers against the plain Keras pair: outputs, statistics and gradients."""

import keras
import numpy as np
import pytest
from folded_kinds import KINDS, MODES, Pair, assert_close, assert_same_gradients, assert_same_statistics

from qpipe.layers import QConv2DBatchnorm

SEEDS = range(5)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_moving_statistics(kind, mode, use_bias):
    for seed in SEEDS:
        pair = Pair(kind, mode, seed, use_bias=use_bias, normalization={"momentum": 0.7, "epsilon": 0.01})
        for _ in range(3):
            x = pair.batch()
            assert_close(pair.folded(x, training=True), pair.plain(x, True))
            assert_same_statistics(pair)
        x = pair.batch()
        assert_close(pair.folded(x, training=False), pair.plain(x, False))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind, mode, training):
    for seed in SEEDS:
        pair = Pair(kind, mode, seed)
        x = pair.batch()
        ours = pair.gradients(lambda x, pair=pair: pair.folded(x, training=training), [pair.folded], x)
        plain = pair.gradients(lambda x, pair=pair: pair.plain(x, training), [pair.linear, pair.norm], x)
        assert_same_gradients(ours, plain, training)


@pytest.mark.parametrize("arguments", [{"center": False}, {"scale": False}])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_without_center_or_scale(kind, mode, arguments):
    pair = Pair(kind, mode, normalization=arguments)
    assert (pair.folded.beta is None, pair.folded.gamma is None) == ("center" in arguments, "scale" in arguments)
    x = pair.batch()
    for training in (True, False):
        assert_close(pair.folded(x, training=training), pair.plain(x, training))
    assert_same_statistics(pair)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_is_not_trainable_uses_moving_statistics(kind, mode):
    pair = Pair(kind, mode)
    pair.folded.trainable = pair.linear.trainable = pair.norm.trainable = False
    before = [np.array(weight) for weight in pair.folded.weights]
    x = pair.batch()
    assert_close(pair.folded(x, training=True), pair.plain(x, True))
    assert_close(pair.folded(x, training=True), pair.plain(x, False))
    for old, new in zip(before, pair.folded.weights, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_per_channel(kind):
    pair = Pair(kind, "ema_stats_folding")
    assert pair.folded.moving_mean.shape == pair.norm.moving_mean.shape
    pair.folded(pair.batch(), training=True)
    assert len(np.unique(pair.folded.moving_mean)) == pair.folded.moving_mean.shape[0]


@pytest.mark.parametrize("kind", KINDS)
def test_folded_weights_are_those_of_the_moving_statistics(kind):
    pair = Pair(kind, "ema_stats_folding")
    x = pair.batch()
    kernel, bias = pair.folded.folded_weights()
    assert_close(pair.folded.linear_op(x, kernel) + bias, pair.plain(x, False))


@pytest.mark.parametrize("mode", MODES)
def test_activation_comes_after_the_normalization(mode):
    pair = Pair("conv", mode)
    relu = QConv2DBatchnorm.from_config(pair.folded.get_config() | {"activation": "relu6", "name": "relu"})
    relu.build(pair.shape)
    relu.set_weights(pair.folded.get_weights())
    x = pair.batch()
    for training in (True, False):
        assert_close(relu(x, training=training), keras.ops.relu6(pair.plain(x, training)))
