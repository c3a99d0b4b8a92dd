import keras
import numpy as np
import pytest
from keras import layers

from qpipe.config.schema import FoldingConfig, FoldingMode
from qpipe.errors import ConfigError, QuantizationError
from qpipe.graph import fold_batchnorm, quantize, unfold_batchnorm
from qpipe.graph.folding import plan_folding
from qpipe.graph.trace import trace
from qpipe.layers import QConv2DBatchnorm, QDenseBatchnorm, QDepthwiseConv2DBatchnorm
from qpipe.layers.batch_statistics import BatchStatistics


def model_of(build, shape=(8, 8, 3)):
    """A model of `build`, a function from tensor to tensor(s)."""
    inputs = keras.Input(shape, name="input")
    return keras.Model(inputs, build(inputs))


def conv(name="conv", filters=4, **arguments):
    return layers.Conv2D(filters, 3, padding="same", name=name, **arguments)


def norm(name="norm", **arguments):
    return layers.BatchNormalization(name=name, **arguments)


def chain(*parts):
    def build(x):
        for part in parts:
            x = part(x)
        return x

    return build


def small():
    return model_of(
        chain(
            conv("first", use_bias=False), norm("norm_1"), layers.ReLU(6.0, name="relu_1"),
            layers.DepthwiseConv2D(3, name="depthwise"), norm("norm_2"), layers.ReLU(name="relu_2"),
            layers.Flatten(name="flatten"), layers.Dense(5, name="dense"), norm("norm_3"),
        )
    )  # fmt: skip


def names(model):
    return [layer.name for layer in model.layers]


def reason_of(model, config=None):
    """Why the layer `norm` stays, from the plan."""
    return plan_folding(trace(model), config or FoldingConfig()).kept["norm"]


# What folds ----------------------------------------------------------------------------------------


def test_all_three_kinds_fold_with_their_activations(randomize, assert_same_output):
    model = randomize(small())
    folded = fold_batchnorm(model)
    assert names(folded) == ["input", "first", "depthwise", "flatten", "dense"]
    kinds = [type(folded.get_layer(name)) for name in ("first", "depthwise", "dense")]
    assert kinds == [QConv2DBatchnorm, QDepthwiseConv2DBatchnorm, QDenseBatchnorm]
    assert [folded.get_layer(name).activation.__name__ for name in ("first", "depthwise", "dense")] == [
        "relu6",
        "relu",
        "linear",
    ]
    assert_same_output(folded, model)


@pytest.mark.parametrize("mode", FoldingMode)
def test_a_folded_model_trains_like_the_original(mode, randomize, rng):
    model = randomize(small())
    folded = fold_batchnorm(model, FoldingConfig(mode=mode))
    x = rng.normal(size=(8, 8, 8, 3)).astype("float32")
    ours, theirs = np.array(folded(x, training=True)), np.array(model(x, training=True))
    np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())
    for fold, plain in (("first", "norm_1"), ("depthwise", "norm_2"), ("dense", "norm_3")):
        for name in ("moving_mean", "moving_variance"):
            ours, theirs = getattr(folded.get_layer(fold), name), np.array(getattr(model.get_layer(plain), name))
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


def test_every_hyperparameter_and_weight_is_carried_over(randomize):
    arguments = {
        "momentum": 0.83,
        "epsilon": 0.02,
        "center": True,
        "scale": True,
        "gamma_regularizer": keras.regularizers.L2(0.1),
        "beta_regularizer": keras.regularizers.L1(0.2),
        "gamma_constraint": keras.constraints.NonNeg(),
        "beta_constraint": keras.constraints.MaxNorm(3),
        "gamma_initializer": keras.initializers.Constant(0.5),
        "beta_initializer": keras.initializers.Constant(0.6),
        "moving_mean_initializer": keras.initializers.Constant(0.7),
        "moving_variance_initializer": keras.initializers.Constant(0.8),
    }
    linear = {"kernel_regularizer": keras.regularizers.L2(0.3), "kernel_constraint": keras.constraints.MaxNorm(2)}
    model = randomize(model_of(chain(conv(**linear), norm(**arguments))))
    folded = fold_batchnorm(model, FoldingConfig(mode=FoldingMode.batch_stats_folding, ema_freeze_delay=7))
    layer, plain = folded.get_layer("conv"), model.get_layer("norm")
    ours, theirs = layer.get_config(), plain.get_config()
    for key in arguments:
        assert ours[key] == theirs[key], key
    for key in linear:
        assert ours[key] == model.get_layer("conv").get_config()[key]
    assert (layer.folding_mode, layer.ema_freeze_delay) == ("batch_stats_folding", 7)
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        np.testing.assert_array_equal(getattr(layer, name), getattr(plain, name))
    np.testing.assert_array_equal(layer.kernel, model.get_layer("conv").kernel)
    assert [float(loss) for loss in folded.losses] == pytest.approx([float(loss) for loss in model.losses])
    assert len(model.losses) == 3


