"""The post-training stages of a job: their lines in the report, MLflow, resumption, and training afterwards."""

import json

import numpy as np
import pytest
import small_job

import qpipe
from qpipe.layers.inventory import quantized_linear_layers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_job.prepare(tmp_path_factory.mktemp("job"))


def run(folder, **changes):
    changes = {"method": "ptq", "training__qat__epochs": ..., "training__qat__batch_size": ...} | changes
    changes = {"training__qat__learning_rate": ..., "folding__ema_freeze_delay": ...} | changes
    return qpipe.run(small_job.overrides(folder, **changes))


def layers_json(result):
    return json.loads((result.directory / "layers.json").read_text())


def curves(result, key):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{result.directory.parents[2] / 'mlflow.db'}")
    return client, client.get_metric_history(result.run_id, key)


def test_rounding_is_reported_logged_and_plotted(folder):
    result = run(
        folder,
        adaround="gram",
        adaround__iterations=300,
        adaround__histogram="stem",
        quantizer__weight__bitwidth=4,
        quantizer__weight__range="output_mse",
    )
    rows = {row["name"]: row["post_training"] for row in layers_json(result)["layers"]}
    for name in ("stem", "depthwise", "classes"):
        record = rows[name]["adaround"]
        assert record["solver"] == "gram"
        assert record["error_after"] <= record["error_before"] or record["kept_nearest"]
        assert result.metrics[f"adaround/{name}/error_before"] == record["error_before"]
    assert result.metrics["adaround/layers"] == 3
    assert result.metrics["adaround/peak_memory_mb"] > result.metrics["adaround/peak_cache_mb"] > 0
    assert result.metrics["time/round_s"] > 0
    assert result.metrics["verify/mismatch_rate"] == 0
    client, losses = curves(result, "adaround/stem/loss")
    assert [metric.step for metric in losses][:2] == [100, 200]
    picture = result.directory / "plots" / "rounding_stem.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "plots/rounding_stem.png" in [item.path for item in client.list_artifacts(result.run_id, "plots")]
    assert not list((folder / "runs" / "cache" / "rounding").glob("*"))


def test_everything_around_it_has_its_lines(folder):
    result = run(
        folder,
        post_training__equalization__enabled="true",
        post_training__bias_correction="empirical",
        post_training__reestimate_statistics="true",
        quantizer__weight__bitwidth=4,
    )
    content = layers_json(result)
    rows = {row["name"]: row["post_training"] for row in content["layers"]}
    assert rows["stem"]["bias_correction"]["change"] > 0
    assert rows["stem"]["reestimate_statistics"]["reason"] is None
    assert rows["classes"]["reestimate_statistics"]["reason"] == "no batch normalization was folded into it"
    assert "adaround" not in rows["stem"]
    for algorithm in ("equalization", "bias_correction", "reestimate_statistics"):
        assert any(note.startswith(f"{algorithm}: ") for note in content["notes"])
    assert result.metrics["verify/mismatch_rate"] == 0


def test_a_killed_job_goes_on_at_the_layer_where_it_stopped(folder, monkeypatch):
    from qpipe.post_training import PostTraining

    settings = {"adaround": "gptq", "quantizer__weight__bitwidth": 3, "seed": 4}
    undisturbed = run(folder, **settings)
    original = PostTraining._told_layer

    def killed(self, index, count, record, on_step):
        original(self, index, count, record, on_step)
        if index == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(PostTraining, "_told_layer", killed)
    with pytest.raises(KeyboardInterrupt):
        run(folder, **settings)
    monkeypatch.setattr(PostTraining, "_told_layer", original)
    resumed = run(folder, **settings)
    for first, second in zip(undisturbed.model.weights, resumed.model.weights, strict=True):
        np.testing.assert_array_equal(np.array(first), np.array(second))


def test_training_starts_from_rounded_weights_and_keeps_their_scales(folder):
    result = qpipe.run(
        small_job.overrides(
            folder,
            method="qat",
            adaround="gptq",
            quantizer__weight__bitwidth=4,
            quantizer__weight__range="output_mse",
            training__qat__learning_rate=1e-9,
            folding__ema_freeze_delay=...,
        )
    )
    rounded = run(folder, adaround="gptq", quantizer__weight__bitwidth=4, quantizer__weight__range="output_mse")
    for first, second in zip(
        quantized_linear_layers(result.model), quantized_linear_layers(rounded.model), strict=True
    ):
        if first.name == "kept_bn":
            continue
        np.testing.assert_array_equal(np.array(first.kernel_quantizer.scale), np.array(second.kernel_quantizer.scale))
        np.testing.assert_array_equal(
            np.array(first.integer_weights().kernel), np.array(second.integer_weights().kernel)
        )
    assert result.metrics["verify/mismatch_rate"] == 0


def test_a_misspelt_layer_is_found_before_anything_is_trained(folder):
    from qpipe.errors import ConfigError

    with pytest.raises(ConfigError, match=r"adaround.layers\[0\]: 'stm' matches no layer; did you mean 'stem'"):
        run(folder, adaround="gptq", adaround__layers="[stm]", seed=77)
