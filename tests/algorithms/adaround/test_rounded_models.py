"""Rounding whole models; each mistake of other implementations has its test."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from algorithms.small_networks import folded_network, output_error, quantized, samples

import qpipe
from qpipe.algorithms.adaround.apply import adaround_with_report, split
from qpipe.algorithms.adaround.resume import RoundedLayers
from qpipe.config.schema import AdaRoundConfig, RoundingTarget, Solver, WeightRange
from qpipe.errors import ConfigError
from qpipe.layers.inventory import quantized_linear_layers

NAMES = ["stem", "depthwise", "separable_depthwise", "separable", "classes"]


def config(**changes) -> AdaRoundConfig:
    return AdaRoundConfig(**{"iterations": 300} | changes)


@pytest.fixture(scope="module")
def network():
    return folded_network()


@pytest.fixture(scope="module")
def ours(network):
    return quantized(network)


@pytest.mark.parametrize("solver", Solver)
def test_rounding_beats_nearest_and_stays_on_the_grid(network, ours, solver):
    before = [np.array(layer.kernel_quantizer.scale) for layer in quantized_linear_layers(ours)]
    weights = [np.array(weight) for weight in ours.weights]
    result, report = adaround_with_report(ours, network, samples(), config(solver=solver))
    unseen = samples(64, seed=9)
    assert output_error(result, network, unseen) < 0.5 * output_error(ours, network, unseen)
    for layer, scale in zip(quantized_linear_layers(result), before, strict=True):
        kernel = np.array(layer.kernel)
        np.testing.assert_array_equal(np.array(layer.kernel_quantizer.scale), scale)
        np.testing.assert_array_equal(np.array(layer.kernel_quantizer(layer.kernel)), kernel)
        integers = kernel / scale
        np.testing.assert_allclose(integers, np.rint(integers), atol=1e-5)
        assert layer.kernel_quantizer.fixed
    for old, new in zip(weights, ours.weights, strict=True):
        np.testing.assert_array_equal(old, new)
    assert [record.name for record in report.layers] == NAMES
    assert all(record.solver == solver.name and record.changed > 0 for record in report.layers)


@pytest.mark.parametrize("range_", WeightRange)
def test_the_result_is_saved_and_loaded_as_it_is(network, range_, tmp_path):
    """Scales that are derived again from rounded weights take most of them off their grid."""
    result = qpipe.adaround(quantized(network, range_=range_), network, samples(), config())
    result.save(tmp_path / "rounded.keras")
    loaded = keras.saving.load_model(tmp_path / "rounded.keras")
    for first, second in zip(quantized_linear_layers(result), quantized_linear_layers(loaded), strict=True):
        np.testing.assert_array_equal(np.array(second.kernel_quantizer.scale), np.array(first.kernel_quantizer.scale))
    unseen = samples(16, seed=4)
    np.testing.assert_array_equal(loaded.predict(unseen, verbose=0), result.predict(unseen, verbose=0))
    np.testing.assert_allclose(
        qpipe.integer_predict(result, unseen), result.predict(unseen, verbose=0), rtol=1e-5, atol=1e-6
    )


def test_soft_weights_are_never_written_back(network, ours):
    result, report = adaround_with_report(ours, network, samples(), config(solver=Solver.sgd, iterations=3))
    assert sum(record.undecided for record in report.layers) > 50
    for layer in quantized_linear_layers(result):
        integers = np.array(layer.kernel) / np.array(layer.kernel_quantizer.scale)
        np.testing.assert_allclose(integers, np.rint(integers), atol=1e-5)


def test_error_before_is_that_of_nearest_rounding(network, ours):
    """Not that of the soft weights, which start at the float ones."""
    x = samples()
    _, report = adaround_with_report(ours, network, x, config(solver=Solver.gram), seed=5)
    held_out = x[split(len(x), 0.125, 5)[1]]
    layer = ours.get_layer("stem")
    kernel, bias = (np.array(part, np.float64) for part in layer.folded_weights())
    scale = np.array(layer.kernel_quantizer.scale, np.float64)
    rounded = np.clip(np.rint(kernel / scale), -3, 3) * scale
    step = float(layer.input_quantizer.scale)
    zero_point = float(layer.input_quantizer.zero_point)
    seen = (np.clip(np.rint(held_out / step) + zero_point, 0, 255) - zero_point) * step
    product = tf.nn.conv2d(seen, rounded, 1, "SAME").numpy() + bias
    target = tf.nn.conv2d(held_out.astype("float64"), kernel, 1, "SAME").numpy() + bias
    expected = np.mean(np.sum((product - target) ** 2, axis=-1))
    assert report.layers[0].error_before == pytest.approx(expected, rel=1e-3)
    assert report.layers[0].error_after < report.layers[0].error_before


def test_later_layers_make_up_for_earlier_errors(network, ours):
    """On the float model's inputs they can't."""
    unseen = samples(64, seed=9)
    errors = [
        output_error(qpipe.adaround(ours, network, samples(), config(asymmetric=asymmetric)), network, unseen)
        for asymmetric in (True, False)
    ]
    assert errors[0] < errors[1]


def test_float_outputs_are_computed_once(network, ours, monkeypatch):
    """Not for every batch of every epoch."""
    from qpipe.algorithms.layerwise.walk import LayerData

    calls = []
    original = LayerData.target_of
    monkeypatch.setattr(
        LayerData, "target_of", lambda self, x: (calls.append((self.layer.name, len(x))), original(self, x))[1]
    )
    adaround_with_report(
        ours,
        network,
        samples(),
        config(solver=Solver.sgd, iterations=400, target=RoundingTarget.float, layers=["stem"]),
    )
    counts = sum(count for _, count in calls)
    assert {name for name, _ in calls} == {"stem"}
    # once for the cache and once for the means of the fitted bias; held-out ones before and after
    assert counts <= 2 * 84 + 2 * 12 + 2


def test_a_layer_that_got_worse_keeps_its_nearest_rounding(network, ours, monkeypatch):
    from qpipe.algorithms.adaround import layer as module
    from qpipe.algorithms.adaround.optimize import Rounded

    monkeypatch.setattr(module, "solve", lambda problem: [Rounded(np.full(problem.kernel.shape, 1.0))])
    result, report = adaround_with_report(ours, network, samples(), config(layers=["stem"]))
    record = report.of("stem")
    assert record.kept_nearest
    assert record.changed == 0.0
    assert "nearest rounding stays" in record.summary()
    layer = ours.get_layer("stem")
    expected = np.array(layer.integer_weights().kernel) * np.array(layer.kernel_quantizer.scale)
    np.testing.assert_array_equal(np.array(result.get_layer("stem").kernel), expected)


def test_layers_that_are_not_selected_are_left_alone(network, ours):
    result, report = adaround_with_report(ours, network, samples(), config(layers=["re:separable.*", "classes"]))
    assert [record.name for record in report.layers if record.solver] == NAMES[2:]
    assert "not selected" in report.of("stem").summary()
    np.testing.assert_array_equal(np.array(result.get_layer("stem").kernel), ours.get_layer("stem").folded_weights()[0])
    with pytest.raises(ConfigError, match=r"adaround.layers\[0\]: 'stm' matches no layer; did you mean 'stem'"):
        qpipe.adaround(ours, network, samples(), config(layers=["stm"]))


def test_a_small_budget_spills_and_falls_back_and_says_so(network, ours):
    """1 MB: a quarter of it holds no layer's inputs and outputs, and the matrices of a wide layer do not fit."""
    x = samples(400)
    _, first = adaround_with_report(ours, network, x, config(solver=Solver.sgd, holdout=0.0, iterations=100))
    frugal, second = adaround_with_report(
        ours, network, x, config(solver=Solver.sgd, holdout=0.0, iterations=100, memory_limit_mb=1)
    )
    assert (first.spilled_mb, second.spilled_mb > 1.0) == (0.0, True)
    assert second.peak_cache_mb <= 1.0 < first.peak_cache_mb
    unseen = samples(64, seed=9)
    assert output_error(frugal, network, unseen) < output_error(ours, network, unseen)
    gram, _ = adaround_with_report(ours, network, x, config(holdout=0.0, memory_limit_mb=1))
    same, _ = adaround_with_report(ours, network, x, config(holdout=0.0))
    for left, right in zip(quantized_linear_layers(gram), quantized_linear_layers(same), strict=True):
        assert np.mean(np.array(left.kernel) != np.array(right.kernel)) < 0.05


