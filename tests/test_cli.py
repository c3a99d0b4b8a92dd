"""The command line from outside: statuses, output, costs. The pipeline is a stand-in here."""

import os
import re
import resource
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml

import qpipe
from qpipe.cli import main
from qpipe.errors import DataError
from qpipe.tracking import start_run

CPU_SECONDS = 1.5


class StandInPipeline(types.ModuleType):
    """Takes the place of `qpipe.pipeline`: remembers its jobs, and fails as it is told."""

    def __init__(self):
        super().__init__("qpipe.pipeline")
        self.jobs = []
        self.failure = None

    def run_job(self, config, *, directory, command, sweep=None):
        self.jobs.append((config, directory, command))
        if sweep is not None:
            self._log(config, sweep)
            return types.SimpleNamespace(metrics={"quantized/accuracy": 0.5})
        if self.failure:
            raise self.failure
        return f"result of {config.name}"

    def _log(self, config, sweep):
        names = {"name": sweep.name, "parameters": sweep.parameters, "tags": sweep.tags}
        with start_run(config.tracking, runs_dir=Path(config.runs_dir), **names):
            if self.failure:
                raise self.failure


@pytest.fixture
def pipeline(monkeypatch, tmp_path):
    stand_in = StandInPipeline()
    monkeypatch.setitem(sys.modules, "qpipe.pipeline", stand_in)
    monkeypatch.setattr(qpipe, "pipeline", stand_in, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QPIPE_DEBUG", raising=False)
    monkeypatch.delenv("QPIPE_RUNS", raising=False)
    return stand_in


def test_job_runs_in_a_folder_of_its_own(pipeline, tmp_path, capsys):
    assert main(["experiment=mobilenet_8bit_ptq", "seed=7"]) == 0
    assert main(["experiment=mobilenet_8bit_ptq", "seed=7"]) == 0
    (config, directory, command), (_, other, _) = pipeline.jobs
    assert (config.name, config.seed) == ("mobilenet_8bit_ptq", 7)
    assert command == ["python", "-m", "qpipe", "seed=7", "+experiment=mobilenet_8bit_ptq"]
    assert directory.is_absolute()
    assert directory != other
    assert directory.parent.parent == tmp_path / "runs" / "jobs"
    assert directory.name.endswith("_mobilenet_8bit_ptq")
    assert yaml.safe_load((directory / ".hydra" / "config.yaml").read_text())["seed"] == 7
    assert capsys.readouterr() == ("", "")


def test_runs_folder_elsewhere(pipeline, tmp_path):
    assert main([f"runs_dir={tmp_path}/there"]) == 0
    assert pipeline.jobs[0][1].is_relative_to(tmp_path / "there" / "jobs")
    assert not (tmp_path / "runs").exists()


def test_runs_folder_that_can_not_be_made(pipeline, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["runs_dir=file"]) == 1
    written = capsys.readouterr().err
    assert written.startswith("error: runs_dir: can't create the folder 'file/jobs/")
    assert written.count("\n") == 1
    assert pipeline.jobs == []


def test_unused_keys_are_reported(pipeline, capsys):
    assert main(["experiment=mobilenet_8bit_ptq", "folding.ema_freeze_delay=3"]) == 0
    assert "folding.ema_freeze_delay is set but not used" in capsys.readouterr().err


def test_mistake_that_the_pipeline_finds(pipeline, capsys):
    pipeline.failure = DataError("data.path: there is no file 'a.npz'")
    assert main([]) == 1
    assert capsys.readouterr() == ("", "error: data.path: there is no file 'a.npz'\n")


def test_unexpected_error_leaves_its_trace_in_the_folder(pipeline, capsys):
    pipeline.failure = ZeroDivisionError("division by zero\nsecond line")
    assert main([]) == 1
    trace = pipeline.jobs[0][1] / "traceback.txt"
    written = capsys.readouterr().err
    assert written.startswith("error: unexpected ZeroDivisionError: division by zero; ")
    assert str(trace) in written
    assert "QPIPE_DEBUG=1" in written
    assert written.count("\n") == 1
    assert "run_job" in trace.read_text()


def test_interrupt(pipeline, capsys):
    pipeline.failure = KeyboardInterrupt()
    assert main([]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_sigterm_is_an_interrupt_to_the_pipeline(pipeline, capsys):
    seen = []

    def run_job(config, *, directory, command, sweep):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait([], 5)
        except KeyboardInterrupt:
            seen.append("interrupt")
            raise

    pipeline.run_job = run_job
    before = signal.getsignal(signal.SIGTERM)
    assert main([]) == 143
    assert seen == ["interrupt"]
    assert signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().err == "error: terminated\n"


def test_multirun_runs_every_combination(pipeline, tmp_path, monkeypatch):
    arguments = ["program", "as", "before"]
    monkeypatch.setattr(sys, "argv", arguments)
    status = main(["-m", "experiment=mobilenet_8bit,mobilenet_4bit", "seed=2", "debug=fast"])
    assert status == 0
    assert sys.argv is arguments
    assert "HYDRA_FULL_ERROR" not in os.environ
    assert [config.name for config, *_ in pipeline.jobs] == ["mobilenet_8bit", "mobilenet_4bit"]
    assert all(config.training.qat.epochs == 1 for config, *_ in pipeline.jobs)
    folders = {directory for _, directory, _ in pipeline.jobs}
    assert len(folders) == 2
    assert all(folder.is_relative_to(tmp_path / "runs" / "jobs" / "multirun") for folder in folders)
    assert all("seed=2" in command for _, _, command in pipeline.jobs)


def test_multirun_with_a_job_that_fails(pipeline, capsys):
    pipeline.failure = DataError("data.path: there is no file 'a.npz'")
    assert main(["--multirun", "seed=1,2"]) == 1
    assert len(pipeline.jobs) == 2, "a job that fails does not keep the others from running"
    written = capsys.readouterr()
    assert written.err.endswith("error: 2 of 2 job(s) of the sweep failed\n")
    assert "Traceback" not in written.err
    for number in (0, 1):
        assert (
            f"failed: job {number} (seed={number + 1}): DataError: data.path: there is no file 'a.npz'" in written.out
        )


def test_python_function_gives_the_same_job(pipeline, tmp_path):
    assert main(["experiment=mobilenet_4bit", "debug=fast"]) == 0
    assert qpipe.run(["debug=fast", "+experiment=mobilenet_4bit"]) == "result of mobilenet_4bit"
    (left, left_folder, left_command), (right, right_folder, right_command) = pipeline.jobs
    assert left == right
    assert left_command == right_command
    assert left_folder.parent == right_folder.parent


def test_python_function_raises_what_the_command_line_tells(pipeline):
    with pytest.raises(qpipe.errors.ConfigError, match="did you mean 'seed'"):
        qpipe.run(["sede=1"])
    pipeline.failure = DataError("no data")
    with pytest.raises(DataError, match="no data"):
        qpipe.run([])


def test_config_dir_of_the_user(pipeline, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "tiny.yaml").write_text("# @package _global_\nname: tiny\nseed: 5\n")
    assert main(["--config-dir", "mine", "experiment=tiny"]) == 0
    assert main(["--config-dir", "mine", "--multirun", "experiment=tiny", "seed=8,9"]) == 0
    qpipe.run(["experiment=tiny"], config_dir="mine")
    assert [config.seed for config, *_ in pipeline.jobs] == [5, 8, 9, 5]
    for _, _, command in pipeline.jobs:
        assert command[3:5] == ["--config-dir", str(tmp_path / "mine")]


def test_help_lists_groups_and_options(capsys):
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    for option in ("experiment=\n    ds_cnn_audio_8bit ", "\n    resnet8_cifar10_8bit ", "model=\n    application "):
        assert option in page
    assert "hydra=" not in page
    assert "schema" not in page
    assert max(map(len, page.splitlines())) <= 120


def test_help_lists_the_users_own_experiments(capsys, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "tiny.yaml").write_text("# @package _global_\n# The smallest one.\n")
    assert main(["--help", "--config-dir", str(tmp_path)]) == 0
    assert re.search(r"\n    tiny +The smallest one\.\n", capsys.readouterr().out)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"qpipe {qpipe.__version__}\n"


def test_cfg_shows_the_resolved_job(capsys):
    assert main(["--cfg", "job", "--resolve", "experiment=mobilenet_8bit", "debug=fast"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["folding"]["ema_freeze_delay"] == 1
    assert next(iter(shown)) == "name"
    assert "hydra" not in shown


def test_cfg_shows_a_part(capsys):
    assert main(["--cfg", "job", "--package", "quantizer.weight"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["bitwidth"] == 8


def test_cfg_shows_what_is_still_to_be_set(capsys):
    assert main(["--cfg", "job", "experiment=resnet8_cifar10_8bit"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["path"] == "???"


def test_info_names_the_composition(capsys):
    assert main(["--info", "defaults-tree", "experiment=mobilenet_8bit"]) == 0
    assert "experiment: mobilenet_8bit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--mutlirun"], "--multirun"),
        (["--cfg", "jobs"], "'job'"),
        (["--resolve"], "--cfg"),
        (["--cfg", "job", "-m"], "-m"),
    ],
)
def test_wrong_option(arguments, hint, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    written = capsys.readouterr().err
    assert written.startswith("error: ")
    assert written.count("\n") == 1
    assert hint in written


PROGRAM = (
    "import sys; from qpipe.cli import main; status = main(sys.argv[1:]); "
    "heavy = {'tensorflow', 'keras', 'mlflow', 'numpy'} & set(sys.modules); "
    "print('HEAVY', *sorted(heavy)); sys.exit(status)"
)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["--cfg", "job", "--resolve", "experiment=mobilenet_8bit"], 0),
        (["model.widht=1"], 1),
        (["quantizer.weight.bitwidth=33"], 1),
        (["experiment=mobilnet_8bit"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_answer_is_cheap_and_imports_nothing_heavy(arguments, status, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == status, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "HEAVY"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < CPU_SECONDS


def test_module_and_console_script_are_the_same(tmp_path):
    script = Path(sys.executable).with_name("qpipe")
    commands = [[sys.executable, "-m", "qpipe"]] + ([[str(script)]] if script.exists() else [])
    for command in commands:
        done = subprocess.run([*command, "sede=1"], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 1
        assert done.stderr == "error: sede: there is no such key; did you mean 'seed' or 'sweep'?\n"
