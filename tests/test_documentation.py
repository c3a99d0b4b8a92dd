"""What the documentation says holds: commands and files compose, links lead somewhere, the reference is up to date."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
import yaml

from qpipe.arguments import parse_arguments
from qpipe.config.composition import composed, to_job_config
from qpipe.config.validation import validate
from qpipe.errors import ConfigError

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "runs" / "README.md"])
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"^(?:.*&& \S*/)?(?:\$ )?python -m qpipe (.*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def blocks(text: str, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for name, block in fenced if name == language]


def commands() -> list[str]:
    fenced = [block for page in PAGES for block in blocks(page.read_text(encoding="utf-8"), "")]
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
    for overrides in jobs(options):
        if f"$ python -m qpipe {arguments}\nerror: " in README:
            with pytest.raises(ConfigError) as caught, composed(overrides):
                pass
            assert f"$ python -m qpipe {arguments}\nerror: {caught.value}\n" in README
        else:
            with composed(overrides) as tree:
                assert validate(to_job_config(tree)) == []


def test_commands_are_found():
    assert {"experiment=mobilenet_8bit", "experiment=mobilenet_8bit dry_run=true", "--help"} <= set(commands())


def test_experiment_of_the_readme_composes(tmp_path):
    (example,) = blocks(README, "yaml")
    (name,) = re.findall(r"my_configs/experiment/(\w+)\.yaml", README)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / f"{name}.yaml").write_text(example)
    with composed([f"experiment={name}"], tmp_path) as tree:
        config = to_job_config(tree)
    assert validate(config) == []
    assert (config.name, config.quantizer.weight.bitwidth) == (
        name,
        yaml.safe_load(example)["quantizer"]["weight"]["bitwidth"],
    )


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = (block for block in blocks(README, "python") if "fold_batchnorm" in block)
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert (tmp_path / "quantized.keras").is_file()
    assert 0 < names["error"] < 0.5


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
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == f'"$python" {invocation}'
