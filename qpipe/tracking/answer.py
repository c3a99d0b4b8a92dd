"""A bound on the time that a tracking server has to answer, whatever it hangs in."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")


def answer_within(seconds: float, question: Callable[[], Result]) -> Result:
    """Calls `question` in a thread of its own and gives up on it after `seconds`.

    Name resolution, connecting and a server that sends byte by byte have no common timeout of their own.

    Raises:
        TimeoutError: no answer in time.
    """
    answers: list[Result] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(question())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=ask, name="qpipe-tracking-check", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return answers[0]


@contextmanager
def impatient_requests(seconds: float) -> Iterator[None]:
    """Lets MLflow's requests time out after `seconds`, without another try; afterwards all is as before."""
    settings = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, round(seconds))), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
