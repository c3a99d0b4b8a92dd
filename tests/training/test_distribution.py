"""A whole job, both trainings on two virtual devices, which TensorFlow has to be told of before it starts."""

import json
import subprocess
import sys

import pytest
from small_job import overrides, prepare

SCRIPT = """
import json, logging, sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
logging.basicConfig(level=logging.INFO)
import qpipe

try:
    print(json.dumps(qpipe.run(json.loads(sys.argv[1])).metrics))
except qpipe.errors.ConfigError as error:
    print(json.dumps(str(error)))
"""


def run(arguments):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(arguments)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stdout + done.stderr


@pytest.mark.slow
def test_both_trainings_on_two_devices(tmp_path):
    """144 training samples less validation in batches of 16: whole batches only, and a freeze in the middle."""
    settings = {"tracking__log_models": "false", "folding__ema_freeze_delay": 5, "training__distribution": "mirrored"}
    settings |= {"training__float__epochs": 2, "training__qat__epochs": 1}
    metrics, output = run(overrides(prepare(tmp_path), **settings))
    assert output.count("training on 2 devices: /device:CPU:0, /device:CPU:1") == 2
    assert metrics["train/qat/freeze_step"] == 5
    assert metrics["verify/mismatch_rate"] == 0.0
    assert metrics["float/accuracy"] > 0.6
    assert metrics["quantized/accuracy"] > 0.6


@pytest.mark.slow
def test_batches_that_two_devices_can_not_share(tmp_path):
    settings = {"training__distribution": "mirrored", "training__float__batch_size": 15}
    message, _ = run(overrides(prepare(tmp_path), **settings))
    assert message == (
        "training.distribution: 2 devices can't share batches of 15 samples equally; "
        "give a batch_size that is a multiple of 2"
    )