@pytest.mark.parametrize("arguments", [{"center": False}, {"scale": False}, {"center": False, "scale": False}])
@pytest.mark.parametrize("use_bias", [True, False])
def test_without_center_scale_or_bias(arguments, use_bias, randomize, assert_same_output):
    model = randomize(model_of(chain(conv(use_bias=use_bias), norm(**arguments))))
    folded = fold_batchnorm(model)
    assert names(folded) == ["input", "conv"]
    assert_same_output(folded, model)
    assert_same_output(unfold_batchnorm(folded), model)


@pytest.mark.parametrize(
    ("activation", "absorbed"),
    [
        (layers.ReLU(), True),
        (layers.ReLU(6.0), True),
        (layers.Activation("relu"), True),
        (layers.Activation("relu6"), True),
        (layers.ReLU(4.0), True),
        (layers.ReLU(negative_slope=0.1), False),
        (layers.ReLU(threshold=0.5), False),
        (layers.Activation("tanh"), False),
        (layers.LeakyReLU(), False),
    ],
)
def test_only_clamps_go_along(activation, absorbed, randomize, assert_same_output):
    activation = type(activation).from_config(activation.get_config() | {"name": "activation"})
    model = randomize(model_of(chain(conv(), norm(), activation)))
    folded = fold_batchnorm(model)
    assert ("activation" not in names(folded)) is absorbed
    assert_same_output(folded, model)


def test_an_activation_that_others_share_or_that_reads_with_others_stays(randomize, assert_same_output):
    def two_readers(x):
        x = norm()(conv()(x))
        return layers.Add()([layers.ReLU(name="relu")(x), x])

    def shared_relu(x):
        relu = layers.ReLU(name="relu")
        return layers.Add()([relu(norm()(conv()(x))), relu(conv("other")(x))])

    for build in (two_readers, shared_relu):
        model = randomize(model_of(build))
        folded = fold_batchnorm(model)
        assert "relu" in names(folded)
        assert "norm" not in names(folded)
        assert_same_output(folded, model)


def test_a_frozen_normalization_stays_frozen(randomize, rng):
    model = randomize(model_of(chain(conv(), norm(trainable=False))))
    folded = fold_batchnorm(model, FoldingConfig(ema_freeze_delay=9))
    x = rng.normal(size=(4, 8, 8, 3)).astype("float32")
    before = np.array(folded.get_layer("conv").moving_mean)
    np.testing.assert_allclose(folded(x, training=True), model(x, training=True), atol=1e-4)
    np.testing.assert_array_equal(folded.get_layer("conv").moving_mean, before)


def test_trainable_is_kept(randomize):
    model = model_of(chain(conv(), norm(), conv("second"), norm("norm_2")))
    model.get_layer("conv").trainable = model.get_layer("norm").trainable = False
    folded = fold_batchnorm(model)
    assert [folded.get_layer(name).trainable for name in ("conv", "second")] == [False, True]
    assert len(folded.trainable_weights) == len(model.trainable_weights)


def test_what_is_trainable_in_one_half_stays_so():
    for frozen, trainable in (("conv", {"gamma", "beta"}), ("norm", {"kernel"})):
        model = model_of(chain(conv(use_bias=False), norm()))
        model.get_layer(frozen).trainable = False
        folded = fold_batchnorm(model)
        assert {variable.name for variable in folded.trainable_weights} == trainable


# What stays ------------------------------------------------------------------------------------------


def relu_before(x):
    return norm()(layers.ReLU()(conv()(x)))


