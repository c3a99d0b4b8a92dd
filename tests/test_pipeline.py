import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from small_job import overrides, prepare

import qpipe
from qpipe.errors import QpipeError
from qpipe.graph.layer_plan import Treatment

STAGES = ("data", "float", "fold", "quantize", "calibrate", "train", "evaluate", "save", "verify", "export", "report")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="module")
def first(folder):
    return qpipe.run(overrides(folder))


@pytest.fixture(scope="module")
def second(folder, first):
    return qpipe.run(overrides(folder))


@pytest.fixture(scope="module")
def client(folder, first):
    return mlflow.MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")


def without_times(metrics):
    return {key: value for key, value in metrics.items() if not key.startswith("time/")}


def test_the_job_learns_and_quantization_keeps_what_it_learned(first):
    assert first.metrics["float/accuracy"] > 0.9
    assert first.metrics["folded/accuracy"] == first.metrics["float/accuracy"]
    assert first.metrics["quantized/accuracy"] > 0.9
    assert first.metrics["agreement"] > 0.9
    assert first.metrics["size/packed_weight_bytes"] < first.metrics["size/float_bytes"] / 2


def test_metrics_have_their_documented_keys(first):
    expected = {f"time/{stage}_s" for stage in STAGES}
    expected |= {"float/accuracy", "folded/accuracy", "quantized/accuracy", "agreement"}
    expected |= {"size/float_bytes", "size/packed_weight_bytes", "train/qat/freeze_step"}
    expected |= {"size/file_bytes", "size/float_file_bytes", "size/peak_activation_bytes", "size/multiply_accumulates"}
    of_a_file = ("accuracy", "agreement", "mismatch_rate", "max_lsb", "layer_mismatch_rate")
    expected |= {"cost/bit_operations", *(f"litert/{name}" for name in of_a_file)}
    for stage in ("float", "qat"):
        expected |= {f"{part}/{stage}/{name}" for part in ("train", "val") for name in ("loss", "accuracy")}
    tensors = ("image_quantize", "stem", "depthwise", "add", "kept_bn", "pool", "dropout", "classes")
    for measured in ("mismatch_rate", "max_lsb"):
        expected |= {f"verify/{measured}", *(f"verify/{measured}/{name}" for name in tensors)}
    assert set(first.metrics) == expected
    assert first.metrics["verify/mismatch_rate"] == 0.0
    assert first.metrics["litert/mismatch_rate"] == first.metrics["litert/layer_mismatch_rate"] == 0.0


def test_the_step_of_the_freeze_is_logged_and_said(client, first, folder, capsys):
    assert first.metrics["train/qat/freeze_step"] == 10
    assert client.get_run(first.run_id).data.metrics["train/qat/freeze_step"] == 10
    result = qpipe.run(overrides(folder, folding__ema_freeze_delay=8, training__qat__epochs=1, verify__enabled="false"))
    assert result.metrics["train/qat/freeze_step"] == 8
    assert "statistics and ranges froze after step 8\n" in capsys.readouterr().out


def test_plots_can_be_left_out(folder, first):
    result = qpipe.run(overrides(folder, reports__plots="false", method="ptq", verify__enabled="false"))
    assert not (result.directory / "plots").exists()


def test_no_freeze_is_logged_where_it_lies_beyond_the_steps(folder, first, capsys, caplog):
    result = qpipe.run(
        overrides(folder, folding__ema_freeze_delay=10, training__qat__epochs=1, verify__enabled="false")
    )
    assert "train/qat/freeze_step" not in result.metrics
    assert "froze after" not in capsys.readouterr().out
    assert "folding.ema_freeze_delay=10 lies beyond the 9 steps of training.qat" in caplog.text


def test_a_second_run_takes_the_float_model_from_the_cache_and_gives_the_same_metrics(folder, first, second):
    assert len(list((folder / "runs" / "cache").glob("*/model.keras"))) == 1
    assert without_times(second.metrics) == without_times(first.metrics)


def test_another_bitwidth_uses_the_cached_float_model(folder, first):
    narrow = qpipe.run(overrides(folder, quantizer__weight__bitwidth=3, training__qat__epochs=1))
    assert len(list((folder / "runs" / "cache").glob("*/model.keras"))) == 1
    assert narrow.metrics["float/accuracy"] == first.metrics["float/accuracy"]
    assert narrow.metrics["size/packed_weight_bytes"] < first.metrics["size/packed_weight_bytes"]


def test_the_run_in_mlflow_holds_everything(client, first):
    run = client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert {key: run.data.metrics[key] for key in first.metrics} == pytest.approx(first.metrics)
    assert len(client.get_metric_history(first.run_id, "train/float/loss")) == 4
    assert len(client.get_metric_history(first.run_id, "val/qat/accuracy")) == 2
    assert run.data.params["quantizer.weight.bitwidth"] == "8"
    assert re.fullmatch(r"[0-9a-f]{64}", run.data.tags["qpipe.data_fingerprint"])
    assert "python -m qpipe" in run.data.tags["qpipe.command"]
    artifacts = {item.path for item in client.list_artifacts(first.run_id)}
    models = {item.path for item in client.list_artifacts(first.run_id, "model")}
    assert {"config.yaml", "layers.json"} <= artifacts
    plots = {item.path for item in client.list_artifacts(first.run_id, "plots")}
    assert plots == {f"plots/{name}.png" for name in ("accuracy", "histograms", "noise", "sizes", "training")}
    assert models == {"model/float.keras", "model/quantized.keras", "model/model.tflite"}


