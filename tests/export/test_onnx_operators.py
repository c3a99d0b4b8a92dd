"""Every kind of layer in an ONNX file, run with and without ONNX Runtime's optimizer, against the integer engine."""

import pytest
from export.onnx_comparison import assert_exact, compared
from layer_cases import CASES, FOLDED, LINEAR, NORMALIZATIONS, float_model, samples

import qpipe
from qpipe.config.schema import OutputQuantizerConfig, QuantizerConfig, ScaleKind, WeightQuantizerConfig

SHAPES = sorted({case.shape for case in CASES})


def quantizers(weights: int, activations: int, *, power_of_two: bool = False) -> QuantizerConfig:
    scale = ScaleKind.power_of_two if power_of_two else ScaleKind.float
    activation = OutputQuantizerConfig(bitwidth=activations, scale=scale)
    weight = WeightQuantizerConfig(bitwidth=weights, scale=scale)
    return QuantizerConfig(input=activation, output=activation, weight=weight, a_quantizer=weight, float_softmax=False)


def quantized(shape, config: QuantizerConfig):
    """A model with one output for each case of the shape, and samples that its ranges cut off in part."""
    cases = [case for case in CASES if case.shape == shape]
    model = qpipe.calibrate(qpipe.quantize(float_model(*cases), config), samples(cases[0]))
    return model, samples(cases[0], seed=1, spread=1.5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_powers_of_two_are_exact(shape, tmp_path):
    """Float32 holds all sums, and every tie has to be rounded as the engine rounds it."""
    model, x = quantized(shape, quantizers(8, 8, power_of_two=True))
    assert_exact(model, x, tmp_path, ends=("float",))


CONVOLUTIONS = [case for case in (*LINEAR, *FOLDED, *NORMALIZATIONS) if "transpose" not in case.name]


@pytest.mark.parametrize("shape", sorted({case.shape for case in CONVOLUTIONS}), ids=str)
def test_integer_operators_are_exact(shape, tmp_path):
    """Float scales, the runtime's optimizer on and off; transposed convolutions have no integer operator."""
    cases = [case for case in CONVOLUTIONS if case.shape == shape]
    model = qpipe.calibrate(qpipe.quantize(float_model(*cases), quantizers(8, 8)), samples(cases[0]))
    assert_exact(model, samples(cases[0], seed=1, spread=1.5), tmp_path, ends=("int8",), operators="qlinear")


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "activations"), [(8, 8), (4, 4), (3, 6)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float_scales(shape, weights, activations, tmp_path):
    model, x = quantized(shape, quantizers(weights, activations))
    assert_tensors_near(model, x, tmp_path, 1e-4, lsb=1)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sixteen_bits(shape, tmp_path):
    model, x = quantized(shape, quantizers(8, 16))
    assert_tensors_near(model, x, tmp_path, 5e-3, lsb=1)


def assert_tensors_near(model, x, folder, rate: float, lsb: int) -> None:
    """Given the engine's integers, every layer makes at most a share of others (one of few values)."""
    for comparison in compared(model, x, folder, ends=("float",)).values():
        assert comparison.isolated
        for name, tensor in comparison.isolated.items():
            assert tensor.differing <= 1 + rate * tensor.values, name
            assert tensor.largest_lsb <= lsb, name