def test_matrices_beyond_the_budget_are_rounded_by_sgd():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((300,))
    model = keras.Model(inputs, keras.layers.Dense(5, name="wide")(inputs))
    x = np.random.default_rng(0).normal(size=(64, 300)).astype("float32")
    ours = qpipe.calibrate(qpipe.quantize(model), x)
    _, report = adaround_with_report(ours, model, x, config(memory_limit_mb=1, iterations=50))
    record = report.of("wide")
    assert record.solver == "sgd"
    assert "more than memory_limit_mb=1: sgd in the place of gptq" in record.summary()


def test_a_killed_rounding_goes_on_at_its_layer(network, ours, tmp_path):
    class KilledError(Exception):
        pass

    def kill(index, count, record):
        if index == 3:
            raise KilledError

    settings = config(solver=Solver.gram)
    whole, _ = adaround_with_report(ours, network, samples(), settings)
    with pytest.raises(KilledError):
        adaround_with_report(
            ours, network, samples(), settings, finished=RoundedLayers(tmp_path / "rounding"), on_layer=kill
        )
    finished = RoundedLayers(tmp_path / "rounding")
    (tmp_path / "rounding" / "0001.npz").write_bytes(b"damaged")
    rounded = []
    result, report = adaround_with_report(
        ours,
        network,
        samples(),
        settings,
        finished=finished,
        on_progress=lambda name, *_: rounded.append(name),
    )
    assert report.resumed == 2
    assert set(rounded) == {NAMES[1], NAMES[3], NAMES[4]}
    for first, second in zip(whole.weights, result.weights, strict=True):
        np.testing.assert_array_equal(np.array(first), np.array(second))
    finished.discard()
    assert not (tmp_path / "rounding").exists()


