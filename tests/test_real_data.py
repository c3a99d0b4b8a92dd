"""The experiments on real data that is not part of the project; `QPIPE_DATA` names its folder."""

import os
from pathlib import Path

import pytest

import qpipe


@pytest.fixture(scope="module")
def data():
    folder = os.environ.get("QPIPE_DATA")
    if not folder:
        pytest.skip("QPIPE_DATA is not set: it names the folder with resnet8/ and cifar10/")
    return Path(folder)


def test_resnet8_keeps_its_accuracy_in_8_bits(data, tmp_path):
    result = qpipe.run(
        [
            "experiment=resnet8_cifar10_8bit",
            f"model.path={data}/resnet8/resnet8.keras",
            f"data.path={data}/cifar10/cifar10_lossless_4k1k.npz",
            f"runs_dir={tmp_path}",
        ]
    )
    assert result.metrics["float/accuracy"] == pytest.approx(0.881, abs=1e-9)
    assert result.metrics["folded/accuracy"] == pytest.approx(0.881, abs=0.001)
    assert abs(result.metrics["quantized/accuracy"] - 0.881) <= 0.006
    assert result.metrics["agreement"] >= 0.97
    assert result.metrics["litert/agreement"] == 1.0
    assert result.metrics["litert/mismatch_rate"] == result.metrics["litert/layer_mismatch_rate"] == 0.0
