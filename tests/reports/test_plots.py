"""The plots of a run, read back from their figures."""

import keras
import numpy as np
import pytest
from PIL import Image

from qpipe.algorithms import calibrate
from qpipe.config.schema import LayerRule, OutputQuantizerConfig, QuantizerConfig, Task, WeightQuantizerConfig
from qpipe.config.schema import WeightQuantizerRule as Weight
from qpipe.graph.folding import FoldingPlan
from qpipe.graph.quantization import quantize_with_plan
from qpipe.layers.inventory import output_quantizers
from qpipe.reports.accuracy_plot import MOST_CLASSES, accuracy_figure
from qpipe.reports.class_scores import scores_by_class
from qpipe.reports.costs import packed_weight_bytes
from qpipe.reports.figure import LONGEST_NAME, short
from qpipe.reports.histogram_plot import histogram_figure
from qpipe.reports.layers import layer_report
from qpipe.reports.noise import measure_noise
from qpipe.reports.noise_plot import noise_figure
from qpipe.reports.plots import RunResults, TestPart, write_plots
from qpipe.reports.size_plot import size_figure
from qpipe.reports.training_plot import training_figure

LONG = "a_name_that_is_far_too_long_for_one_row_of_a_figure"


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(0).normal(size=(48, 6, 6, 2)).astype("float32")


@pytest.fixture(scope="module")
def results(samples):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(3, 3, padding="same", activation="relu", name=LONG)(inputs)
    x = keras.layers.Add(name="add")([x, keras.layers.Conv2D(3, 1, name="branch")(x)])
    model = keras.Model(inputs, keras.layers.Dense(4, name="dense")(keras.layers.Flatten()(x)))
    config = QuantizerConfig(
        weight=WeightQuantizerConfig(bitwidth=8),
        output=OutputQuantizerConfig(bitwidth=4),
        layers=[LayerRule(match="branch", weight=Weight(bitwidth=3))],
    )
    quantized = quantize_with_plan(model, config)
    calibrate(quantized.model, samples)
    noise = measure_noise(quantized.model, samples)
    report = layer_report(quantized, FoldingPlan([], {}), noise)
    labels = np.arange(48) % 4
    scores = [np.asarray(kind.predict(samples, verbose=0)) for kind in (model, quantized.model)]
    test = TestPart(scores[0], scores[1], labels, Task.classification, None)
    history = {"loss": [2.0, 1.0], "val_loss": [2.1, 1.2], "accuracy": [0.4, 0.7], "val_accuracy": [0.3, 0.6]}
    return RunResults(quantized.model, report, noise, test, {"float": history, "qat": history}, 1.5)


