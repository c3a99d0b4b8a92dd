"""Every kind of pair through folding, unfolding, training and quantizing; separable convolutions; masks."""

import keras
import numpy as np
import pytest
from keras import layers

from qpipe.algorithms import calibrate
from qpipe.config.schema import FoldingConfig, FoldingMode
from qpipe.errors import ConfigError
from qpipe.graph import fold_batchnorm, quantize, unfold_batchnorm
from qpipe.graph.folding import plan_folding
from qpipe.graph.trace import trace
from qpipe.layers.folded import FOLDED_CLASS, BatchnormFolding
from qpipe.lowering.verification import verify_engine

LINE, IMAGE = (9, 3), (7, 6, 3)
KINDS = {
    "conv1d": (LINE, layers.Conv1D(4, 3, padding="causal")),
    "conv1d_groups": (LINE, layers.Conv1D(6, 3, groups=3, dilation_rate=2)),
    "conv2d": (IMAGE, layers.Conv2D(4, 3, strides=2, padding="same")),
    "depthwise1d": (LINE, layers.DepthwiseConv1D(3, depth_multiplier=2)),
    "depthwise2d": (IMAGE, layers.DepthwiseConv2D((2, 3), depth_multiplier=3)),
    "conv1d_transpose": (LINE, layers.Conv1DTranspose(5, 3, strides=2)),
    "conv2d_transpose": (IMAGE, layers.Conv2DTranspose(5, 3, strides=2, padding="same", use_bias=False)),
    "dense": (LINE, layers.Dense(5)),
}


def copy_of(layer, **changes):
    return type(layer).from_config(layer.get_config() | changes)


def pair_model(kind, wrap=lambda *parts: parts):
    shape, linear = KINDS[kind]
    parts = (
        copy_of(linear, name="linear"),
        layers.BatchNormalization(momentum=0.7, name="norm"),
        layers.ReLU(name="relu"),
    )
    return keras.Sequential([keras.Input(shape), *wrap(*parts)])


def nested(*parts):
    return [keras.Sequential(list(parts), name="inner")]


@pytest.mark.parametrize("wrap", [lambda *parts: parts, nested], ids=["flat", "nested"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_folds_and_unfolds(kind, wrap, randomize, assert_same_output):
    model = randomize(pair_model(kind, wrap))
    folded = fold_batchnorm(model)
    (layer,) = [layer for layer in folded.layers if not isinstance(layer, layers.InputLayer)]
    assert type(layer) is FOLDED_CLASS[type(KINDS[kind][1])]
    assert (layer.name, layer.activation.__name__) == ("linear", "relu")
    assert_same_output(folded, model)
    plain = unfold_batchnorm(folded)
    assert type(plain.get_layer("linear")) is type(KINDS[kind][1])
    assert plain.get_layer("linear").use_bias
    assert_same_output(plain, model)


@pytest.mark.parametrize("mode", FoldingMode)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_like_the_pair(kind, mode, randomize, rng):
    model = randomize(pair_model(kind))
    folded = fold_batchnorm(model, FoldingConfig(mode=mode))
    for _ in range(2):
        x = rng.normal(size=(8, *KINDS[kind][0])).astype("float32")
        ours, theirs = np.array(folded(x, training=True)), np.array(model(x, training=True))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
    for name in ("moving_mean", "moving_variance"):
        theirs = np.array(getattr(model.get_layer("norm"), name))
        ours = getattr(folded.get_layer("linear"), name)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_quantizes_to_the_engines_integers(kind, randomize, rng, tmp_path):
    model = randomize(pair_model(kind))
    x = rng.normal(size=(16, *KINDS[kind][0])).astype("float32")
    quantized = calibrate(quantize(fold_batchnorm(model)), x)
    assert isinstance(quantized.get_layer("linear"), BatchnormFolding)
    assert verify_engine(quantized, [[x]]).first_difference is None
    expected = np.array(model(x, training=False))
    assert np.abs(quantized(x) - expected).max() < 0.05 * np.abs(expected).max()
    quantized.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), quantized(x))


def test_channels_first_stays():
    norm = layers.BatchNormalization(axis=1, name="norm")
    model = keras.Sequential([keras.Input((3, 8)), layers.Conv1D(3, 1, data_format="channels_first"), norm])
    assert "is not the channel axis" in plan_folding(trace(model), FoldingConfig()).kept["norm"]


# Separable convolutions ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [layers.SeparableConv1D, layers.SeparableConv2D])
def test_the_pointwise_half_of_a_separable_convolution_folds(kind, randomize, assert_same_output, rng):
    shape = LINE if kind is layers.SeparableConv1D else IMAGE
    norm = layers.BatchNormalization(momentum=0.6, name="norm")
    separable = kind(5, 3, depth_multiplier=2, name="separable")
    model = randomize(keras.Sequential([keras.Input(shape), separable, norm, layers.ReLU(6.0)]))
    folded = fold_batchnorm(model, FoldingConfig(layers=["separable"]))
    assert [layer.name for layer in folded.layers][-2:] == ["separable_depthwise", "separable"]
    assert isinstance(folded.get_layer("separable"), BatchnormFolding)
    assert_same_output(folded, model)
    assert_same_output(unfold_batchnorm(folded), model)
    x = rng.normal(size=(8, *shape)).astype("float32")
    np.testing.assert_allclose(folded(x, training=True), model(x, training=True), atol=1e-4)
    np.testing.assert_allclose(folded.get_layer("separable").moving_mean, norm.moving_mean, rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match=r"'separable_depthwise' has no batch normalization"):
        fold_batchnorm(model, FoldingConfig(layers=["separable_depthwise"]))


