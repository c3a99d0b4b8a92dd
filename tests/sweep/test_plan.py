import importlib.util
import shlex
from pathlib import Path

import pytest

from qpipe.config.location import conf_directory
from qpipe.errors import ConfigError
from qpipe.sweep.plan import plan_sweep

SWEEPS = sorted(path.stem for path in (conf_directory() / "sweep").glob("*.yaml"))
HAS_OPTUNA = importlib.util.find_spec("optuna") is not None


def opening_command(name):
    """The command in the file's opening comment."""
    lines = Path(conf_directory() / "sweep" / f"{name}.yaml").read_text().splitlines()
    return next(shlex.split(line.partition("--multirun ")[2]) for line in lines if "--multirun " in line)


@pytest.mark.parametrize("name", SWEEPS)
def test_shipped_sweeps_are_planned(name):
    if name in ("tpe", "two_objectives") and not HAS_OPTUNA:
        pytest.skip("the extra 'optuna' is not installed")
    plan = plan_sweep(opening_command(name), None)
    assert plan.is_search == (name in ("tpe", "two_objectives"))
    assert plan.jobs == {"default": 4, "grid": 8, "tpe": 20, "two_objectives": 30}[name]
    assert "quantizer.weight.bitwidth" in plan.space.swept


@pytest.mark.skipif(HAS_OPTUNA, reason="the extra 'optuna' is installed")
@pytest.mark.parametrize("name", ["tpe", "two_objectives"])
def test_a_search_without_its_package_says_what_to_install(name):
    with pytest.raises(ConfigError, match=r"package is not installed: pip install 'qpipe\[optuna\]'"):
        plan_sweep([f"sweep={name}"], None)


def test_plan_of_the_command_line():
    plan = plan_sweep(["experiment=mobilenet_8bit_ptq", "quantizer.weight.bitwidth=8,6,4", "seed=0,1"], None)
    assert plan.jobs == 6
    assert plan.config.name == "mobilenet_8bit_ptq"
    assert plan.command[:4] == ["python", "-m", "qpipe", "--multirun"]
    assert not plan.is_search


def test_a_mistake_in_any_listed_value_is_found():
    with pytest.raises(ConfigError, match="seed: -1"):
        plan_sweep(["quantizer.weight.bitwidth=8,6", "seed=0,1,-1"], None)
