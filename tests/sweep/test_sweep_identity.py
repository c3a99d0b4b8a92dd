import numpy as np
import pytest

from qpipe.config.composition import composed, to_job_config
from qpipe.sweep import identity
from qpipe.sweep.identity import command_identity, job_identity


def identity_of(*overrides):
    with composed(overrides) as tree:
        return job_identity(to_job_config(tree))


@pytest.mark.parametrize(
    "override",
    ["runs_dir=/elsewhere", "tracking.experiment=other", "tracking.tags.a=b", "sweep.rerun=true", "dry_run=true"],
)
def test_places_and_tracking_do_not_make_another_job(override):
    assert identity_of("seed=1", override) == identity_of("seed=1")


@pytest.mark.parametrize(
    "override", ["seed=2", "quantizer.weight.bitwidth=4", "model=mobilenet_v2", "data.limit=10", "method=ptq"]
)
def test_everything_else_does(override):
    assert identity_of(override) != identity_of()


def test_a_file_counts_with_its_content_not_with_its_folder(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "data.npz", x_train=np.zeros(3))
    first, second = (identity_of("data=npz", f"data.path={tmp_path / folder}/data.npz") for folder in ("a", "b"))
    assert first == second
    np.savez(tmp_path / "b" / "data.npz", x_train=np.ones(3))
    assert identity_of("data=npz", f"data.path={tmp_path}/b/data.npz") != first


def test_the_code_counts(monkeypatch):
    before = identity_of(), command_identity(["seed=1,2"], None)
    monkeypatch.setattr(identity, "code_version", lambda: {"versions": {}, "source": "other"})
    assert identity_of() != before[0]
    assert command_identity(["seed=1,2"], None) != before[1]


def test_a_command_is_the_same_wherever_and_however_it_is_launched():
    same = [
        ["seed=1,2", "name=a"],
        ["name=a", "seed=1,2"],
        ["seed=1,2", "name=a", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
        ["seed=1,2", "name=a", "runs_dir=/x", "tracking.uri=http://y", "sweep.rerun=true"],
    ]
    assert len({command_identity(command, None) for command in same}) == 1
    others = [
        ["seed=1,2,3", "name=a"],
        ["seed=1,2", "name=a", "sweep=grid"],
        ["seed=1,2", "hydra.sweeper.params.name=a"],
    ]
    assert len({command_identity(command, None) for command in [same[0], *others]}) == 4