def rows_of(axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def notes_of(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_every_plot_is_a_png_that_holds_something(results, tmp_path):
    paths = write_plots(results, tmp_path / "plots")
    assert sorted(path.name for path in paths) == [
        "accuracy.png",
        "histograms.png",
        "noise.png",
        "sizes.png",
        "training.png",
    ]
    for path in paths:
        with Image.open(path) as image:
            assert min(image.size) > 200
            assert len(image.convert("RGB").getcolors(10**6)) > 10


def test_nothing_is_cut_off_at_the_edges(results, tmp_path):
    """The outermost pixels of every figure are white."""
    for path in write_plots(results, tmp_path):
        pixels = np.asarray(Image.open(path).convert("L"))
        edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert (edges == 255).all(), path.name


def test_figures_stay_out_of_matplotlibs_global_state(results, tmp_path):
    from matplotlib import _pylab_helpers

    write_plots(results, tmp_path)
    assert not _pylab_helpers.Gcf.get_all_fig_managers()


def test_noise_of_every_layer_in_order(results):
    figure = noise_figure(results.report.rows)
    (axes,) = figure.axes
    measured = [row for row in results.report.rows if row.sqnr_db is not None]
    assert rows_of(axes) == [short(row.plan.name) for row in measured]
    assert notes_of(axes) == ["dB", *(f"{row.sqnr_db:.1f}" for row in measured)]
    (points,) = [drawn for drawn in axes.collections if len(drawn.get_offsets()) == len(measured)]
    np.testing.assert_allclose(points.get_offsets()[:, 0], [row.sqnr_db for row in measured])
    assert "dB" in axes.get_xlabel()


def test_without_measurements_there_is_no_noise_plot():
    assert noise_figure([]) is None
    assert histogram_figure([], keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), {}) is None


def test_sizes_add_up_to_the_packed_weights(results):
    figure = size_figure(results.report.rows, results.model)
    (axes,) = figure.axes
    assert rows_of(axes) == [short(LONG), "branch", "dense"]
    widths = {bar.get_y() + bar.get_height() / 2: bar.get_width() for bar in axes.patches}
    assert sum(widths.values()) == packed_weight_bytes(results.model)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [label.split(":")[0] for label in labels] == ["8 bits", "3 bits"]
    assert "bytes in 2 layer(s)" in labels[0]
    assert len({bar.get_facecolor() for bar in axes.patches}) == 2


def test_histograms_show_the_worst_kernels_and_their_grids(results):
    figure = histogram_figure(results.report.rows, results.model, results.noise)
    layers = {layer.name for layer in results.model.layers}
    kernels, outputs = figure.axes[0::2], figure.axes[1::2]
    with_kernel = [row for row in results.report.rows if row.plan.name in (LONG, "branch", "dense")]
    worst = sorted(with_kernel, key=lambda row: row.sqnr_db)
    assert [axes.get_title().split(":")[0] for axes in kernels] == [short(row.plan.name) for row in worst]
    assert {LONG, "branch", "dense"} <= layers
    position = [row.plan.name for row in worst].index("branch")
    lines = sorted(line.get_xdata()[0] for line in kernels[position].lines)
    assert lines == [-3, -2, -1, 0, 1, 2, 3]
    quantizer = output_quantizers(results.model)["branch"].format()
    lowest, highest = quantizer.centred_integers
    lines = sorted(line.get_xdata()[0] for line in outputs[position].lines)
    np.testing.assert_allclose(lines, np.arange(lowest, highest + 1) * quantizer.scale)


def test_histograms_count_every_value(results, samples):
    for name, noise in results.noise.items():
        size = np.prod(results.model.get_layer(name).output.shape[1:])
        assert noise.histogram.counts.sum() == noise.values == len(samples) * size


def test_training_curves_with_the_freeze():
    history = {"loss": [3.0, 2.0, 1.0], "val_loss": [3.5, 2.5, 1.5], "accuracy": [0.1, 0.2, 0.3]}
    figure = training_figure({"float": {}, "qat": history}, 1.25)
    loss, accuracy = figure.axes
    assert loss.get_title() == "quantization-aware training"
    assert (loss.get_ylabel(), accuracy.get_ylabel(), accuracy.get_xlabel()) == ("loss", "accuracy", "epochs")
    drawn = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert drawn["training"] == [[1, 3.0], [2, 2.0], [3, 1.0]]
    assert drawn["validation"] == [[1, 3.5], [2, 2.5], [3, 1.5]]
    assert drawn["ranges and statistics freeze"][0][0] == 1.25
    assert [line.get_label() for line in accuracy.lines] == ["training", "ranges and statistics freeze"]


def test_an_early_freeze_is_inside_of_the_axes():
    figure = training_figure({"qat": {"loss": [2.0, 1.0]}}, 0.1)
    assert figure.axes[0].get_xlim()[0] < 0.1


def test_without_training_there_are_no_curves():
    assert training_figure({"float": {}, "qat": {}}) is None


def test_accuracy_by_class():
    labels = np.array([0, 0, 0, 0, 1, 1, 3])
    scores = np.eye(4)[[0, 0, 0, 1, 1, 1, 3]]
    worse = np.eye(4)[[0, 0, 1, 1, 1, 0, 3]]
    figure = accuracy_figure(scores, worse, labels, Task.classification, ["a", "b", "c", "d"])
    (axes,) = figure.axes
    assert rows_of(axes) == ["a", "b", "d"]
    assert notes_of(axes) == ["change", "−25.0", "−50.0", "0"]
    before, after = (drawn.get_offsets()[:, 0] for drawn in axes.collections[1:])
    np.testing.assert_allclose(before, [75, 100, 100])
    np.testing.assert_allclose(after, [50, 50, 100])


def test_of_many_classes_those_that_changed_most_are_shown():
    labels = np.arange(100).repeat(10)
    scores = np.eye(100)[labels]
    worse = scores.copy()
    worse[labels % 5 == 0] = np.eye(100)[1]
    figure = accuracy_figure(scores, worse, labels, Task.classification, None)
    shown = rows_of(figure.axes[0])
    assert len(shown) == MOST_CLASSES
    assert {f"class {index}" for index in range(0, 100, 5)} <= set(shown)
    assert "40 of 100 classes" in figure.axes[0].get_title()


def test_pixels_and_several_labels():
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 3, (5, 4, 4))
    scores = scores_by_class(np.eye(3)[maps], maps, Task.classification)
    np.testing.assert_array_equal(scores, 1.0)
    labels = np.array([[1, 0], [1, 0], [0, 0]])
    scores = scores_by_class(np.array([[0.9, 0.1], [0.2, 0.7], [0.6, 0.1]]), labels, Task.multilabel)
    assert scores[0] == pytest.approx(0.5)
    assert np.isnan(scores[1])
    figure = accuracy_figure(np.eye(3)[maps], np.eye(3)[maps], maps, Task.classification, None)
    assert figure.axes[0].get_title().startswith("pixel accuracy")


def test_a_regression_shows_values_against_values():
    before = np.linspace(-1, 1, 50)[:, np.newaxis]
    figure = accuracy_figure(before, before + 0.1, before, Task.regression, None)
    (axes,) = figure.axes
    points = axes.collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 1] - points[:, 0], 0.1)
    assert "difference 0.1" in axes.get_title()
    assert accuracy_figure(before * np.nan, before, before, Task.regression, None) is None


def test_long_names_keep_both_ends():
    assert short("x" * LONGEST_NAME) == "x" * LONGEST_NAME
    shortened = short(LONG)
    assert len(shortened) == LONGEST_NAME
    assert shortened.startswith("a_name_that")
    assert shortened.endswith("a_figure")
