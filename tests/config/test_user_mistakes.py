"""Every mistake that a user can make before anything is computed gets one sentence and no stack trace."""

from pathlib import Path

import pytest

from qpipe.cli import main

GLOBAL = "# @package _global_\n"

COMMAND_LINE_MISTAKES = [
    # unknown keys
    (["bogus=1"], ["bogus: there is no such key", "'seed'"]),
    (["+bogus=1"], ["bogus: there is no such key"]),
    (["++bogus=1"], ["bogus: there is no such key"]),
    (["sede=1"], ["sede", "'seed'"]),
    (["modle=mobilenet"], ["modle", "'model'"]),
    (["+modle=mobilenet"], ["modle", "'model'"]),
    (["+experimnet=mobilenet_8bit"], ["experimnet", "'experiment'"]),
    (["experimnet=mobilenet_8bit"], ["experimnet", "'experiment'"]),
    (["model.wieghts=null"], ["model.wieghts", "'weights'"]),
    (["+model.wieghts=null"], ["model.wieghts", "'weights'"]),
    (["+data.augmentation.shfit=0.1"], ["data.augmentation.shfit", "'shift'"]),
    (["training.flaot.epochs=3"], ["training.flaot.epochs", "'float'"]),
    (["training.qat.epohcs=3"], ["training.qat.epohcs", "'epochs'"]),
    (["weight.bitwidth=4"], ["weight.bitwidth", "'quantizer.weight.bitwidth'"]),
    (["ema_freeze_delay=4"], ["ema_freeze_delay", "'folding.ema_freeze_delay'"]),
    (["seed.x=1"], ["seed.x", "single value"]),
    (["model.path=a.keras"], ["model.path", "model=file"]),
    (["data.path=a.npz"], ["data.path", "data=npz"]),
    (["~modle"], ["modle", "'model'"]),
    (["~model"], ["model is not set", "model=..."]),
    (["hydra.run.dirr=x"], ["hydra.run.dirr", "'dir'"]),
    (["quantizer.layers=[{mach: conv1}]"], ["quantizer.layers[].mach", "'match'"]),
    (["quantizer.layers=[{match: a, weight: {bitwith: 4}}]"], ["quantizer.layers[].weight.bitwith", "'bitwidth'"]),
    (["data.image_size=[8,100000]"], ["data.image_size[1]", "100000", "from 1 to 16384"]),
    # unknown options
    (["experiment=mobilnet_8bit"], ["experiment=mobilnet_8bit", "'mobilenet_8bit'"]),
    (["model=mobilnet"], ["model=mobilnet", "'mobilenet'"]),
    (["data=digit"], ["data=digit", "'digits'"]),
    (["method=qta"], ["method=qta", "'qat'"]),
    (["debug=fats", "experiment=mobilenet_8bit"], ["debug=fats", "'fast'"]),
    (["experiment=mobilenet_8bit", "experiment=mobilenet_4bit"], ["experiment", "more than once"]),
    # overrides that can't be read
    (["mobilenet_8bit"], ["mobilenet_8bit", "'experiment=mobilenet_8bit'"]),
    (["seed"], ["seed", "key=value"]),
    (["seed=["], ["seed=[", "can't be read"]),
    (["seed=1,2"], ["seed=1,2", "--multirun"]),
    (["debug=fast,slow"], ["debug=fast,slow", "--multirun"]),
    (["+name=x"], ["name", "without the +"]),
    (["name=${nope}"], ["name", "nope"]),
    # wrong types
    (["quantizer.weight.bitwidth=4.5"], ["quantizer.weight.bitwidth", "4.5", "whole number"]),
    (["quantizer.weight.bitwidth=eight"], ["quantizer.weight.bitwidth", "'eight'", "whole number"]),
    (["quantizer.weight=4"], ["quantizer.weight", "4", "bitwidth"]),
    (["quantizer.layers=conv1"], ["quantizer.layers", "'conv1'", "not a list"]),
    (["folding.mode=ema_stat_folding"], ["folding.mode", "'ema_stat_folding'", "'ema_stats_folding'"]),
    (["folding.ema_freeze_delay=2.5"], ["folding.ema_freeze_delay", "2.5", "whole number"]),
    (["dry_run=maybe"], ["dry_run", "'maybe'", "true or false"]),
    (["data.validation_fraction=few"], ["data.validation_fraction", "'few'", "not a number"]),
    (["training.float.schedule=null"], ["training.float.schedule", "null is not allowed"]),
    (["data.image_size=64"], ["data.image_size", "64", "not a list"]),
    (["data.image_size=[a,b]"], ["data.image_size[0]", "'a'"]),
    (["name=[a]"], ["name", "not text"]),
    # values out of range
    *[
        ([f"quantizer.{name}.bitwidth={bits}"], [f"quantizer.{name}.bitwidth: {bits} is not allowed", "from 2 to 16"])
        for name, bits in (("weight", 1), ("weight", 0), ("weight", -3), ("output", 33))
    ],
    (["quantizer.input.bitwidth=17"], ["quantizer.input.bitwidth: 17", "from 2 to 16"]),
    (["quantizer.a_quantizer.bitwidth=1"], ["quantizer.a_quantizer.bitwidth: 1", "from 2 to 16"]),
    (["quantizer.bias.bitwidth=33"], ["quantizer.bias.bitwidth: 33", "from 2 to 32"]),
    (
        ["quantizer.bias.bitwidth=20", "quantizer.buffer_bitwidth=18"],
        ["quantizer.bias.bitwidth: 20", "from 2 to 18"],
    ),
    (["quantizer.buffer_bitwidth=65"], ["quantizer.buffer_bitwidth: 65", "from 2 to 64"]),
    (["quantizer.layers=[{match: a},{match: b, weight: {bitwidth: 33}}]"], ["quantizer.layers[1].weight.bitwidth: 33"]),
    (["quantizer.layers=[{match: ''}]"], ["quantizer.layers[0].match: ''"]),
    (["quantizer.layers=[{match: 're:('}]"], ["quantizer.layers[0].match: 're:('", "regular expression"]),
    (["quantizer.layers=[{weight: {bitwidth: 4}}]"], ["quantizer.layers[0].match is not set"]),
    (["folding.exclude=['re:[']"], ["folding.exclude[0]: 're:['", "regular expression"]),
    (["folding.ema_freeze_delay=-1"], ["folding.ema_freeze_delay: -1", "null"]),
    (["training.float.epochs=-1"], ["training.float.epochs: -1", "at least 0"]),
    (["training.qat.batch_size=0"], ["training.qat.batch_size: 0", "at least 1"]),
    (["training.qat.learning_rate=0"], ["training.qat.learning_rate: 0", "above 0"]),
    (["training.qat.learning_rate=nan"], ["training.qat.learning_rate: nan", "above 0"]),
    (["training.qat.warmup_fraction=1.5"], ["training.qat.warmup_fraction: 1.5", "below 1"]),
    (["data.augmentation.shift=0.5"], ["data.augmentation.shift: 0.5", "below 0.5"]),
    (["data.test_fraction=1.0"], ["data.test_fraction: 1.0", "below 1"]),
    (
        ["data.test_fraction=0.7", "data.validation_fraction=0.4"],
        ["data.test_fraction: 0.7", "below 1"],
    ),
    (["data.calibration_samples=0"], ["data.calibration_samples: 0", "at least 1"]),
    (["data.limit=0"], ["data.limit: 0", "or null"]),
    (["data.image_size=[64]"], ["data.image_size: [64]", "[height, width]"]),
    (["data.image_size=[64,0]"], ["data.image_size[1]: 0", "from 1 to 16384"]),
    (["data.channels=2"], ["data.channels: 2", "1 or 3"]),
    (["data=npz", "data.path=a.npz", "data.keys.x_test=null"], ["data.keys.x_test", "together"]),
    (["seed=-1"], ["seed: -1"]),
    (["name=a/b"], ["name: 'a/b'"]),
    (["name=.."], ["name: '..'"]),
    (["tracking.timeout=0"], ["tracking.timeout: 0", "above 0"]),
    (["training.float.optimizer={momentum: 0.9}"], ["training.float.optimizer", "_target_"]),
    (["training.float.optimizer=''"], ["training.float.optimizer: ''", "such as adam"]),
    (["training.qat.callbacks=[keras.callbacks.TerminateOnNaN]"], ["training.qat.callbacks[0]", "_target_"]),
    (["training.qat.early_stopping.patience=-1"], ["training.qat.early_stopping.patience: -1", "or null"]),
    (["training.qat.early_stopping.min_delta=-0.1"], ["training.qat.early_stopping.min_delta: -0.1", "at least 0"]),
    (["training.qat.precision=mixed_bfloat16"], ["training.qat.precision", "float32"]),
    (["training.float.precision=bfloat16"], ["training.float.precision", "'mixed_bfloat16'"]),
    (["training.loss={delta: 1}"], ["training.loss", "_target_"]),
    (["training.class_weights=even"], ["training.class_weights: 'even'", "balanced"]),
    (["training.class_weights=[1,-2]"], ["training.class_weights[1]: -2", "above 0"]),
    (["training.class_weights=balanced", "data.task=regression"], ["training.class_weights", "data.task=regression"]),
    (["data.task=clasification"], ["data.task", "'classification'"]),
    (["data.task=multilabel"], ["data.task: 'multilabel'", "digits"]),
    (["data.target=pixel"], ["data.target", "'pixels'"]),
    (["data.images=false"], ["data.preprocess: 'symmetric'", "raw"]),
    (["data.images=false", "data.preprocess=raw"], ["data.image_size: [64, 64]", "null"]),
    (["tracking.experiment=''"], ["tracking.experiment: ''"]),
    # values that only the user knows
    (["experiment=resnet8_cifar10_8bit", "data.path=a.npz"], ["model.path is not set", "model.path=..."]),
    (["model=application"], ["model.application is not set"]),
    # sweeps: every listed value is checked before the first job
    (["--multirun", "quantizer.weight.bitwidth=8,33"], ["quantizer.weight.bitwidth: 33"]),
    (["--multirun", "sweep=grid", "+hydra.sweeper.params.seed='1,-1'"], ["seed: -1"]),
    (["--multirun", "sweep=grad"], ["sweep=grad", "'grid'"]),
    (["sweep=grid"], ["sweep=...", "--multirun"]),
    (["--multirun", "seed=1,2", "sweep.metric=quantized/acuracy"], ["sweep.metric", "'quantized/accuracy'"]),
    (["--multirun", "seed=1,2", "sweep.metric=deviation"], ["sweep.metric: 'deviation'", "'agreement'"]),
    (["--multirun", "seed=1,2", "data.task=regression"], ["sweep.metric: 'quantized/accuracy'", "'quantized/rmse'"]),
    (["seed=1", "sweep.metric=[]"], ["sweep.metric", "or several in a list"]),
    (["seed=1", "sweep.metric=[a,2]"], ["sweep.metric[1]: 2"]),
    (["seed=1", "sweep.direction=up"], ["sweep.direction: 'up'", "'maximize', 'minimize'"]),
    (["seed=1", "sweep.metric=[a,b]"], ["sweep.direction: 'maximize'", "2 direction(s)"]),
    (["--multirun", "tracking.experiment=a,b"], ["tracking.experiment", "one value for all jobs"]),
    (
        ["--multirun", "training.qat.learning_rate=interval(0.1,1)"],
        ["training.qat.learning_rate=interval(0.1, 1", "sweep=tpe"],
    ),
    (["--multirun", "experiment=mobilenet_8bit,mobilnet_4bit"], ["experiment=mobilnet_4bit", "'mobilenet_4bit'"]),
    (["--config-dir", "no/such/folder"], ["--config-dir", "no/such/folder"]),
    (["--cfg", "job", "--package", "quantiser"], ["--package", "'quantiser'"]),
]