def own_activation(x):
    return norm()(conv(activation="relu")(x))


def two_consumers(x):
    x = conv()(x)
    return layers.Add()([norm()(x), x])


def shared_linear(x):
    layer = conv(filters=3)
    return layers.Add()([norm()(layer(x)), norm("other")(layer(x * 2))])


def shared_norm(x):
    shared = norm()
    return layers.Add()([shared(conv()(x)), shared(conv("other")(x))])


def linear_is_output(x):
    x = conv()(x)
    return [x, norm()(x)]


def at_input(x):
    return norm()(x)


def after_add(x):
    return norm()(layers.Add()([conv()(x), conv("other")(x)]))


def other_axis(x):
    return norm(axis=1)(conv()(x))


def synchronized(x):
    return norm(synchronized=True)(conv()(x))


class MyNormalization(layers.BatchNormalization):
    """A subclass may compute anything."""


def subclassed(x):
    return MyNormalization(name="norm")(conv()(x))


REFUSED = {
    relu_before: "not from a layer that folds",
    own_activation: "'conv' has an activation of its own",
    two_consumers: "'conv' feeds other layers too",
    shared_linear: "'conv' is shared",
    shared_norm: "it is shared",
    linear_is_output: "'conv' is an output of the model",
    at_input: "at the model's input",
    after_add: "not from a layer that folds",
    other_axis: "its axis 1 is not the channel axis",
    synchronized: "synchronized",
    subclassed: "MyNormalization is not a plain BatchNormalization",
}


@pytest.mark.parametrize("build", REFUSED, ids=lambda build: build.__name__)
def test_what_may_not_fold_stays_with_a_reason(build, randomize, assert_same_output):
    model = randomize(model_of(build))
    assert REFUSED[build] in reason_of(model)
    folded = fold_batchnorm(model)
    assert "norm" in names(folded)
    assert not any(isinstance(layer, BatchStatistics) for layer in folded.layers)
    assert_same_output(folded, model)


def test_a_normalization_that_is_an_output_folds_but_takes_no_activation_in(randomize, assert_same_output):
    def build(x):
        x = norm()(conv()(x))
        return [x, layers.ReLU(name="relu")(x)]

    model = randomize(model_of(build))
    folded = fold_batchnorm(model)
    assert names(folded) == ["input", "conv", "relu"]
    assert_same_output(folded, model)


def test_operator_nodes_and_branches_survive(randomize, assert_same_output):
    def build(x):
        x = norm()(conv()(x)) + 1.0
        y = keras.ops.relu(norm("norm_2")(conv("second")(x)))
        return {"sum": layers.Concatenate()([x, y]) * 2.0, "flat": layers.Flatten()(y)}

    model = randomize(model_of(build))
    folded = fold_batchnorm(model)
    assert_same_output(folded, model)
    assert sorted(folded.output) == ["flat", "sum"]
    assert sum(isinstance(layer, BatchStatistics) for layer in folded.layers) == 2


def test_nested_models_fold_inside(randomize, assert_same_output):
    inner = keras.Sequential([keras.Input((8, 8, 3)), conv(), norm(), layers.ReLU()], name="inner")
    outer = keras.Sequential([keras.Input((8, 8, 3)), inner, conv("head"), norm("norm_2")])
    model = randomize(model_of(chain(outer, layers.Flatten(name="flat"))))
    folded = fold_batchnorm(model)
    assert names(folded) == ["input", "conv", "head", "flat"]
    assert_same_output(folded, model)


def test_sequential_folds(randomize, assert_same_output):
    model = randomize(keras.Sequential([keras.Input((8, 8, 3)), conv(), norm()]))
    folded = fold_batchnorm(model)
    assert sum(isinstance(layer, BatchStatistics) for layer in folded.layers) == 1
    assert_same_output(folded, model)


