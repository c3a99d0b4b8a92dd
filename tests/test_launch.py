import pytest

from qpipe.errors import ConfigError, ModelError
from qpipe.launch import run


@pytest.mark.parametrize("by", ["override", "quoted override", "environment"])
def test_the_home_folder_in_runs_dir_is_expanded(by, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("QPIPE_RUNS", "~/results" if by == "environment" else "elsewhere")
    overrides = {"override": ["runs_dir=~/results"], "quoted override": ["runs_dir='~/results'"], "environment": []}
    with pytest.raises(ModelError, match="no_such_file"):
        run(["model=file", "model.path=no_such_file.keras", *overrides[by]])
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert (tmp_path / "home" / "results").is_dir()


def test_an_unknown_home_folder_is_refused():
    with pytest.raises(ConfigError, match="runs_dir: ~nosuchuser of '~nosuchuser/x' is no known home folder"):
        run(["runs_dir='~nosuchuser/x'"])
