"""What lies in `conf/` composes, validates and says what it is."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from qpipe.config import schema
from qpipe.config.catalog import group_options
from qpipe.config.composition import composed, to_job_config
from qpipe.config.location import conf_directory
from qpipe.config.schema import JobConfig
from qpipe.config.validation import validate

EXPERIMENTS = [option.name for option in group_options([conf_directory()])["experiment"]]
PATHS = {
    "resnet8_cifar10_8bit": ["model.path=resnet8.keras", "data.path=cifar10.npz"],
    "resnet8_cifar10_4bit_adaround": ["model.path=resnet8.keras", "data.path=cifar10.npz"],
    "mobilenet_fashion_mnist": ["data.path=fashion_mnist.npz"],
    "ds_cnn_audio_8bit": ["data.path=keywords.npz"],
}
PROMISED = {
    *("mobilenet_8bit", "mobilenet_8bit_ptq", "mobilenet_4bit", "resnet8_cifar10_8bit"),
    *("mobilenet_4bit_adaround", "resnet8_cifar10_4bit_adaround", "mobilenet_fashion_mnist"),
    *("mobilenet_v2_8bit", "mlp_yaml_8bit", "preact_resnet_8bit", "unet_8bit", "ds_cnn_audio_8bit"),
}


def job(overrides: list[str], config_dir: Path | None = None) -> JobConfig:
    with composed(overrides, config_dir) as tree:
        return to_job_config(tree)


def test_promised_experiments_exist():
    assert set(EXPERIMENTS) >= PROMISED


@pytest.mark.parametrize("debug", [[], ["debug=fast"]], ids=["full", "fast"])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_composes_without_a_word(experiment, debug):
    config = job([f"experiment={experiment}", *debug, *PATHS.get(experiment, [])])
    assert validate(config) == []
    assert config.name == experiment


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_debug_shortens_every_stage(experiment):
    config = job(["debug=fast", f"experiment={experiment}", *PATHS.get(experiment, [])])
    is_qat = config.method.name is schema.MethodName.qat
    unused = schema.TrainingStage().epochs
    assert config.training.float.epochs == (1 if config.model.train else unused)
    assert config.training.qat.epochs == (1 if is_qat else unused)
    assert (config.data.limit, config.data.calibration_samples) == (128, 32)
    steps = 128 // config.training.qat.batch_size
    assert config.folding.ema_freeze_delay == (1 if is_qat else None)
    assert steps > 1


def test_rules_of_the_4_bit_experiment():
    quantizer = job(["experiment=mobilenet_4bit"]).quantizer
    assert quantizer.weight.bitwidth == 4
    eight = schema.WeightQuantizerRule(bitwidth=8)
    assert [(rule.match, rule.weight) for rule in quantizer.layers] == [("conv1", eight), ("conv_preds", eight)]


@pytest.mark.parametrize(
    ("group", "node"),
    [
        ("training", schema.TrainingConfig),
        ("folding", schema.FoldingConfig),
        ("quantizer", schema.QuantizerConfig),
        ("adaround", schema.AdaRoundConfig),
        ("post_training", schema.PostTrainingConfig),
        ("export", schema.ExportConfig),
        ("tracking", schema.TrackingConfig),
        ("sweep", schema.SweepConfig),
    ],
)
def test_default_files_state_the_defaults_of_the_schema(group, node):
    option = {"quantizer": "int8", "tracking": "mlflow"}.get(group, "default")
    stated = OmegaConf.load(conf_directory() / group / f"{option}.yaml")
    assert OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(node), stated)) == node()
    assert set(stated) == set(OmegaConf.structured(node))


@pytest.mark.parametrize("path", sorted(conf_directory().rglob("*.yaml")), ids=lambda path: path.stem)
def test_file_opens_with_its_command(path):
    header = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        header.append(line)
    assert any("python -m qpipe " in line for line in header)


@pytest.mark.parametrize("path", sorted((conf_directory() / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_experiment_names_its_own_command(path):
    assert f"python -m qpipe experiment={path.stem}" in path.read_text()


def test_users_model_and_experiment(tmp_path):
    folder = tmp_path / "my 'own' configs"
    (folder / "model").mkdir(parents=True)
    (folder / "experiment").mkdir()
    (folder / "model" / "half.yaml").write_text("defaults: [mobilenet, _self_]\narguments: {alpha: 0.5}\n")
    (folder / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - mobilenet_8bit_ptq\n  - override /model: half\n  - _self_\nseed: 3\n"
    )
    config = job(["experiment=mine"], folder)
    assert (config.model.application, config.model.arguments) == ("MobileNet", {"alpha": 0.5})
    assert (config.seed, config.method.name) == (3, schema.MethodName.ptq)


def test_open_dictionaries_take_new_keys():
    config = job(["model.arguments.dropout=0.1", "tracking.tags.board=m7"])
    arguments = {"alpha": 0.25, "dropout": 0.1}
    assert config.model == schema.ApplicationModel(application="MobileNet", arguments=arguments)
    assert config.tracking.tags == {"board": "m7"}


def test_runs_folder_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("QPIPE_RUNS", "elsewhere")
    assert job([]).runs_dir == "elsewhere"
    assert job(["runs_dir=here"]).runs_dir == "here"