def test_arguments_of_python(network, ours):
    told = []
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    _, report = adaround_with_report(
        ours,
        network,
        samples(),
        AdaRoundConfig(solver=Solver.sgd, batch_size=None, layers=["stem"]),
        optimizer=optimizer,
        loss=lambda target, output: tf.reduce_mean(tf.abs(target - output)),
        epochs=150,
        on_progress=lambda *values: told.append(values),
    )
    assert report.of("stem").iterations == 150
    assert [values[:3] for values in told] == [("stem", 100, 150), ("stem", 150, 150)]
    assert not optimizer.built
    with pytest.raises(ConfigError, match="a loss of your own needs solver=sgd"):
        qpipe.adaround(ours, network, samples(), config(), loss=keras.losses.MeanAbsoluteError())


def test_polishing_puts_the_activation_into_the_loss(network, ours):
    _, plain = adaround_with_report(ours, network, samples(), config(layers=["stem"]))
    _, polished = adaround_with_report(ours, network, samples(), config(layers=["stem"], polish=200))
    record = polished.of("stem")
    assert (record.solver, record.iterations) == ("gptq", 200)
    assert record.signal < plain.of("stem").signal  # of values behind the ReLU


def test_power_of_two_and_shared_scales_stay_what_they_are(network):
    from qpipe.config.schema import ScaleKind

    for changes in ({"scale": ScaleKind.power_of_two}, {"per_channel": False}):
        model = quantized(network, bits=4, range_=WeightRange.output_mse, **changes)
        result = qpipe.adaround(model, network, samples(), config())
        for layer in quantized_linear_layers(result):
            scale = np.array(layer.kernel_quantizer.scale)
            if "scale" in changes:
                np.testing.assert_array_equal(np.exp2(np.rint(np.log2(scale))), scale)
            else:
                assert scale.size == 1
        assert output_error(result, network, samples(64, seed=9)) < output_error(model, network, samples(64, seed=9))


def test_ranges_are_those_of_the_float_activations(network, ours):
    """With 3 bits to nearest the activations are those of a damaged network."""
    result = qpipe.adaround(ours, network, samples(), config())
    relu = keras.Model(network.inputs, network.get_layer("stem_relu").output)(samples())
    assert float(result.get_layer("stem").output_quantizer.high) == pytest.approx(float(np.max(relu)), rel=1e-5)


def test_other_kinds_of_weights_and_layers_are_left_alone():
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2DTranspose(4, 3, name="transposed")(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(4, 3, name="conv")(x))
    ours = qpipe.calibrate(qpipe.quantize(model), samples(16))
    _, report = adaround_with_report(ours, model, samples(16), config())
    assert report.of("transposed").summary() == "transposed: nearest rounding (QConv2DTranspose is not covered)"
    assert report.of("conv").solver == "gptq"


def test_split_is_seeded_and_leaves_samples_to_optimize_on():
    train, held_out = split(100, 0.125, 0)
    assert (len(train), len(held_out)) == (88, 12)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held_out])), np.arange(100))
    assert [len(part) for part in split(1, 0.9, 0)] == [1, 0]
    assert (split(100, 0.125, 1)[1] != held_out).any()
