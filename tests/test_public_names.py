import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import qpipe


def test_import_is_light_and_dir_lists_the_names():
    program = (
        "import sys, qpipe; names = dir(qpipe); "
        "print(*({'tensorflow', 'keras', 'mlflow', 'hydra', 'numpy'} & set(sys.modules)), *names)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(qpipe.__all__)


@pytest.mark.parametrize(
    ("name", "module"), [("run", "qpipe.launch"), ("FoldingConfig", "qpipe.config.training_schema")]
)
def test_name_comes_from_its_module(name, module):
    assert getattr(qpipe, name).__module__ == module


@pytest.mark.parametrize(("wrong", "right"), [("quantise", "quantize"), ("fold_batchnorms", "fold_batchnorm")])
def test_misspelt_name(wrong, right):
    with pytest.raises(AttributeError, match=f"'{wrong}'; did you mean '{right}'"):
        getattr(qpipe, wrong)


def test_version_is_that_of_the_project():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert qpipe.__version__ == project["version"]
