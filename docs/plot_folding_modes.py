"""Writes the plots of `docs/freeze-and-modes.md`: jitter of quantized kernels and accuracy, in real trainings.

    QPIPE_DATA=<folder> python docs/plot_folding_modes.py [--scales per-kernel per-channel] [--seeds 3]
        [--steps 400] [--results curves.json]

`<folder>/fashion_mnist/fashion_mnist.npz` holds x_train and y_train of Fashion-MNIST; the test part is not read. The
last 2,000 training images are for validation, the first 10,000 of the others for training. One float model is
trained; each setting starts from its weights, and its seed decides the order of the images. With `--results`, finished
trainings are kept in a file, and not run again.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter
from PIL import Image

from qpipe.algorithms import calibrate
from qpipe.config.schema import FoldingConfig, FoldingMode, QuantizerConfig, WeightQuantizerConfig
from qpipe.graph.folding import fold_batchnorm
from qpipe.graph.quantization import quantize_with_plan
from qpipe.layers.batch_statistics import BatchStatistics
from qpipe.training.freeze import FreezeByRetracing, follow_data

IMAGES = Path(__file__).parent / "images"
SAMPLES, VALIDATION, BATCH, CALIBRATION = 10_000, 2_000, 64, 256
FLOAT_EPOCHS, FLOAT_RATE, RATE = 10, 1e-2, 5e-4
EVERY = 20
SMOOTHING = 11
SCALES = ["per-kernel", "per-channel"]
MODES = tuple(mode.value for mode in FoldingMode)
COLOURS = dict(zip(MODES, ("#0072B2", "#D55E00"), strict=True))
MEASURES = {
    "changed": "kernel integers that changed\nsince the step before (%)",
    "moved": "mean move of the kernels\nsince the step before (LSB)",
    "accuracy": "validation accuracy (%)",
}
Curves = dict[str, list[float]]


class Setting(NamedTuple):
    """One training: what differs between them."""

    per_channel: bool
    bits: int
    mode: str
    freeze: bool
    seed: int

    @property
    def key(self) -> str:
        """Its name in the file of results."""
        return " ".join(map(str, self))


class Data(NamedTuple):
    """Images in [0, 1] of the shape (samples, 28, 28, 1), with their classes."""

    x: np.ndarray
    y: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray


class KernelRecorder(keras.callbacks.Callback):
    """Notes how far the kernels that the folded layers apply move from one training step to the next.

    The integers and scales are taken where the layer applies them, inside the training step: with
    `batch_stats_folding` they depend on the batch.
    """

    def __init__(self, model: keras.Model, curves: Curves):
        super().__init__()
        self._curves = curves
        self._kernels = [_recorded(layer) for layer in model.layers if isinstance(layer, BatchStatistics)]
        self._last: list[tuple[np.ndarray, np.ndarray]] | None = None

    def on_train_batch_end(self, batch, logs=None):
        """Compares with the step before."""
        now = [(integers.numpy(), scale.numpy()) for integers, scale in self._kernels]
        if self._last is not None:
            pairs = list(zip(now, self._last, strict=True))
            changed = [np.mean(new != old) for (new, _), (old, _) in pairs]
            moved = [np.mean(np.abs(new - old * (before / scale))) for (new, scale), (old, before) in pairs]
            self._curves["changed"].append(100.0 * float(np.mean(changed)))
            self._curves["moved"].append(float(np.mean(moved)))
        self._last = now


class Validation(keras.callbacks.Callback):
    """Measures the accuracy of inference on the validation images every few steps."""

    def __init__(self, model: keras.Model, data: Data, curves: Curves):
        super().__init__()
        self._classes = tf.function(lambda x: tf.argmax(model(x, training=False), -1))
        self._x, self._y = tf.constant(data.x_validation), data.y_validation
        self._curves, self._step = curves, 0

    def on_train_batch_end(self, batch, logs=None):
        """Counts the step, and measures where it is due."""
        self._step += 1
        if self._step % EVERY == 0:
            right = self._classes(self._x).numpy() == self._y
            self._curves["accuracy"].append(100.0 * float(np.mean(right)))


def _recorded(layer) -> tuple[tf.Variable, tf.Variable]:
    """Lets a folded layer write the integers and scale of the kernel that it applies into two variables."""
    quantizer = layer.kernel_quantizer
    integers = tf.Variable(tf.zeros(layer.kernel.shape), trainable=False)
    scale = tf.Variable(tf.zeros(quantizer.scale.shape), trainable=False)
    fake = quantizer.fake

    def recording(kernel, kernel_scale, training=False):
        if training:
            integers.assign(tf.stop_gradient(quantizer.integer(kernel, kernel_scale)))
            scale.assign(tf.stop_gradient(kernel_scale))
        return fake(kernel, kernel_scale, training)

    quantizer.fake = recording
    return integers, scale


def load() -> Data:
    """Reads the training part of Fashion-MNIST and splits it."""
    path = Path(os.environ["QPIPE_DATA"]) / "fashion_mnist" / "fashion_mnist.npz"
    with np.load(path) as file:
        x, y = file["x_train"][..., None].astype("float32") / 255.0, file["y_train"].astype("int64")
    return Data(x[:SAMPLES], y[:SAMPLES], x[-VALIDATION:], y[-VALIDATION:])


def float_model(data: Data) -> keras.Model:
    """Trains the network from which every setting starts."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((28, 28, 1))
    for index, (filters, strides) in enumerate(((16, 2), (32, 1), (64, 2))):
        if index:
            x = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(x)
            x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        kernel = 1 if index else 3
        x = layers.Conv2D(filters, kernel, 1 if index else strides, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    model = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.CosineDecay(FLOAT_RATE, FLOAT_EPOCHS * -(-SAMPLES // BATCH))
    model.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
    model.fit(data.x, data.y, batch_size=BATCH, epochs=FLOAT_EPOCHS, verbose=0)
    right = np.argmax(model.predict(data.x_validation, verbose=0), -1) == data.y_validation
    print(f"float model: {100.0 * np.mean(right):.2f} % of {VALIDATION} validation images", flush=True)
    return model


def train(source: keras.Model, data: Data, setting: Setting, steps: int) -> Curves:
    """Trains one setting, and returns its curves: per step, the accuracy once in `EVERY` steps."""
    delay = steps // 2 if setting.freeze else None
    folded = fold_batchnorm(source, FoldingConfig(mode=FoldingMode(setting.mode), ema_freeze_delay=delay))
    weight = WeightQuantizerConfig(bitwidth=setting.bits, per_channel=setting.per_channel)
    model = quantize_with_plan(folded, QuantizerConfig(weight=weight), ema_freeze_delay=delay).model
    calibrate(model, data.x[:CALIBRATION])
    follow_data(model)
    curves: Curves = {measure: [] for measure in MEASURES}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE), loss, jit_compile=False)
    order = np.concatenate([np.random.default_rng([setting.seed, epoch]).permutation(SAMPLES) for epoch in range(9)])
    order = order[: steps * BATCH]
    model.fit(
        data.x[order],
        data.y[order],
        batch_size=BATCH,
        shuffle=False,
        verbose=0,
        callbacks=[FreezeByRetracing(), KernelRecorder(model, curves), Validation(model, data, curves)],
    )
    return curves


def settings(scales: list[str], seeds: int) -> Iterator[Setting]:
    """Yields all settings, seed by seed."""
    for seed, scale, bits, mode, freeze in product(range(seeds), scales, (8, 4), MODES, (False, True)):
        yield Setting(scale == "per-channel", bits, mode, freeze, seed)


def plot(results: dict[str, Curves], per_channel: bool, steps: int, seeds: int, path: Path) -> None:
    """Draws one figure: a row for each measure, a column for each width; the mean of the seeds, and their extremes."""
    figure, axes = plt.subplots(3, 2, figsize=(10, 9.5), sharex=True, layout="constrained")
    for (row, measure), (column, bits) in product(enumerate(MEASURES), enumerate((8, 4))):
        axis = axes[row, column]
        for mode, freeze in product(MODES, (False, True)):
            runs = [results[Setting(per_channel, bits, mode, freeze, seed).key][measure] for seed in range(seeds)]
            curves = np.array([run if measure == "accuracy" else _smooth(run) for run in runs])
            x = np.arange(1, curves.shape[1] + 1) * (EVERY if measure == "accuracy" else 1) + (measure != "accuracy")
            label = f"{mode}, {f'frozen after step {steps // 2}' if freeze else 'no freeze'}"
            axis.plot(x, curves.mean(0), color=COLOURS[mode], linestyle="-" if freeze else ":", label=label)
            axis.fill_between(x, curves.min(0), curves.max(0), color=COLOURS[mode], alpha=0.12, linewidth=0)
        axis.axvline(steps // 2, color="0.4", linewidth=0.8, zorder=0)
        axis.annotate(
            "freeze",
            (steps // 2, 0.02),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=8,
            color="0.3",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
        )
        axis.grid(alpha=0.25)
        axis.set_xlim(0, steps)
        if measure != "accuracy":
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
            low, high = axis.get_ylim()
            axis.yaxis.set_minor_formatter(_even if high < 60 * low else NullFormatter())
        axis.set_ylabel(MEASURES[measure])
        if row == 0:
            axis.set_title(f"{bits}-bit weights")
    for axis in axes[-1]:
        axis.set_xlabel("training step")
    scales = "one scale per output channel" if per_channel else "one scale per kernel"
    figure.suptitle(f"Folding modes in quantization-aware training, {scales}")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    picture = BytesIO()
    figure.savefig(picture, dpi=90)
    Image.open(picture).convert("RGB").quantize(64).save(path, optimize=True)
    plt.close(figure)


def _even(value: float, position: int | None = None) -> str:
    """Labels 2, 4 and 6 times a power of ten."""
    return f"{value:g}" if f"{value:e}"[0] in "246" else ""


def _smooth(values: list[float]) -> np.ndarray:
    """Moving median, shortened at the ends."""
    half = SMOOTHING // 2
    return np.array([np.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))])


def table(results: dict[str, Curves], per_channel: bool, steps: int, seeds: int) -> str:
    """Returns the figures as a table: jitter in each half of the steps, accuracy over the last five measurements."""
    lines = [
        "| bits | mode | freeze | integers changed, 1st / 2nd half | move in LSB, 1st / 2nd half | accuracy |",
        "|---|---|---|---|---|---|",
    ]
    half = steps // 2
    for bits, mode, freeze in product((8, 4), MODES, (False, True)):
        runs = [results[Setting(per_channel, bits, mode, freeze, seed).key] for seed in range(seeds)]
        cells: list[Any] = [bits, f"`{mode}`", f"step {half}" if freeze else "no"]
        for measure, form in (("changed", "{:.2f} %"), ("moved", "{:.3f}")):
            values = np.array([run[measure] for run in runs])
            # the kernel of step `half + 1` may jump; its move counts for neither half
            parts = values[:, : half - 1], values[:, half:]
            cells.append(" / ".join(form.format(np.median(part)) for part in parts))
        last = np.array([np.mean(run["accuracy"][-5:]) for run in runs])
        cells.append(f"{last.mean():.2f} % ({last.min():.2f}–{last.max():.2f})")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing, draws both figures, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", nargs="+", choices=SCALES, default=SCALES, help="a figure for each")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each setting")
    parser.add_argument("--steps", type=int, default=400, help="of each training; the freeze comes after half of them")
    parser.add_argument("--results", type=Path, help="JSON file that keeps the curves of finished trainings")
    options = parser.parse_args()
    results: dict[str, Curves] = {}
    if options.results and options.results.exists():
        results = json.loads(options.results.read_text(encoding="utf-8"))
    missing = [setting for setting in settings(options.scales, options.seeds) if setting.key not in results]
    data = load() if missing else None
    source = float_model(data) if missing else None
    for setting in missing:
        results[setting.key] = train(source, data, setting, options.steps)
        print(setting.key, f"{results[setting.key]['accuracy'][-1]:.2f} %", flush=True)
        if options.results:
            options.results.write_text(json.dumps(results), encoding="utf-8")
    IMAGES.mkdir(exist_ok=True)
    for name in options.scales:
        per_channel = name == "per-channel"
        plot(results, per_channel, options.steps, options.seeds, IMAGES / f"folding-modes-{name}.png")
        print(f"\n{name}\n{table(results, per_channel, options.steps, options.seeds)}")


if __name__ == "__main__":
    main()
