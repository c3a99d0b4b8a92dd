"""Time of a training step with folded batch normalizations, against the float model with its own.

    python benchmarks/folding.py [--rounds 60] [--mode ema_stats_folding]

MobileNet (alpha 0.25, 32x32 pixels, 10 classes), batches of 64, `train_on_batch` with `jit_compile=False`. The
reference is the plain Keras model; every model has its turn in every round, all in one process. Printed are medians in
milliseconds, their ratio to the float model's, and of the first step, trace included, the same.

- folded: no quantizers.
- kernels: 8-bit kernel quantizers only.
- before the freeze: 8-bit quantizers of kernels, biases and activations, batch statistics and ranges in motion.
- after the freeze: the same with constant statistics and ranges.
"""

from __future__ import annotations

import argparse
import time

from small_mobilenet import compiled, freeze_statistics_and_ranges, network_and_batch
from turns import medians, report

MODES = ("ema_stats_folding", "batch_stats_folding")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="turns of every model")
    parser.add_argument("--mode", choices=MODES, action="append", help="folding mode; both by default")
    options = parser.parse_args()
    for mode in options.mode or MODES:
        measure(mode, options.rounds)


def measure(mode: str, rounds: int) -> None:
    model, images, labels = network_and_batch()
    import keras

    import qpipe
    from qpipe.config.schema import FoldingConfig, FoldingMode
    from qpipe.training.freeze import follow_data

    folded = qpipe.fold_batchnorm(model, FoldingConfig(mode=FoldingMode[mode]))

    def quantized(*, frozen: bool):
        result = qpipe.quantize(folded)
        follow_data(qpipe.calibrate(result, images))
        if frozen:
            freeze_statistics_and_ranges(result)
        return result

    models = {
        "float": keras.models.clone_model(model),
        "folded": folded,
        "kernels": with_kernel_quantizers(folded),
        "before the freeze": quantized(frozen=False),
        "after the freeze": quantized(frozen=True),
    }
    first = {}
    for name, candidate in models.items():
        compiled(candidate)
        started = time.perf_counter()
        candidate.train_on_batch(images, labels)
        first[name] = time.perf_counter() - started
    steps = {name: lambda m=m: m.train_on_batch(images, labels) for name, m in models.items()}
    report(f"{mode}, training step", medians(steps, rounds))
    report(f"{mode}, first step", first)


def with_kernel_quantizers(folded):
    """Returns a copy of a folded model whose layers quantize their kernels, per channel, and nothing else."""
    import keras

    from qpipe.layers.folded import BatchnormFolding
    from qpipe.quantizers import WeightQuantizer

    def copied(layer):
        config = layer.get_config()
        if isinstance(layer, BatchnormFolding):
            config["kernel_quantizer"] = WeightQuantizer(8, channel_axes=layer.channel_axes)
        return type(layer).from_config(config)

    result = keras.models.clone_model(folded, clone_function=copied)
    for layer in folded.layers:
        for variable in layer.variables:
            twin = next((v for v in result.get_layer(layer.name).variables if v.name == variable.name), None)
            twin.assign(variable)
    return result


if __name__ == "__main__":
    main()
