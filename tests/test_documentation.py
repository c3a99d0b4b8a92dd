"""What the documentation says holds: commands and files compose, links lead somewhere, the reference is up to date."""

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins

import qpipe
from qpipe.arguments import parse_arguments
from qpipe.config.composition import VERSION_BASE, composed, to_job_config
from qpipe.config.location import conf_directory
from qpipe.config.registry import register_schema
from qpipe.config.schema import CallableData, NpzData
from qpipe.config.suggestions import EXTRAS
from qpipe.config.validation import validate
from qpipe.data import check_data_source, load_dataset
from qpipe.errors import ConfigError
from qpipe.models import check_model_source
from qpipe.training import check_training

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "runs" / "README.md"])
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"^(?:.*&& \S*/)?(?:\$ )?python -m qpipe (.*)$", re.MULTILINE)
OWN_CONFIGS = "my_configs/experiment/"
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def blocks(text: str, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for name, block in fenced if name == language]


def all_blocks(language: str) -> list[str]:
    return [block for page in PAGES for block in blocks(page.read_text(encoding="utf-8"), language)]


def commands() -> list[str]:
    fenced = all_blocks("")
    return sorted({arguments for block in fenced for arguments in COMMAND.findall(block)})


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def configuration_page():
    return runpy.run_path(str(ROOT / "docs" / "generate_configuration.py"))


def test_configuration_page_is_that_of_the_schema():
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == configuration_page()["page"](), "run: python docs/generate_configuration.py"


def test_every_key_has_a_meaning():
    rows = re.findall(r"^\| `([^`]*)` \|.*\| ([^|]*) \|$", configuration_page()["page"](), re.MULTILINE)
    assert len(rows) > 60
    assert [key for key, meaning in rows if not meaning.strip()] == []


def jobs(options) -> list[list[str]]:
    """The job of a command; of a multirun those with the first and with the last values."""
    if not options.multirun:
        return [options.overrides]
    pairs = [override.split("=", 1) for override in options.overrides]
    return [[f"{key}={values.split(',')[index]}" for key, values in pairs] for index in (0, -1)]


@pytest.mark.parametrize("arguments", [arguments for arguments in commands() if "--config-dir" not in arguments])
def test_command_composes(arguments):
    options = parse_arguments(shlex.split(arguments))
    for (group, option), extra in EXTRAS.items():
        if f"{group}={option}" in options.overrides and not has_option(group, option):
            pytest.skip(f"the extra '{extra}' is not installed")
    for overrides in jobs(options):
        answered = [block for block in all_blocks("") if f"$ python -m qpipe {arguments}\nerror: " in block]
        if answered:
            with pytest.raises(ConfigError) as caught, composed(overrides):
                pass
            assert f"$ python -m qpipe {arguments}\nerror: {caught.value}\n" in answered[0]
        else:
            with composed(overrides) as tree:
                assert validate(to_job_config(tree)) == []


def has_option(group: str, option: str) -> bool:
    Plugins.instance()
    register_schema()
    with initialize_config_dir(str(conf_directory()), version_base=VERSION_BASE):
        loader = GlobalHydra.instance().config_loader()
        return option in loader.get_group_options(group)


def test_commands_are_found():
    assert {"experiment=mobilenet_8bit", "experiment=mobilenet_8bit dry_run=true", "--help"} <= set(commands())


def experiments() -> dict[str, str]:
    """The YAML blocks of all pages, each a whole experiment, by name."""
    named = {yaml.safe_load(block)["name"]: block for block in all_blocks("yaml")}
    assert len(named) == len(all_blocks("yaml")), "two examples have one name"
    return named


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory):
    """A user's folder, with the files that the pages show."""
    folder = tmp_path_factory.mktemp("own")
    for block in all_blocks("python"):
        if name := re.match(r"# (\w+\.py)\n", block):
            (folder / name[1]).write_text(block)
    (folder / OWN_CONFIGS).mkdir(parents=True)
    for name, block in experiments().items():
        (folder / OWN_CONFIGS / f"{name}.yaml").write_text(block)
    return folder


@pytest.fixture
def in_own_folder(own_folder, monkeypatch):
    monkeypatch.chdir(own_folder)
    monkeypatch.syspath_prepend(own_folder)
    return own_folder