# Masks and training arguments ------------------------------------------------------------------------


def masked(linear, explicit=False):
    x = x_in = keras.Input((6, 2))
    mask = keras.ops.any(x > -1.0, axis=-1) if explicit else None
    x = linear(x if explicit else layers.Masking(name="masking")(x))
    x = layers.BatchNormalization(momentum=0.5, name="norm")(x, **({"mask": mask} if explicit else {}))
    return keras.Model(x_in, layers.ReLU(name="relu")(x))


def masked_samples(rng):
    x = rng.normal(size=(8, 6, 2)).astype("float32")
    x[:, 4:] = 0
    x[2] = -2
    return x


@pytest.mark.parametrize(
    ("linear", "explicit"),
    [
        (layers.Dense(3), False),
        (layers.Dense(3), True),
        (layers.Conv1D(3, 3, padding="same"), True),
        (layers.DepthwiseConv1D(3, padding="same"), True),
    ],
)
def test_a_mask_goes_along(linear, explicit, randomize, rng):
    model = randomize(masked(copy_of(linear, name="linear"), explicit))
    folded = fold_batchnorm(model)
    assert isinstance(folded.get_layer("linear"), BatchnormFolding)
    x = masked_samples(rng)
    for training in (True, False):
        np.testing.assert_allclose(folded(x, training=training), model(x, training=training), atol=1e-5)
    layer, norm = folded.get_layer("linear"), model.get_layer("norm")
    np.testing.assert_allclose(layer.moving_mean, norm.moving_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(unfold_batchnorm(folded)(x), model(x, training=False), atol=1e-5)


@pytest.mark.filterwarnings("ignore:Layer .* does not support masking")
def test_a_mask_stays_when_the_folded_model_is_quantized(randomize, rng):
    folded = fold_batchnorm(randomize(masked(layers.Dense(3, name="linear"))))
    x = masked_samples(rng)
    quantized = calibrate(quantize(folded), x)
    layer = quantized.get_layer("linear")
    before, y = np.array(layer.moving_mean), x @ np.array(layer.kernel) + np.array(layer.bias)
    quantized(x, training=True)
    kept = 0.5 * before + 0.5 * y[(x != 0).any(-1)].mean(0)
    assert np.abs(kept - layer.moving_mean).max() < 0.01
    assert np.abs(0.5 * before + 0.5 * y.mean((0, 1)) - layer.moving_mean).max() > 0.05


@pytest.mark.filterwarnings("ignore:Layer .* does not support masking")
def test_a_pair_stays_where_keras_drops_the_mask_between_them(randomize, rng):
    model = randomize(masked(layers.Conv1D(3, 3, padding="same", name="linear")))
    assert "a mask reaches 'linear'" in plan_folding(trace(model), FoldingConfig()).kept["norm"]
    x = masked_samples(rng)
    np.testing.assert_allclose(fold_batchnorm(model)(x, training=True), model(x, training=True), atol=1e-6)


@pytest.mark.filterwarnings("ignore:Layer .* does not support masking")
def test_an_average_under_a_mask_stays_in_float(randomize, rng):
    x = x_in = keras.Input((6, 2))
    x = layers.Dense(3, name="linear")(layers.Masking()(x))
    model = randomize(keras.Model(x_in, layers.GlobalAveragePooling1D(name="mean")(x)))
    samples = masked_samples(rng)
    quantized = calibrate(quantize(model), samples)
    assert type(quantized.get_layer("mean")) is layers.GlobalAveragePooling1D
    expected = np.array(model(samples))
    assert np.abs(quantized(samples) - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("training", [True, False])
def test_the_training_argument_of_the_normalization_goes_along(training, randomize, rng):
    x = x_in = keras.Input((5,))
    x = layers.BatchNormalization(momentum=0.5, name="norm")(layers.Dense(3, name="linear")(x), training=training)
    model = randomize(keras.Model(x_in, x))
    folded = fold_batchnorm(model)
    x = rng.normal(size=(8, 5)).astype("float32")
    np.testing.assert_allclose(folded(x), model(x), atol=1e-5)
    np.testing.assert_allclose(folded.get_layer("linear").moving_mean, model.get_layer("norm").moving_mean, atol=1e-6)


@pytest.mark.parametrize("delay", [0, 5, None])
def test_a_delay_of_0_is_not_never(delay):
    folded = fold_batchnorm(pair_model("dense"), FoldingConfig(ema_freeze_delay=delay))
    assert folded.get_layer("linear").ema_freeze_delay == delay
