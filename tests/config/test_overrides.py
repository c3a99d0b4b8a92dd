import pytest

from qpipe.config.overrides import rewrite_overrides


@pytest.mark.parametrize(
    ("typed", "rewritten"),
    [
        (["experiment=a"], ["+experiment=a"]),
        (["+experiment=a"], ["+experiment=a"]),
        (["++experiment=a"], ["+experiment=a"]),
        (["experiment=a,b"], ["+experiment=a,b"]),
        (["debug=fast", "experiment=a", "seed=1"], ["seed=1", "+experiment=a", "+debug=fast"]),
        (["model.arguments.alpha=0.5"], ["++model.arguments.alpha=0.5"]),
        (["tracking.tags.board=m7"], ["++tracking.tags.board=m7"]),
        (["seed=1", "model=file", "~data", "+x=1"], ["seed=1", "model=file", "~data", "+x=1"]),
        (["name=experiment=a"], ["name=experiment=a"]),
        (["model.path=~/x.keras"], ["model.path='~/x.keras'"]),
        (["model.path='~/x.keras'"], ["model.path='~/x.keras'"]),
        (["model.path=~/x,b/y"], ["model.path='~/x',b/y"]),
        (["experiment"], ["experiment"]),
        (["~experiment=a"], ["~experiment=a"]),
    ],
)
def test_rewriting(typed, rewritten):
    assert rewrite_overrides(typed) == rewritten


def test_rewriting_twice_changes_nothing():
    once = rewrite_overrides(["debug=fast", "experiment=a", "model.arguments.alpha=1", "seed=2"])
    assert rewrite_overrides(once) == once


def test_the_home_folder_in_runs_dir_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert rewrite_overrides(["runs_dir=~/runs"]) == ["runs_dir=/home/ada/runs"]
