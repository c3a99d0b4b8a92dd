"""What is shipped: the wheel works without the source tree, and the sdist builds the same wheel."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = {
    *(path.relative_to(ROOT).as_posix() for path in (ROOT / "qpipe").rglob("*.py")),
    *(f"qpipe/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")),
}


def build(kind: str, source: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.iterdir()
    return built


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs a command of the wheel in an empty folder; dependencies come from the environment of the tests."""
    target, elsewhere = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("elsewhere")
    options = ["--no-deps", "--no-index", "--quiet", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "QPIPE_RUNS"}

    def run(*command: str) -> str:
        done = subprocess.run(
            command,
            cwd=elsewhere,
            env=environment | {"PYTHONPATH": str(target), "PATH": f"{target / 'bin'}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not list(elsewhere.iterdir())
        return done.stdout

    run.target = target
    return run


def test_wheel_holds_the_package_and_its_configuration(wheel):
    assert files_of(wheel) == SHIPPED


def test_sdist_holds_what_a_developer_needs_and_builds_the_same_wheel(wheel, tmp_path):
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / sdist.name.removesuffix(".tar.gz")
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "docs/index.md", "tests/conftest.py"):
        assert (source / name).is_file(), name
    assert files_of(build("wheel", source, tmp_path / "again")) == files_of(wheel)


def test_installed_package_is_the_wheels(installed):
    assert Path(installed(sys.executable, "-c", "import qpipe; print(qpipe.__file__)").strip()).is_relative_to(
        installed.target
    )


@pytest.mark.parametrize("command", [["qpipe"], [sys.executable, "-m", "qpipe"]], ids=["script", "module"])
def test_installed_command_finds_its_configuration(installed, command):
    assert "mobilenet_8bit_ptq" in installed(*command, "--help")
    resolved = installed(*command, "--cfg", "job", "--resolve", "experiment=mobilenet_8bit")
    assert "name: mobilenet_8bit" in resolved
    assert "application: MobileNet" in resolved
