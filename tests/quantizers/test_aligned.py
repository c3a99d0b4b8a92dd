import numpy as np
import pytest

from qpipe.quantizers import AlignedWeightQuantizer

SCALE = np.array([0.001, 0.002, 0.25], "float32")


def test_with_the_buffers_width_a_bias_lies_exactly_on_the_accumulators_grid(rng):
    bias = rng.normal(size=3).astype("float32")
    quantizer = AlignedWeightQuantizer()
    integers = np.array(quantizer.integer(bias, SCALE))
    np.testing.assert_array_equal(integers, np.rint(bias / SCALE))
    np.testing.assert_array_equal(quantizer(bias, SCALE), integers * SCALE)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("factor", [0.001, 1.0, 37.0, 5e4])
def test_a_narrow_mantissa_is_shifted_by_the_smallest_k_that_fits(bits, factor, rng):
    bias = rng.normal(size=3).astype("float32") * np.float32(factor)
    highest = 2 ** (bits - 1) - 1
    shift = 0
    while np.abs(bias.astype("float64") / SCALE).max() > highest * 2**shift:
        shift += 1
    quantizer = AlignedWeightQuantizer(bitwidth=bits)
    integers = np.array(quantizer.integer(bias, SCALE)).astype("int64")
    mantissas = integers / 2**shift
    np.testing.assert_array_equal(mantissas, np.rint(bias / (SCALE * np.float32(2**shift))))
    assert np.abs(mantissas).max() <= highest
    np.testing.assert_array_equal(quantizer(bias, SCALE), (integers * SCALE).astype("float32"))


@pytest.mark.parametrize("bits", [None, 4, 8, 16])
@pytest.mark.parametrize("bias", [1e6, 32767.0, 32767.4, 20000.0, 16400.0])
def test_never_leaves_a_narrow_buffer(bits, bias):
    quantizer = AlignedWeightQuantizer(bitwidth=bits, buffer_bitwidth=16)
    integers = np.array(quantizer.integer(np.array([bias, -bias], "float32"), np.float32(1.0)))
    assert integers.max() <= 2**15 - 1
    assert integers.min() >= -(2**15)
    assert integers[0] > 2**14 - 1
    np.testing.assert_array_equal(quantizer(np.array([bias, -bias], "float32"), np.float32(1.0)), integers)


def test_a_wide_buffer_takes_a_wide_bias():
    quantizer = AlignedWeightQuantizer(buffer_bitwidth=64)
    assert float(quantizer.integer(np.array([1000.0], "float32"), np.float32(2.0**-40))[0]) == 1000 * 2.0**40
    assert float(AlignedWeightQuantizer().integer(np.array([1000.0], "float32"), np.float32(2.0**-40))[0]) < 2**31


def test_a_bias_fits_at_the_smallest_weight_scale(rng):
    bias = rng.normal(size=5).astype("float32") * 100
    quantizer = AlignedWeightQuantizer(buffer_bitwidth=16)
    smallest = np.array(quantizer.smallest_weight_scale(bias, np.float32(0.02)))
    integers = np.array(quantizer.integer(bias, smallest * np.float32(0.02)))
    np.testing.assert_array_equal(np.abs(integers), 2**15 - 1)
    error = np.abs(np.array(quantizer(bias, smallest * np.float32(0.02))) - bias)
    assert (error <= np.abs(bias) * 1e-4).all()


def test_zero_bias_stays_zero():
    for bits in (None, 8):
        quantizer = AlignedWeightQuantizer(bitwidth=bits)
        assert np.array(quantizer.integer(np.zeros(3, "float32"), SCALE)).tolist() == [0, 0, 0]


def test_mantissa_is_never_wider_than_the_buffer():
    assert AlignedWeightQuantizer(bitwidth=24, buffer_bitwidth=16).mantissa_bitwidth == 16
    assert AlignedWeightQuantizer(buffer_bitwidth=32).mantissa_bitwidth == 32
