"""Whole sweeps of a small job, with each launcher that is installed."""

import importlib.util
import json
import subprocess
import time
from collections import Counter

import pytest
from mlflow.artifacts import download_artifacts

BITS = "quantizer.weight.bitwidth=8,4"
LAUNCHERS = {
    "basic": (),
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit": ("hydra/launcher=submitit_local",),
    "ray": ("hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"),
}
PACKAGES = {"joblib": "hydra_joblib_launcher", "submitit": "hydra_submitit_launcher", "ray": "hydra_ray_launcher"}


def is_installed(plugin):
    try:
        return importlib.util.find_spec(f"hydra_plugins.{plugin}") is not None
    except ModuleNotFoundError:
        return False


def of_launcher(name):
    if name in PACKAGES and not is_installed(PACKAGES[name]):
        pytest.skip(f"the extra '{name}' is not installed")
    return LAUNCHERS[name]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_sweep_with_a_job_that_fails(launcher, small_sweep):
    """The float model is trained once, the other jobs run, and the same command runs nothing but what failed."""
    options, missing = of_launcher(launcher), small_sweep.runs.parent / "later.npz"
    swept = (BITS, f"data.path={small_sweep.folder / 'small.npz'},{missing}", *options)
    done = small_sweep.run(*swept)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1] == "error: 2 of 4 job(s) of the sweep failed"
    assert "Traceback" not in done.stderr
    for job in (2, 3):
        assert f"failed: job {job} (bitwidth=" in done.stdout
    assert done.stdout.count("DataError: data.path=") == 2
    parents, children = small_sweep.all_runs()
    (parent,) = parents
    assert Counter(child.info.status for child in children) == {"FINISHED": 2, "FAILED": 2}
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert parent.info.status == "FAILED"
    assert parent.data.tags["qpipe.sweep.progress"] == "2 of 4 done, 2 failed, 0 left"
    assert len(list((small_sweep.runs / "cache").glob("*/model.keras"))) == 1
    trained = [child for child in children if "train/float/loss" in child.data.metrics]
    assert len({child.data.metrics["train/float/loss"] for child in trained}) == 1

    missing.write_bytes((small_sweep.folder / "small.npz").read_bytes())
    again = small_sweep.run(*swept)
    assert again.returncode == 0, again.stderr
    parents, children = small_sweep.all_runs()
    assert [entry.info.status for entry in parents] == ["FINISHED"]
    assert "error" not in parents[0].data.tags
    assert Counter(child.info.status for child in children) == {"FINISHED": 4, "FAILED": 2}


@pytest.mark.slow
def test_what_the_sweep_leaves_behind(small_sweep):
    """Parent and children of a grid; the same command runs nothing, sweep.rerun=true everything."""
    swept = (BITS, "quantizer.output.bitwidth=8,6")
    done = small_sweep.run(*swept)
    assert done.returncode == 0, done.stderr
    (parent,), children = small_sweep.all_runs()
    tags, metrics = parent.data.tags, parent.data.metrics
    assert (tags["space/weight.bitwidth"], tags["space/output.bitwidth"]) == ("8, 4", "8, 6")
    assert (metrics["sweep/done"], metrics["sweep/failed"], metrics["sweep/left"]) == (4, 0, 0)
    best = max(children, key=lambda child: child.data.metrics["quantized/accuracy"])
    assert metrics["best/quantized/accuracy"] == best.data.metrics["quantized/accuracy"]
    for child in children:
        bits = child.data.tags["swept/weight.bitwidth"], child.data.tags["swept/output.bitwidth"]
        assert (child.data.params["quantizer.weight.bitwidth"], child.data.params["quantizer.output.bitwidth"]) == bits
        assert child.info.run_name == f"weight.bitwidth={bits[0]} output.bitwidth={bits[1]} · small"
    client = small_sweep.client
    assert {entry.path for entry in client.list_artifacts(parent.info.run_id, "sweep")} == {
        "sweep/jobs.csv",
        "sweep/jobs.json",
    }
    assert [entry.path for entry in client.list_artifacts(parent.info.run_id, "plots")] == ["plots/pareto.png"]
    stored = download_artifacts(
        run_id=parent.info.run_id, artifact_path="sweep/jobs.json", tracking_uri=client.tracking_uri
    )
    with open(stored) as file:
        table = json.load(file)
    smallest = min(child.data.metrics["cost/bit_operations"] for child in children)
    first = table["jobs"][table["pareto"]["cost/bit_operations"][0]]
    assert first["cost/bit_operations"] == smallest

    again = small_sweep.run(*swept)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("has finished before") + again.stderr.count("has finished before") == 4
    assert len(small_sweep.all_runs()[1]) == 4
    rerun = small_sweep.run(*swept, "sweep.rerun=true")
    assert rerun.returncode == 0, rerun.stderr
    parents, children = small_sweep.all_runs()
    assert len(parents) == 2
    assert Counter(child.data.tags["mlflow.parentRunId"] for child in children) == {
        entry.info.run_id: 4 for entry in parents
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tpe", "two_objectives"])
def test_search(name, small_sweep):
    """Three trials of the shipped search; a bitwidth that fails does not end it, and nothing is resumed."""
    if not is_installed("hydra_optuna_sweeper"):
        pytest.skip("the extra 'optuna' is not installed")
    options = [f"sweep={name}", "hydra.sweeper.n_trials=3", "++hydra.sweeper.sampler.seed=1"]
    for starts in (1, 2):
        done = small_sweep.run(*options)
        assert done.returncode == 0, done.stderr
        parents, children = small_sweep.all_runs()
        assert len(parents) == starts
        assert len(children) == 3 * starts
    assert parents[0].data.tags["qpipe.sweep.kind"] == "search"
    assert {child.info.status for child in children} == {"FINISHED"}
    by_parent = [
        sorted(
            (child.data.tags["qpipe.sweep.job"], child.data.metrics["quantized/accuracy"])
            for child in children
            if child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        )
        for parent in parents
    ]
    assert by_parent[0] == by_parent[1], "the search is seeded"


@pytest.mark.slow
def test_the_same_sweep_does_not_run_twice_at_once(small_sweep):
    command = small_sweep.command("seed=0,1")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=small_sweep.folder
    ) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("data "))
        second = small_sweep.run("seed=0,1")
        process.stdout.read()
    assert process.returncode == 0
    assert second.returncode == 1
    assert f"error: The same sweep is running in process {process.pid}" in second.stderr


@pytest.mark.slow
def test_an_interrupted_sweep_says_how_to_go_on(small_sweep):
    with subprocess.Popen(
        small_sweep.command("seed=0,1,2,3", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=small_sweep.folder,
    ) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("evaluation "))
        process.terminate()
        process.stdout.close()
        errors = process.stderr.read() if process.stderr else ""
    time.sleep(0.1)
    assert process.returncode == 143, errors
    assert "the same command goes on with what is left" in errors
    (parent,), children = small_sweep.all_runs()
    assert parent.info.status == "KILLED"
    assert {child.info.status for child in children} <= {"FINISHED", "KILLED", "FAILED"}
