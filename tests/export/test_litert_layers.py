"""Every kind of layer in a LiteRT file: the very same integers as the engine, at the ends and in between."""

import keras
import numpy as np
import pytest
from layer_cases import CASES, INPUTS

import qpipe
from qpipe.config.schema import OutputQuantizerConfig, QuantizerConfig, ScaleKind, WeightQuantizerConfig

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed; there is none for Windows")
JOINED = [case for case in CASES if case not in INPUTS]
"""Cases that can share one input: the others have a quantizer of their own for it."""
SHAPES = sorted({case.shape for case in JOINED})


def quantizers(weight=8, activation=8, *, symmetric=False, scale=ScaleKind.float, per_channel=True) -> QuantizerConfig:
    output = OutputQuantizerConfig(bitwidth=activation, symmetric=symmetric, scale=scale)
    kernel = WeightQuantizerConfig(bitwidth=weight, per_channel=per_channel, scale=scale)
    return QuantizerConfig(weight=kernel, input=output, output=output, float_softmax=False)


def cases_of(shape, *without: str):
    return [case for case in JOINED if case.shape == shape and not any(part in case.name for part in without)]


def model_of(cases, config: QuantizerConfig) -> keras.Model:
    """One network with an output for each case, all on one input."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input(cases[0].shape, name="signal")
    model = keras.Model(inputs, [case.build(inputs) for case in cases])
    return qpipe.calibrate(qpipe.quantize(model, config), samples(cases[0].shape))


def samples(shape, count=64, seed=0, spread=1.0):
    return np.random.default_rng(seed).normal(scale=spread, size=(count, *shape)).astype("float32")


def compared(model: keras.Model, shape, path, **arguments):
    exported = qpipe.export_litert(model, path, **arguments)
    return exported, qpipe.verify(model, path, samples(shape, 70, seed=1, spread=1.5))


def assert_exact(comparison) -> None:
    """Asserts that all integers are equal; a softmax may differ by one step next to a tie."""
    differing = {name: tensor for name, tensor in comparison.tensors.items() if tensor.differing}
    assert all("softmax" in name and tensor.largest_lsb == 1 for name, tensor in differing.items()), (
        comparison.summary()
    )
    assert comparison.layer_mismatch_rate <= 1e-3
    assert comparison.largest_lsb <= 1


@pytest.mark.parametrize("io", ["int8", "float"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_eight_bits(shape, io, tmp_path):
    cases = cases_of(shape)
    model = model_of(cases, quantizers())
    exported, comparison = compared(model, shape, tmp_path / "model.tflite", io=io)
    assert_exact(comparison)
    assert exported.bound.output is not None
    assert len(comparison.outputs) == len(cases)
    assert len(comparison.tensors) >= len(cases)


@pytest.mark.parametrize(
    "config",
    [
        quantizers(symmetric=True, scale=ScaleKind.power_of_two, per_channel=False),
        quantizers(weight=6, activation=5),
    ],
    ids=["fixed_point", "six_and_five_bits"],
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fixed_point_and_narrow_widths(shape, config, tmp_path):
    _, comparison = compared(model_of(cases_of(shape, "softmax"), config), shape, tmp_path / "model.tflite")
    assert comparison.first_difference is None, comparison.summary()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_four_bit_weights(shape, packed, tmp_path):
    """Packed, a convolution may be off by one where the runtime's kernel rounds twice; in 8 bits nothing differs."""
    model = model_of(cases_of(shape), quantizers(weight=4))
    exported, comparison = compared(model, shape, tmp_path / "model.tflite", pack_int4=packed)
    if not packed:
        assert_exact(comparison)
    assert exported.bound.is_kept(comparison), comparison.summary()
    for name in comparison.differing_layers:
        assert "conv" in name or "softmax" in name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sixteen_bit_activations(shape, tmp_path):
    """The runtime's kernels have multipliers of 16 bits there; 15 bits leave room for what is never negative."""
    model = model_of(cases_of(shape, "softmax", "prelu"), quantizers(activation=15, symmetric=True))
    exported, comparison = compared(model, shape, tmp_path / "model.tflite")
    assert exported.bound.is_kept(comparison), comparison.summary()
    assert exported.bound.output is None


@pytest.mark.parametrize("io", ["int8", "float"])
@pytest.mark.parametrize("case", INPUTS, ids=lambda case: case.name)
def test_prepared_inputs(case, io, tmp_path):
    _, comparison = compared(model_of([case], quantizers()), case.shape, tmp_path / "model.tflite", io=io)
    assert_exact(comparison)
