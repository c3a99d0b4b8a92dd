import pytest

from qpipe.config.composition import composed
from qpipe.errors import ConfigError
from qpipe.sweep.space import read_space


def space(*overrides, parameters=None):
    with composed([]):
        return read_space(overrides, parameters or {})


def test_listed_values():
    read = space("seed=1", "quantizer.weight.bitwidth=8,6,4", "folding.mode=ema_stats_folding,batch_stats_folding")
    assert read.fixed == ["seed=1"]
    assert read.jobs == 6
    assert read.shown["quantizer.weight.bitwidth"] == "8, 6, 4"
    assert read.first_job == ["seed=1", "quantizer.weight.bitwidth=8", "folding.mode=ema_stats_folding"]


def test_each_value_is_in_one_job_of_the_check():
    jobs = [sorted(job, reverse=True) for job in space("seed=1,2,3", "name=a,b").each_value_once()]
    assert jobs == [
        ["seed=1", "name=a"],
        ["seed=2", "name=a"],
        ["seed=3", "name=a"],
        ["seed=1", "name=b"],
    ]


def test_ranges_and_globs_are_counted():
    assert space("seed=range(0,4)").jobs == 4
    read = space("+experiment=glob(mobilenet_8bit*)")
    assert read.jobs == 2
    assert read.shown == {"+experiment": "mobilenet_8bit, mobilenet_8bit_ptq"}


def test_repeated_values_are_one_job():
    assert space("seed=1,1,2").jobs == 2


def test_intervals_have_no_number_of_jobs_and_are_checked_at_their_ends():
    read = space(parameters={"training.qat.learning_rate": "tag(log, interval(1e-5, 1e-3))"})
    assert read.jobs is None
    assert read.shown == {"training.qat.learning_rate": "interval(1e-05, 0.001, log)"}
    assert read.swept["training.qat.learning_rate"] == [
        "training.qat.learning_rate=1e-05",
        "training.qat.learning_rate=0.001",
    ]


def test_overrides_win_over_the_parameters_of_a_sweep_file():
    parameters = {"seed": "1,2", "name": "a,b"}
    assert space("seed=3", parameters=parameters).jobs == 2
    assert space("seed=3,4,5", parameters=parameters).jobs == 6


@pytest.mark.parametrize("override", ["runs_dir=a,b", "tracking.uri=a,b", "sweep.rerun=true,false", "sweep=grid,tpe"])
def test_what_all_jobs_share_is_not_swept(override):
    with pytest.raises(ConfigError, match=f"{override.split('=')[0]}: it has one value for all jobs"):
        space(override)