# Selection -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selected", "exclude", "expected"),
    [
        (["*"], [], ["first", "depthwise", "dense"]),
        (["*"], ["first"], ["depthwise", "dense"]),
        (["d*"], [], ["depthwise", "dense"]),
        (["re:(first|dense)"], [], ["first", "dense"]),
        (["re:.*"], ["re:d.*"], ["first"]),
        (["dense"], [], ["dense"]),
        (["first", "dense"], ["dense"], ["first"]),
        ([], [], []),
    ],
)
def test_selectors(selected, exclude, expected, randomize, assert_same_output):
    model = randomize(small())
    folded = fold_batchnorm(model, FoldingConfig(layers=selected, exclude=exclude))
    assert [layer.name for layer in folded.layers if isinstance(layer, BatchStatistics)] == expected
    assert_same_output(folded, model)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (FoldingConfig(layers=["frist"]), r"folding\.layers\[0\]: 'frist' matches no .*did you mean 'first'"),
        (FoldingConfig(layers=["*", "block_*"]), r"folding\.layers\[1\]: 'block_\*' matches no"),
        (FoldingConfig(layers=["re:x.*"]), r"folding\.layers\[0\]: 're:x\.\*' matches no"),
        (FoldingConfig(exclude=["densse"]), r"folding\.exclude\[0\]: 'densse' matches no .*did you mean 'dense'"),
        (FoldingConfig(layers=["re:firs"]), "matches no .*did you mean 'first'"),
    ],
)
def test_a_selector_that_matches_nothing_names_the_nearest(config, message):
    with pytest.raises(ConfigError, match=message):
        fold_batchnorm(small(), config)


def test_an_exact_name_that_may_not_fold_says_why_and_lists_the_candidates():
    def build(x):
        x = norm("norm_2")(conv("good")(x))
        return norm()(conv("bad", activation="relu")(x)), conv("bare")(x)

    with pytest.raises(
        ConfigError, match=r"'bad' has no batch normalization .*activation of its own.*layers that fold: good"
    ):
        fold_batchnorm(model_of(build), FoldingConfig(layers=["bad"]))
    with pytest.raises(ConfigError, match=r"no batch normalization follows it"):
        fold_batchnorm(model_of(build), FoldingConfig(layers=["bare"]))


def test_the_default_may_match_nothing(assert_same_output):
    model = model_of(chain(layers.Flatten(), layers.Dense(3)))
    assert_same_output(fold_batchnorm(model), model)


def test_the_plan_tells_what_was_absorbed_and_what_was_not_selected():
    plan = plan_folding(trace(small()), FoldingConfig(exclude=["dense"]))
    assert plan.absorbed() == {"first": ["norm_1", "relu_1"], "depthwise": ["norm_2", "relu_2"]}
    assert plan.kept == {"norm_3": "'dense' is excluded by folding.exclude"}


# Unfolding, and the model that was given -------------------------------------------------------------


def test_unfolding_gives_plain_layers_with_the_same_output(randomize, assert_same_output):
    model = randomize(small())
    plain = unfold_batchnorm(fold_batchnorm(model))
    kinds = [type(plain.get_layer(name)) for name in ("first", "depthwise", "dense")]
    assert kinds == [layers.Conv2D, layers.DepthwiseConv2D, layers.Dense]
    assert all(plain.get_layer(name).use_bias for name in ("first", "depthwise", "dense"))
    assert_same_output(plain, model)


def test_unfolding_a_quantized_model_is_an_error():
    quantized = quantize(fold_batchnorm(small()))
    with pytest.raises(QuantizationError, match="'first' has quantizers"):
        unfold_batchnorm(quantized)


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV2"])
def test_applications(name, randomize, assert_same_output):
    build = getattr(keras.applications, name)
    arguments = (
        {"alpha": 0.25, "input_shape": (64, 64, 3)}
        if name == "MobileNet"
        else {"alpha": 0.35, "input_shape": (32, 32, 3)}
    )
    model = randomize(build(**arguments, weights=None, classes=10, classifier_activation=None))
    weights, config = model.get_weights(), model.get_config()
    folded = fold_batchnorm(model)
    total = sum(isinstance(layer, layers.BatchNormalization) for layer in model.layers)
    assert total == {"MobileNet": 27, "MobileNetV2": 52}[name]
    assert sum(isinstance(layer, BatchStatistics) for layer in folded.layers) == total
    assert not any(isinstance(layer, layers.BatchNormalization | layers.ReLU) for layer in folded.layers)
    assert_same_output(folded, model, 1e-4)
    assert model.get_config() == config
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert_same_output(unfold_batchnorm(folded), model, 1e-4)
