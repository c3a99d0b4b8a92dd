import pytest
from sweep_outcomes import attempt, measured, outcome

from qpipe.config.schema import SweepConfig
from qpipe.errors import ConfigError
from qpipe.sweep.attempts import latest
from qpipe.sweep.objectives import Objective, objective_values


def test_progress_counts_jobs_that_never_began():
    stands = outcome(attempt(0), attempt(1, "FAILED"), attempt(2, "RUNNING"), attempt(3, "KILLED"), total=8)
    assert (len(stands.done), len(stands.failed), stands.left) == (1, 2, 5)
    assert stands.progress == "1 of 8 done, 2 failed, 5 left"
    assert outcome(attempt(0), attempt(1, "RUNNING")).progress == "1 of 2 done, 0 failed, 1 left"


def test_best_job_and_direction():
    jobs = [measured(0, 0.9, 100, 5), measured(1, 0.95, 80, 4), measured(2, 0.7, 10, 3)]
    assert outcome(*jobs).best.number == 1
    assert outcome(*jobs, objectives=[Objective("size/packed_weight_bytes", False)]).best.number == 2
    assert outcome(attempt(0, "FAILED")).best is None


def test_of_equally_good_jobs_the_cheapest_is_best():
    jobs = [measured(0, 0.9, 100, 5), measured(1, 0.9, 80, 7), measured(2, 0.9, 80, 6)]
    assert outcome(*jobs).best.number == 2


def test_fronts_are_sorted_by_cost():
    jobs = [measured(0, 0.9, 100, 5), measured(1, 0.8, 120, 4), measured(2, 0.7, 10, 6), attempt(3, "FAILED")]
    stands = outcome(*jobs)
    assert [entry.number for entry in stands.front("size/packed_weight_bytes")] == [2, 0]
    assert [entry.number for entry in stands.front("cost/bit_operations")] == [1, 0]


def test_the_newest_attempt_counts_unless_an_older_one_finished():
    attempts = [
        attempt(0, "KILLED", job="a"),
        attempt(1, "FAILED", job="b"),
        attempt(0, "FINISHED", job="a"),
        attempt(1, "KILLED", job="b"),
        attempt(2, "RUNNING", job="c"),
        attempt(2, "FINISHED", job="c"),
    ]
    assert [entry.status for entry in latest(attempts)] == ["FINISHED", "FAILED", "RUNNING"]


def test_what_a_sweeper_gets():
    metrics = {"quantized/accuracy": 0.5, "size/packed_weight_bytes": 7.0}
    assert objective_values(metrics, SweepConfig()) == 0.5
    two = SweepConfig(metric=["quantized/accuracy", "size/packed_weight_bytes"], direction=["maximize", "minimize"])
    assert objective_values(metrics, two) == (0.5, 7.0)
    assert objective_values(metrics, SweepConfig(metric=["quantized/accuracy"], direction=["maximize"])) == (0.5,)
    with pytest.raises(ConfigError, match=r"no metric 'quantised/accuracy'; did you mean 'quantized/accuracy'"):
        objective_values(metrics, SweepConfig(metric="quantised/accuracy"))