@pytest.mark.parametrize("name", experiments())
def test_experiment_of_a_page_composes(name, in_own_folder):
    block = experiments()[name]
    assert block.startswith("# @package _global_\n")
    with composed([f"experiment={name}"], in_own_folder / "my_configs") as tree:
        config = to_job_config(tree)
    assert validate(config) == []
    check_model_source(config.model)
    check_data_source(config.data)
    check_training(config.training)
    assert config.name == name
    bitwidth = yaml.safe_load(block).get("quantizer", {}).get("weight", {}).get("bitwidth", 8)
    assert config.quantizer.weight.bitwidth == bitwidth


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_own_experiments_have_the_name_that_commands_use(page):
    text = page.read_text(encoding="utf-8")
    written = re.findall(rf"`{OWN_CONFIGS}(\w+)\.yaml`", text)
    used = re.findall(r"python -m qpipe --config-dir my_configs experiment=(\w+)", text)
    assert set(written) == set(used)
    assert set(written) <= set(experiments())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "early_exit", "gated", "tiny_net", "from_a_function", "like_tfmot"])
def test_dry_run_of_an_experiment_of_a_page(name, in_own_folder, tmp_path):
    overrides = [f"experiment={name}", "dry_run=true", f"runs_dir={tmp_path}"]
    result = qpipe.run(overrides, config_dir=in_own_folder / "my_configs")
    assert result.report.quantized >= 1
    if name == "gated":
        (reason,) = (row.plan.reason for row in result.report.rows if row.plan.name == "gate")
        assert "no integer form" in reason


def test_stream_of_the_data_page_gives_what_its_arrays_hold(in_own_folder):
    settings = {"preprocess": "raw", "images": True, "validation_fraction": 0.1}
    arrays, stream = (
        load_dataset(CallableData(_target_=f"my_data.{name}", arguments={"samples": 400}, **settings), seed=0)
        for name in ("load", "stream")
    )
    assert stream.signature == arrays.signature
    assert len(arrays.train) + len(arrays.validation) == 300
    assert len(stream.train) + len(stream.validation) + len(stream.test) == 300


def test_npz_of_the_data_page_loads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = (block for block in all_blocks("python") if 'np.savez_compressed("data.npz"' in block)
    exec(compile(example, "your-own-data.md", "exec"), {})
    dataset = load_dataset(NpzData(path="data.npz"), seed=0)
    assert dataset.signature.input_shape == (32, 32, 3)
    assert (len(dataset.train) + len(dataset.validation), len(dataset.test)) == (80, 20)


def test_keywords_of_the_data_page(in_own_folder, tmp_path, rng):
    import tensorflow as tf

    for index in range(24):
        folder = tmp_path / "recordings" / ("yes", "no")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        sound = rng.uniform(-1, 1, (16_000 if index else 9_000, 1)).astype("float32")
        (folder / f"speaker{index}_0.wav").write_bytes(tf.audio.encode_wav(sound, 16_000).numpy())
    keywords = runpy.run_path(str(in_own_folder / "make_keywords.py"))
    keywords["main"](tmp_path / "recordings", tmp_path / "keywords.npz")
    arrays = np.load(tmp_path / "keywords.npz")
    assert arrays["x_train"].shape[1:] == arrays["x_test"].shape[1:] == (49, 10)
    assert len(arrays["y_train"]) + len(arrays["y_test"]) == 24
    assert abs(arrays["x_train"].mean()) < 1e-4
    with composed(["experiment=ds_cnn_audio_8bit", f"data.path={tmp_path}/keywords.npz"]) as tree:
        dataset = load_dataset(to_job_config(tree).data, seed=0)
    assert dataset.signature.input_shape == (49, 10, 1)
    assert dataset.signature.classes == 2


@pytest.mark.parametrize("index", range(len(all_blocks("python"))))
def test_python_of_a_page_compiles(index):
    compile(all_blocks("python")[index], "page", "exec")


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = (block for block in blocks(README, "python") if "fold_batchnorm" in block)
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert (tmp_path / "quantized.keras").is_file()
    assert 0 < names["error"] < 0.5


def test_python_of_the_deploy_page_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed; there is none for Windows")
    monkeypatch.chdir(tmp_path)
    for block in blocks((ROOT / "docs" / "deploy.md").read_text(encoding="utf-8"), "python"):
        exec(compile(block, "deploy.md", "exec"), {})
    size, compared, chosen = capsys.readouterr().out.strip().splitlines()
    assert size.split()[0] == str((tmp_path / "model.tflite").stat().st_size)
    assert "the very same integers" in compared
    assert chosen in ("[0]", "[1]", "[2]", "[3]")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def test_ci_runs_the_tests_as_the_readme_does():
    (invocation,) = re.findall(r'pip install -e "\.\[test\]" && \.venv/bin/python (-m pytest.*)$', README, re.MULTILINE)
    assert f'"$python" {invocation}' in (ROOT / ".ci" / "run").read_text().splitlines()
