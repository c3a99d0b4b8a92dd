"""Mistakes of other implementations that no other file tests: configs, files, constraints, noise.

The others: the axis, `center`, `scale` and `trainable` in `test_folded_equals_pair.py` and `test_qkeras_arguments.py`;
the freeze, its delay and what inference costs in `test_folded_freeze.py`; masks and tensors for `training` in
`test_folded_masks.py`; what folds, and what is carried over, in `tests/graph/`.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from folded_kinds import KINDS, MODES

from qpipe.layers import QConv2DBatchnorm, QDenseBatchnorm
from qpipe.quantizers import WeightQuantizer


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_makes_the_same_layer(kind):
    arguments = {
        "name": "mine",
        "trainable": False,
        "dtype": "mixed_bfloat16",
        "momentum": 0.8,
        "epsilon": 0.02,
        "scale": False,
        "ema_freeze_delay": 4,
        "folding_mode": "batch_stats_folding",
        "gamma_regularizer": keras.regularizers.L2(0.1),
        "kernel_quantizer": "quantized_bits(5, alpha='auto')",
        "bias_quantizer": "quantized_bits(9)",
    }
    layer = KINDS[kind].folded(*KINDS[kind].size, **KINDS[kind].arguments, **arguments)
    twin = type(layer).from_config(layer.get_config())
    for key in ("name", "trainable", "momentum", "epsilon", "scale", "ema_freeze_delay", "folding_mode"):
        assert getattr(twin, key) == arguments[key]
    assert twin.dtype_policy.name == "mixed_bfloat16"
    assert twin.gamma_regularizer.l2 == pytest.approx(0.1)
    assert twin.kernel_quantizer.bitwidth == 5
    assert (twin.use_bias, twin.center) == (True, True)


@pytest.mark.parametrize("kind", KINDS)
def test_both_kinds_of_file_load(kind, tmp_path, rng):
    arguments = KINDS[kind].arguments | {"kernel_quantizer": "quantized_bits(5, alpha='auto')", "ema_freeze_delay": 4}
    layer = KINDS[kind].folded(*KINDS[kind].size, **arguments, name="mine")
    twin = type(layer).from_config(layer.get_config())
    model = keras.Sequential([keras.Input(KINDS[kind].shape[1:]), layer])
    x = rng.normal(size=KINDS[kind].shape).astype("float32")
    model(x, training=True)
    names = [variable.path for variable in model.weights]
    assert len(names) == len(set(names))
    assert sum(name.endswith("steps") for name in names) == 1
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    other = keras.Sequential([keras.Input(KINDS[kind].shape[1:]), twin])
    other.load_weights(tmp_path / "model.weights.h5")
    for again in (loaded, other):
        for old, new in zip(model.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
        np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("mode", MODES)
def test_the_quantized_range_is_that_of_the_folded_kernel(mode):
    """A large kernel with a large variance folds to a small one: nothing may cut off the unfolded one."""
    outputs = []
    for factor in (1.0, 512.0):
        layer = QConv2DBatchnorm(
            4, 3, folding_mode=mode, kernel_quantizer="quantized_bits(4, alpha='auto')", epsilon=0.0
        )
        layer.build((8, 6, 6, 3))
        random = np.random.default_rng(2)
        layer.kernel.assign(random.normal(size=layer.kernel.shape) * factor)
        layer.moving_variance.assign(random.uniform(0.5, 2.0, size=4) * factor**2)
        x = random.normal(size=(8, 6, 6, 3)).astype("float32")
        outputs.append([np.array(layer(x, training=training)) for training in (False, True)])
        assert layer.kernel_constraint is None
        assert np.abs(np.array(layer.kernel)).max() > factor
    for small, large in zip(*outputs, strict=True):
        np.testing.assert_allclose(large, small, rtol=1e-4, atol=1e-4)


def test_a_constraint_holds_for_the_variable_as_in_the_plain_pair(rng):
    constraint = keras.constraints.MaxNorm(0.5, axis=0)
    x, y = rng.normal(size=(32, 6)).astype("float32"), rng.normal(size=(32, 3)).astype("float32")
    layer = QDenseBatchnorm(3, kernel_constraint=constraint, moving_variance_initializer=keras.initializers.Constant(9))
    plain = keras.layers.Dense(3, kernel_constraint=constraint)
    norm = keras.layers.BatchNormalization(moving_variance_initializer=keras.initializers.Constant(9))
    models = [keras.Sequential([keras.Input((6,)), *parts]) for parts in ([layer], [plain, norm])]
    layer.kernel.assign(plain.kernel)
    for model in models:
        model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=False)
        model.train_on_batch(x, y)
    np.testing.assert_allclose(layer.kernel, plain.kernel, rtol=1e-4, atol=1e-6)
    assert np.linalg.norm(layer.kernel, axis=0) == pytest.approx([0.5] * 3, rel=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_stochastic_rounding_draws_anew_in_every_traced_step(mode, rng):
    quantizer = WeightQuantizer(bitwidth=3, rounding="stochastic", seed=1)
    layer = QConv2DBatchnorm(4, 3, folding_mode=mode, kernel_quantizer=quantizer, ema_freeze_delay=0)
    layer.build((8, 6, 6, 3))
    step = tf.function(lambda x, training: layer(x, training=training))
    x = tf.constant(rng.normal(size=(8, 6, 6, 3)), tf.float32)
    first, second = step(x, True), step(x, True)
    assert step.experimental_get_tracing_count() == 1
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(step(x, False), step(x, False))
