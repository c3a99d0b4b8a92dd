"""Data-parallel training on two virtual devices, which TensorFlow has to be told of before it starts."""

import json
import subprocess
import sys
from itertools import pairwise

import pytest

SCRIPT = """
import json, sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import numpy as np
from keras import layers

import qpipe
from qpipe.config.schema import FoldingConfig, FoldingMode, QuantizerConfig
from qpipe.graph.quantization import quantize_with_plan
from qpipe.layers.inventory import freezing_parts
from qpipe.training.freeze import FreezeByRetracing, follow_data

DELAY = 5
rng = np.random.default_rng(0)
x = rng.normal(size=(64, 8, 8, 4)).astype("float32")
y = np.eye(3, dtype="float32")[rng.integers(0, 3, 64)]


def network():
    inputs = keras.Input((8, 8, 4))
    out = layers.DepthwiseConv2D(3, use_bias=False, name="depthwise")(inputs)
    out = layers.ReLU(6.0)(layers.BatchNormalization()(out))
    out = layers.BatchNormalization()(layers.Conv2D(4, 1, use_bias=False, name="pointwise")(out))
    out = layers.Add()([out, layers.Conv2D(4, 1, name="branch")(out)])
    out = layers.BatchNormalization(name="standing")(out)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(out)))


def local_values(variable):
    return [value.numpy().tolist() for value in variable.value.values]


def trained(mode, callbacks):
    keras.utils.set_random_seed(0)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = qpipe.fold_batchnorm(network(), FoldingConfig(mode=mode, ema_freeze_delay=DELAY))
        model = quantize_with_plan(model, QuantizerConfig(), ema_freeze_delay=DELAY).model
        follow_data(qpipe.calibrate(model, x))
        model.compile("adam", "categorical_crossentropy")
    model.fit(x, y, batch_size=16, epochs=3, verbose=0, shuffle=False, callbacks=callbacks)
    return model


if sys.argv[1] == "unknown step":
    trained(FoldingMode.ema_stats_folding, [])
snapshots = []


class Snapshots(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        layer = self.model.get_layer("depthwise")
        snapshots.append([local_values(v) for v in (layer.moving_mean, layer.moving_variance)])


model = trained(FoldingMode[sys.argv[1]], [FreezeByRetracing(), Snapshots()])
steps = [local_values(part.steps) for part in freezing_parts(model)]
differing = [v.path for v in model.variables if len({str(value) for value in local_values(v)}) > 1]
print(json.dumps({"steps": steps, "differing": differing, "snapshots": snapshots}))
"""


def run(argument):
    command = [sys.executable, "-c", SCRIPT, argument]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("mode", ["ema_stats_folding", pytest.param("batch_stats_folding", marks=pytest.mark.slow)])
def test_replicas_freeze_on_the_same_step_with_the_same_statistics(mode):
    result = run(mode)
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["differing"] == []
    assert found["steps"] == [[5, 5]] * len(found["steps"])
    snapshots = found["snapshots"]
    assert len(snapshots) == 12
    assert all(before != after for before, after in pairwise(snapshots[:5]))
    assert all(later == snapshots[4] for later in snapshots[5:])


def test_a_freeze_that_only_a_conditional_could_find_is_an_error():
    result = run("unknown step")
    assert result.returncode == 1
    assert "ema_freeze_delay=5 needs to know the step on 2 replicas; give qpipe.training.freeze" in result.stderr
