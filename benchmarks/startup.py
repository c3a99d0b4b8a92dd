"""CPU time of `qpipe --help` and of a configuration error, against an eager import of what a job needs.

    python benchmarks/startup.py

Prints CPU seconds (user + system, median of five, in turns) and the ratios.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

ROUNDS = 5
COMMANDS = {
    "import tensorflow, keras, mlflow": [sys.executable, "-c", "import tensorflow, keras, mlflow"],
    "qpipe --help": [sys.executable, "-m", "qpipe", "--help"],
    "qpipe --cfg job --resolve": [
        sys.executable,
        "-m",
        "qpipe",
        "--cfg",
        "job",
        "--resolve",
        "experiment=mobilenet_8bit",
    ],
    "qpipe with a misspelt key": [
        sys.executable,
        "-m",
        "qpipe",
        "experiment=mobilenet_8bit",
        "quantizer.weigth.bitwidth=4",
    ],
}


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            times[name].append(cpu_seconds(command))
    reference = statistics.median(times["import tensorflow, keras, mlflow"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:34} {median:6.2f} s   ratio {median / reference:.3f}")


def cpu_seconds(command: list[str]) -> float:
    """Runs `command` and returns the CPU time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
