"""The export stage of a job: what is written, logged, refused, and how the run ends."""

import json

import pytest
import small_job

import qpipe
from qpipe.errors import ConfigError, ExportError

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed; there is none for Windows")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_job.prepare(tmp_path_factory.mktemp("job"))


def run(folder, **changes):
    changes = {"method": "ptq", "training__qat__epochs": ..., "training__qat__batch_size": ...} | changes
    changes = {"training__qat__learning_rate": ..., "folding__ema_freeze_delay": ...} | changes
    return qpipe.run(small_job.overrides(folder, **changes))


def last_run(folder):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("qpipe").experiment_id], max_results=1)
    return client, runs[0]


def test_files_metrics_and_report(folder, capsys):
    result = run(folder, export__formats="[c_array]", export__io="float")
    names = {path.name for path in (result.directory / "model").iterdir()}
    assert {"model.tflite", "model.h", "model.cc"} <= names
    assert result.metrics["size/file_bytes"] == (result.directory / "model" / "model.tflite").stat().st_size
    assert result.metrics["litert/mismatch_rate"] == result.metrics["litert/max_lsb"] == 0
    assert result.metrics["litert/accuracy"] == result.metrics["quantized/accuracy"]
    assert result.metrics["litert/agreement"] == 1.0
    rows = {row["name"]: row for row in json.loads((result.directory / "layers.json").read_text())["layers"]}
    measured = {"mismatch_rate": 0.0, "largest_lsb": 0, "own_mismatch_rate": 0.0, "own_largest_lsb": 0}
    assert rows["stem"]["exports"] == {"litert": measured}
    assert result.metrics["size/multiply_accumulates"] == sum(row["multiply_accumulates"] for row in rows.values())
    client, stored = last_run(folder)
    assert {item.path for item in client.list_artifacts(stored.info.run_id, "model")} >= {
        "model/model.h",
        "model/model.cc",
    }
    printed = capsys.readouterr().out
    assert "the very same integers as the integer engine" in printed
    assert "operators are there in LiteRT for Microcontrollers" in printed
    assert "litert " in printed


def test_nothing_is_exported_where_formats_is_empty(folder, capsys):
    result = run(folder, export__formats="[]", export__require_exact="true")
    assert not (result.directory / "model" / "model.tflite").exists()
    assert not any(key.startswith("litert/") for key in result.metrics)
    assert "left out: export.formats is empty" in capsys.readouterr().out


def test_a_model_that_can_not_be_expressed_is_a_warning_by_default(folder, caplog):
    result = run(folder, quantizer__buffer_bitwidth=16)
    assert "no file was exported: a LiteRT file can't express this model" in caplog.text
    assert "size/file_bytes" not in result.metrics
    assert last_run(folder)[1].info.status == "FINISHED"


def test_a_format_that_was_asked_for_fails_the_run_and_keeps_the_results(folder):
    with pytest.raises(ExportError, match="saturate at buffer_bitwidth=16"):
        run(folder, quantizer__buffer_bitwidth=16, export__formats="[litert]")
    client, stored = last_run(folder)
    assert stored.info.status == "FAILED"
    assert "buffer_bitwidth=16" in stored.data.tags["error"]
    assert stored.data.metrics["quantized/accuracy"] > 0.5
    assert "layers.json" in {item.path for item in client.list_artifacts(stored.info.run_id)}
    assert "model/quantized.keras" in {item.path for item in client.list_artifacts(stored.info.run_id, "model")}


def test_a_layer_that_a_named_format_lacks_is_refused_before_the_training(folder):
    rules = "[{match: depthwise, quantize: false}]"
    with pytest.raises(ExportError, match="layer 'depthwise': it stays in float"):
        qpipe.run(small_job.overrides(folder, export__formats="[litert]", quantizer__layers=rules))
    metrics = last_run(folder)[1].data.metrics
    assert "time/calibrate_s" in metrics
    assert "time/train_s" not in metrics


@pytest.mark.parametrize("strict", [True, False])
def test_a_file_that_is_not_exact_enough(folder, monkeypatch, caplog, strict):
    from qpipe.export.litert import linear

    written = linear._weights

    def wrong(operator, call, kernel, *arguments):
        return written(operator, call, kernel + (kernel < 100), *arguments)

    monkeypatch.setattr(linear, "_weights", wrong)
    if strict:
        with pytest.raises(ExportError, match="differs from the integer engine by more than is documented"):
            run(folder, export__require_exact="true")
    else:
        assert run(folder).metrics["litert/layer_mismatch_rate"] > 0
        assert "differs from the integer engine by more than is documented" in caplog.text
    client, stored = last_run(folder)
    assert stored.info.status == ("FAILED" if strict else "FINISHED")
    assert stored.data.metrics["litert/layer_mismatch_rate"] > 0
    assert "model/model.tflite" in {item.path for item in client.list_artifacts(stored.info.run_id, "model")}


def test_without_the_engine_the_file_is_measured_only(folder):
    metrics = run(folder, verify__enabled="false").metrics
    assert "litert/accuracy" in metrics
    assert "litert/mismatch_rate" not in metrics


def test_widths_are_refused_before_anything_runs(folder):
    with pytest.raises(
        ConfigError, match=r"quantizer.weight.bitwidth: 9 is not allowed; LiteRT has weights of at most 8"
    ):
        run(folder, quantizer__weight__bitwidth=9, export__formats="[litert]")