FILE_MISTAKES = [
    (GLOBAL + "quantizer: {wieght: {bitwidth: 4}}", ["experiment/mine.yaml", "quantizer.wieght", "'weight'"]),
    (GLOBAL + "quantizer: {weight: {bitwidth: 4.5}}", ["experiment/mine.yaml", "quantizer.weight.bitwidth", "4.5"]),
    (GLOBAL + "quantizer: {layers: [{match: a, wieght: {}}]}", ["quantizer.layers[].wieght", "'weight'"]),
    (GLOBAL + "sede: 1", ["experiment/mine.yaml", "sede", "'seed'"]),
    (GLOBAL + "defaults: [override /modle: mobilenet]", ["experiment/mine.yaml", "'modle'", "'model'"]),
    (GLOBAL + "defaults: [override /model: mobilnet]", ["model=mobilnet", "'mobilenet'"]),
    (GLOBAL + "defaults: [mobilnet_8bit]", ["experiment/mine.yaml", "mobilnet_8bit", "'mobilenet_8bit'"]),
    (GLOBAL + "defaults: mobilenet_8bit", ["experiment/mine", "must be a list"]),
    (GLOBAL + "seed: 1\nseed: 2", ["mine.yaml, line 3", "duplicate key"]),
    (GLOBAL + "seed: [1\nname: x", ["mine.yaml, line 3", "not valid YAML"]),
    (GLOBAL + "\tseed: 1", ["mine.yaml, line 2", "not valid YAML"]),
    (GLOBAL + "- seed", ["experiment/mine.yaml", "not a list"]),
    (GLOBAL + "hydra: {mode: MULTIRUN}", ["hydra.mode", "--multirun"]),
    ("seed: 1", ["experiment/mine.yaml", "# @package _global_"]),
    ("defaults: [override /model: mobilenet]", ["experiment/mine.yaml", "# @package _global_"]),
    ("# @package\nseed: 1", ["@package"]),
]


def answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    status = main(arguments)
    written = capsys.readouterr()
    assert status == 1
    assert written.out == ""
    assert written.err.startswith("error: ")
    assert written.err.count("\n") == 1, written.err
    assert "Traceback" not in written.err
    return written.err


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QPIPE_DEBUG", raising=False)
    monkeypatch.delenv("QPIPE_RUNS", raising=False)


@pytest.mark.parametrize(("arguments", "expected"), COMMAND_LINE_MISTAKES, ids=lambda value: " ".join(value)[:60])
def test_mistake_on_the_command_line(arguments, expected, capsys, tmp_path):
    sentence = answer(arguments, capsys)
    assert [part for part in expected if part not in sentence] == [], sentence
    assert list(tmp_path.iterdir()) == [], "a mistake in the configuration leaves nothing behind"


@pytest.mark.parametrize(("text", "expected"), FILE_MISTAKES, ids=range(len(FILE_MISTAKES)))
def test_mistake_in_a_file_of_the_user(text, expected, capsys, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "mine.yaml").write_text(text)
    sentence = answer(["--config-dir", "mine", "experiment=mine"], capsys)
    assert [part for part in expected if part not in sentence] == [], sentence


def test_model_file_of_the_user_without_its_kind(capsys, tmp_path):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "small.yaml").write_text("application: MobileNet\n")
    sentence = answer(["--config-dir", "mine", "model=small"], capsys)
    assert "defaults: [KIND, _self_]" in sentence
    assert "KIND being application" in sentence


def test_file_that_is_not_text(capsys, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in answer(["--config-dir", "mine", "experiment=mine"], capsys)


def test_stack_trace_on_request(capsys, monkeypatch):
    monkeypatch.setenv("QPIPE_DEBUG", "1")
    assert main(["bogus=1"]) == 1
    assert "Traceback" in capsys.readouterr().err
