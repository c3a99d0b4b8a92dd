"""The freeze of folded layers: exactly N steps use batch statistics, afterwards nothing moves."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from folded_kinds import KINDS, MODES

from qpipe.algorithms import calibrate
from qpipe.config.schema import FoldingConfig, QuantizerConfig
from qpipe.graph import fold_batchnorm
from qpipe.graph.quantization import quantize_with_plan
from qpipe.layers import QConv2DBatchnorm, QDenseBatchnorm, QuantizedBatchNormalization
from qpipe.layers.inventory import freezing_parts
from qpipe.lowering.verification import verify_engine
from qpipe.training.freeze import follow_data

SHAPES = {kind.folded: (8, *kind.shape[1:]) for kind in KINDS.values()}
SIZES = {kind.folded: kind.size for kind in KINDS.values()}


def make(kind, mode="ema_stats_folding", delay=None):
    layer = kind(*SIZES[kind], folding_mode=mode, ema_freeze_delay=delay)
    layer.build(SHAPES[kind])
    return layer


def statistics(layer):
    return np.array(layer.moving_mean), np.array(layer.moving_variance), int(layer.steps)


def uses_batch_statistics(layer, x):
    """Runs a training step and tells whether its output is that of the moving statistics before the step."""
    with_moving = np.array(layer(x, training=False))
    return not np.allclose(layer(x, training=True), with_moving, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("delay", [1, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", SHAPES)
def test_exactly_n_steps_use_batch_statistics(kind, mode, delay, rng):
    layer = make(kind, mode, delay)
    used, states = [], []
    for _ in range(delay + 3):
        x = rng.normal(1.0, 2.0, SHAPES[kind]).astype("float32")
        used.append(uses_batch_statistics(layer, x))
        states.append(statistics(layer))
    assert used == [True] * delay + [False] * 3
    for state in states[delay:]:
        for frozen, value in zip(states[delay - 1], state, strict=True):
            np.testing.assert_array_equal(frozen, value)
    assert states[-1][2] == delay


@pytest.mark.parametrize("kind", SHAPES)
def test_delay_zero_freezes_from_the_first_step(kind, rng):
    layer = make(kind, delay=0)
    assert not uses_batch_statistics(layer, rng.normal(1.0, 2.0, SHAPES[kind]).astype("float32"))
    assert statistics(layer)[2] == 0


@pytest.mark.parametrize("delay", [None, -1])
def test_no_delay_never_freezes(delay, rng):
    layer = make(QConv2DBatchnorm, delay=delay)
    for step in range(5):
        assert uses_batch_statistics(layer, rng.normal(step, 2.0, SHAPES[QConv2DBatchnorm]).astype("float32"))
    assert statistics(layer)[2] == 5


@pytest.mark.parametrize("mode", MODES)
def test_the_freeze_happens_inside_a_traced_step(mode, rng):
    layer = make(QConv2DBatchnorm, mode, 2)
    step = tf.function(lambda x: layer(x, training=True))
    states = []
    for _ in range(4):
        step(tf.constant(rng.normal(1.0, 2.0, SHAPES[QConv2DBatchnorm]), tf.float32))
        states.append(statistics(layer))
    assert step.experimental_get_tracing_count() == 1
    assert [state[2] for state in states] == [1, 2, 2, 2]
    assert not np.array_equal(states[0][0], states[1][0])
    np.testing.assert_array_equal(states[1][0], states[3][0])


def test_inference_counts_and_moves_nothing(rng):
    layer = make(QConv2DBatchnorm, delay=3)
    before = statistics(layer)
    layer(rng.normal(size=(8, 6, 6, 3)).astype("float32"), training=False)
    for old, new in zip(before, statistics(layer), strict=True):
        np.testing.assert_array_equal(old, new)


LINEAR = {"Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul"}
MOMENTS = {"Mean", "SquaredDifference", "FusedBatchNormV3"}


def counts(layer, training):
    """How many linear operations, moments and assignments the traced graph has."""
    shape = SHAPES[type(layer)]
    graph = tf.function(lambda x: layer(x, training=training)).get_concrete_function(tf.TensorSpec(shape)).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assigned = sum("Assign" in kind for kind in kinds)
    return sum(kind in LINEAR for kind in kinds), sum(kind in MOMENTS for kind in kinds), assigned


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", SHAPES)
def test_inference_is_one_linear_operation_without_moments_and_assignments(kind, mode):
    layer = make(kind, mode)
    linear, moments, assigned = counts(layer, training=True)
    assert (linear, moments > 0, assigned) == (2, True, 3)
    assert counts(layer, training=False) == (1, 0, 0)
    layer.trainable = False
    assert counts(layer, training=True) == (1, 0, 0)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_step_that_is_known_to_be_frozen_is_one_linear_operation(kind):
    layer = make(kind, delay=5)
    layer.known_frozen = True
    assert counts(layer, training=True) == (1, 0, 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", SHAPES)
def test_the_frozen_branch_of_the_conditional_is_one_linear_operation(kind, mode):
    layer = make(kind, mode, delay=5)
    traced = tf.function(lambda x: layer(x, training=True)).get_concrete_function(tf.TensorSpec(SHAPES[kind]))
    choices = [operation for operation in traced.graph.get_operations() if operation.type in ("If", "StatelessIf")]
    assert len(choices) == 1
    assert not any("Assign" in operation.type for operation in traced.graph.get_operations())
    functions = {function.signature.name: function for function in traced.graph.as_graph_def().library.function}
    moving, frozen = (
        [node.op for node in functions[choices[0].get_attr(branch).name].node_def]
        for branch in ("then_branch", "else_branch")
    )
    assert sum(kind in LINEAR for kind in moving) == 2
    assert sum("Assign" in kind for kind in moving) == 3
    assert sum(kind in LINEAR for kind in frozen) == 1
    assert not any(kind in MOMENTS or "Assign" in kind for kind in frozen)


def test_a_frozen_step_of_a_quantized_network_assigns_nothing(rng):
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, use_bias=False)(inputs))
    x = keras.layers.BatchNormalization()(keras.layers.DepthwiseConv2D(3, use_bias=False)(keras.layers.ReLU(6.0)(x)))
    network = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    model = fold_batchnorm(network, FoldingConfig(ema_freeze_delay=5))
    model = quantize_with_plan(model, QuantizerConfig(), ema_freeze_delay=5).model
    calibrate(model, rng.normal(size=(8, 6, 6, 3)).astype("float32"))
    follow_data(model)

    def kinds():
        step = tf.function(lambda x: model(x, training=True)).get_concrete_function(tf.TensorSpec((8, 6, 6, 3)))
        return [operation.type for operation in step.graph.get_operations()]

    for part in freezing_parts(model):
        part.known_frozen = False
    assert sum(kind in LINEAR for kind in kinds()) == 5
    for part in freezing_parts(model):
        part.known_frozen = True
    frozen = kinds()
    assert sum(kind in LINEAR for kind in frozen) == 3
    assert not any(kind in MOMENTS or "Assign" in kind for kind in frozen)


@pytest.mark.parametrize(("mode", "delay"), zip(MODES, (3, None), strict=True))
def test_fit_counts_steps_and_the_file_keeps_them(mode, delay, rng, tmp_path):
    arguments = {"folding_mode": mode, "ema_freeze_delay": delay}
    model = keras.Sequential(
        [
            keras.Input((5, 5, 3)),
            QConv2DBatchnorm(4, 3, activation="relu", name="conv", **arguments),
            keras.layers.Flatten(),
            QDenseBatchnorm(2, name="dense", **arguments),
        ]
    )
    model.compile("sgd", "mse", jit_compile=False)
    x, y = rng.normal(size=(20, 5, 5, 3)).astype("float32"), rng.normal(size=(20, 2)).astype("float32")
    model.fit(x, y, batch_size=4, verbose=0)
    assert [int(model.get_layer(name).steps) for name in ("conv", "dense")] == [delay or 5] * 2
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for old, new in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    before = statistics(loaded.get_layer("conv"))
    for _ in range(2):
        loaded(x, training=True)
    after = statistics(loaded.get_layer("conv"))
    assert after[2] == (delay or 7)
    assert np.array_equal(before[0], after[0]) == (delay is not None)


def test_weights_file_round_trip(rng, tmp_path):
    layer = make(QConv2DBatchnorm, delay=4)
    model = keras.Sequential([keras.Input((6, 6, 3)), layer])
    layer(rng.normal(size=(8, 6, 6, 3)).astype("float32"), training=True)
    model.save_weights(tmp_path / "model.weights.h5")
    twin = keras.Sequential([keras.Input((6, 6, 3)), make(QConv2DBatchnorm, delay=4)])
    twin.load_weights(tmp_path / "model.weights.h5")
    for old, new in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_an_unknown_folding_mode_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'ema_stats_folding'"):
        QDenseBatchnorm(3, folding_mode="ema_stat_folding")


@pytest.mark.parametrize("delay", [0, 2])
def test_quantized_batch_normalization_freezes_alike(delay, ranged, rng):
    layer = QuantizedBatchNormalization(
        {"output_quantizer": {"bitwidth": 8}}, input_quantizer=ranged(-4.0, 4.0), ema_freeze_delay=delay
    )
    layer.output_quantizer.set_range(-4.0, 4.0)
    states = []
    for _ in range(delay + 2):
        layer(rng.normal(1.0, 1.0, (8, 5, 5, 3)).astype("float32"), training=True)
        states.append(statistics(layer))
    assert states[-1][2] == delay
    np.testing.assert_array_equal(states[max(delay - 1, 0)][0], states[-1][0])


def test_a_standing_batch_normalization_freezes_inside_a_traced_fit(rng):
    i = keras.Input((6, 6, 3))
    y = keras.layers.BatchNormalization(name="norm")(keras.layers.MaxPooling2D()(i))
    model = quantize_with_plan(keras.Model(i, y), QuantizerConfig(), ema_freeze_delay=3).model
    x = rng.normal(size=(32, 6, 6, 3)).astype("float32")
    calibrate(model, x)
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((32, 3, 3, 3)), batch_size=8, epochs=2, verbose=0)
    assert int(model.get_layer("norm").steps) == 3
    assert verify_engine(model, [[x]]).first_difference is None
