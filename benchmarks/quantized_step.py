"""Time of quantized inference and of a quantization-aware training step, against the float model.

    python benchmarks/quantized_step.py [--rounds 60] [--peers PYTHON ...]

MobileNet (alpha 0.25, 32x32 pixels, 10 classes), batches of 64, compiled with `jit_compile=False`. The float model
keeps its batch normalizations. Every model has its turn in every round, all in one process; printed are medians in
milliseconds and their ratio to the float model's.

- inference: folded, quantized and calibrated; and quantized without folding.
- training step: quantized without folding, weight scales and activation ranges in motion; for information also
  folded, before and after the freeze of batch statistics and ranges.

With `--peers`, the same is measured of TF-MOT and QKeras (`quantized_step_peers.py`), each against a float model of
its own in the same process, with the Python of an environment that has them:

    python -m venv peers && peers/bin/pip install tf-keras tensorflow-model-optimization qkeras-v3
    python benchmarks/quantized_step.py --peers peers/bin/python
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from small_mobilenet import compiled, freeze_statistics_and_ranges, network_and_batch
from turns import medians, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="turns of every model")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter of an environment with TF-MOT and QKeras")
    options = parser.parse_args()
    measure_qpipe(options.rounds)
    for library in ("tfmot", "qkeras") if options.peers else ():
        measure_peer(options.peers, library, options.rounds)


def measure_qpipe(rounds: int) -> None:
    model, images, labels = network_and_batch()
    import keras

    import qpipe
    from qpipe.training.freeze import follow_data

    def quantized(*, fold: bool, training: bool = False, frozen: bool = False):
        result = qpipe.quantize(qpipe.fold_batchnorm(model) if fold else model)
        qpipe.calibrate(result, images)
        if training:
            follow_data(result)
        if frozen:
            freeze_statistics_and_ranges(result)
        return compiled(result)

    float_model = compiled(keras.models.clone_model(model))
    inference = {
        "float": float_model,
        "folded": quantized(fold=True),
        "not folded": quantized(fold=False),
    }
    report(
        "qpipe, inference",
        medians({name: lambda m=m: m.predict_on_batch(images) for name, m in inference.items()}, rounds),
    )
    training = {
        "float": float_model,
        "not folded": quantized(fold=False, training=True),
        "folded": quantized(fold=True, training=True),
        "folded, frozen": quantized(fold=True, training=True, frozen=True),
    }
    report(
        "qpipe, training step",
        medians({name: lambda m=m: m.train_on_batch(images, labels) for name, m in training.items()}, rounds),
    )


def measure_peer(python: str, library: str, rounds: int) -> None:
    """Runs the peers' script in its own environment; what it writes to the standard error is shown if it fails."""
    script = Path(__file__).with_name("quantized_step_peers.py")
    command = [python, str(script), library, "--rounds", str(rounds)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    print(result.stdout, end="", flush=True)
    if result.returncode:
        print(f"{library} could not be measured:\n{result.stderr}", file=sys.stderr)


if __name__ == "__main__":
    main()
