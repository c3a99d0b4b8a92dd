"""Outcomes of sweeps that never ran."""

from types import SimpleNamespace

from qpipe.sweep.attempts import Attempt
from qpipe.sweep.objectives import Objective
from qpipe.sweep.outcome import Outcome

ACCURACY = Objective("quantized/accuracy", True)


def attempt(number, status="FINISHED", error=None, swept=None, job=None, **metrics):
    named = {key.replace("__", "/"): value for key, value in metrics.items()}
    run = SimpleNamespace(
        info=SimpleNamespace(run_id=f"run{number}-{status}", status=status, run_name=f"job {number}"),
        data=SimpleNamespace(metrics=named, tags={} if error is None else {"error": error}),
    )
    swept = {"bitwidth": str(8 - number)} if swept is None else swept
    return Attempt(run=run, job=job or f"job{number}", number=number, identity="", swept=swept)


def measured(number, accuracy, size, operations, **more):
    costs = {"size__packed_weight_bytes": size, "cost__bit_operations": operations}
    return attempt(number, quantized__accuracy=accuracy, **costs, **more)


def outcome(*attempts, total=None, objectives=(ACCURACY,), name="net"):
    return Outcome(name=name, attempts=list(attempts), total=total, objectives=list(objectives))