def test_the_job_folder_holds_the_same_results(first):
    assert json.loads((first.directory / "metrics.json").read_text()) == first.metrics
    layers = json.loads((first.directory / "layers.json").read_text())
    names = ["stem", "depthwise", "add", "kept_bn", "pool", "dropout", "classes", "classes_softmax"]
    assert [row["name"] for row in layers["layers"]] == names
    assert layers["batch_normalizations_kept"].keys() == {"kept_bn"}


def test_the_layer_report_measures_every_quantized_layer(first):
    for row in first.report.rows:
        if row.plan.treatment is Treatment.quantized:
            assert row.sqnr_db is not None
            assert row.sqnr_db > 20
    others = {row.plan.name: row.plan.treatment for row in first.report.rows if row.sqnr_db is None}
    assert others == {"dropout": Treatment.keeps, "classes_softmax": Treatment.float}
    stem = first.report.rows[0]
    assert stem.plan.folded == ["stem_bn", "stem_relu"]
    assert stem.multiply_accumulates == 8 * 8 * 9 * 8
    assert stem.parameters == 9 * 8 + 8
    assert 8 <= stem.observed_accumulator_bits <= stem.needed_accumulator_bits <= 32
    assert (stem.buffer_saturations, stem.mismatch_rate, stem.largest_lsb) == (0, 0.0, 0)


def test_the_saved_quantized_model_predicts_the_same(first, folder):
    images = np.load(folder / "small.npz")["x_test"][..., :].astype("float32") / 255.0
    loaded = keras.saving.load_model(first.directory / "model" / "quantized.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), first.model.predict(images, verbose=0))


def test_ptq_trains_nothing(folder, first):
    result = qpipe.run(overrides(folder, method="ptq", folding__ema_freeze_delay="null"))
    assert result.metrics["agreement"] > 0.9
    assert not any("qat" in key or "time/train" in key for key in result.metrics)


def test_a_dry_run_trains_and_logs_nothing(folder, first, client, capsys):
    before = len(client.search_runs(["1"], max_results=1000)) if client.get_experiment("1") else 0
    result = qpipe.run(overrides(folder, dry_run="true", quantizer__weight__bitwidth=5))
    printed = capsys.readouterr().out
    assert result.run_id is None
    assert result.metrics == {}
    assert "stem_bn, stem_relu" in printed
    assert "5 float/channel" in printed
    assert "kept_bn is not folded: its input comes from 'add'" in printed
    assert (len(client.search_runs(["1"], max_results=1000)) if client.get_experiment("1") else 0) == before


def test_a_failed_run_keeps_what_it_computed(folder, first, client):
    with pytest.raises(QpipeError, match="matches no layer; did you mean 'stem'"):
        qpipe.run(overrides(folder, name="fails", quantizer__layers="[{match: stemm, weight: {bitwidth: 4}}]"))
    runs = client.search_runs([client.get_run(first.run_id).info.experiment_id], "attributes.run_name = 'fails'")
    assert [run.info.status for run in runs] == ["FAILED"]
    assert "stemm" in runs[0].data.tags["error"]
    assert runs[0].data.metrics["size/float_bytes"] == first.metrics["size/float_bytes"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"folding__layers": "[stm]"}, r"folding\.layers\[0\]: 'stm' matches no .*did you mean 'stem'\?"),
        ({"folding__layers": "[classes]"}, r"'classes' has no batch normalization that may fold into it"),
        (
            {"training__qat__optimizer": "adm"},
            r"training\.qat\.optimizer: unknown optimizer 'adm'; did you mean 'adam'",
        ),
        (
            {"quantizer__layers": "[{match: add, weight: {bitwidth: 4}}]"},
            r"quantizer\.layers\[0\]\.weight: layer 'add'",
        ),
    ],
)
def test_mistakes_that_only_the_model_reveals(folder, first, changes, sentence):
    with pytest.raises(QpipeError, match=sentence):
        qpipe.run(overrides(folder, **changes))


def test_the_command_line_runs_the_same_job(folder, first):
    command = [sys.executable, "-m", "qpipe", *overrides(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    assert "in the cache: nothing to train" in finished.stdout
    assert f"mlflow ui --backend-store-uri sqlite:///{folder}/runs/mlflow.db" in finished.stdout
    assert "Traceback" not in finished.stderr
    directory = re.search(r"results in (\S+)", finished.stdout).group(1)
    metrics = json.loads((Path(directory) / "metrics.json").read_text())
    assert without_times(metrics) == without_times(first.metrics)
