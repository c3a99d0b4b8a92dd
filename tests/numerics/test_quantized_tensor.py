import numpy as np
import pytest
from exact_values import exact_values, formats, power_of_two_scales, tensors
from hypothesis import given
from hypothesis import strategies as st

from qpipe.errors import QuantizationError
from qpipe.numerics import QuantizedFormat, QuantizedTensor


@given(st.integers(-127, 149))
def test_fractional_bits_are_exact_for_every_power_of_two_of_float32(f):
    format = QuantizedFormat(8, True, np.float32(2.0**-f))
    assert format.fractional_bits == f
    assert isinstance(format.fractional_bits, int)


@given(st.integers(-100, 100), st.sampled_from([-np.inf, np.inf]))
def test_neighbours_of_powers_of_two_have_no_fractional_bits(f, direction):
    neighbour = np.nextafter(np.float32(2.0**-f), np.float32(direction))
    assert QuantizedFormat(8, True, neighbour).fractional_bits is None


def test_fractional_bits_per_channel():
    assert QuantizedFormat(4, True, [0.5, 4.0, 2.0**-20]).fractional_bits.tolist() == [1, -2, 20]
    assert QuantizedFormat(4, True, [0.5, 0.3]).fractional_bits is None


@given(tensors(formats(power_of_two_scales())))
def test_real_values_are_scale_times_centred_integers(tensor):
    assert tensor.real.dtype == np.float32
    assert tensor.real.tolist() == [[float(value) for value in row] for row in exact_values(tensor)]


@given(formats())
def test_the_zero_point_stands_for_zero(format):
    zeros = QuantizedTensor(np.full((2, 3), format.zero_point), format)
    assert not zeros.centred.any()
    assert not zeros.real.any()
    assert format.centred_integers.lowest <= 0 <= format.centred_integers.highest


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, [1.0, 0.0]])
def test_a_scale_is_positive_and_finite(scale):
    with pytest.raises(QuantizationError, match=r"scale .* is not allowed: positive and finite"):
        QuantizedFormat(8, True, scale)


def test_a_scale_has_at_most_one_axis():
    with pytest.raises(QuantizationError, match=r"shape \(1, 2\); allowed: \(\) or \(channels,\)"):
        QuantizedFormat(8, True, np.ones((1, 2)))


@pytest.mark.parametrize(("signed", "zero_point"), [(True, 128), (True, -129), (False, -1), (False, 256)])
def test_the_zero_point_lies_inside_the_range(signed, zero_point):
    with pytest.raises(QuantizationError, match=rf"zero point {zero_point} lies outside"):
        QuantizedFormat(8, signed, 1.0, zero_point)


def test_unsigned_is_never_narrow():
    with pytest.raises(QuantizationError, match="unsigned range can't be narrow"):
        QuantizedFormat(8, False, 1.0, narrow=True)


@pytest.mark.parametrize(("bits", "signed", "zero_point"), [(65, True, 0), (64, False, 0), (64, True, 1)])
def test_int64_holds_every_format(bits, signed, zero_point):
    with pytest.raises(QuantizationError, match="don't fit int64"):
        QuantizedFormat(bits, signed, 1.0, zero_point)


@pytest.mark.parametrize(("bits", "signed"), [(64, True), (63, False)])
def test_the_widest_formats(bits, signed):
    format = QuantizedFormat(bits, signed, 1.0)
    ends = QuantizedTensor(np.array(format.integers), format)
    assert tuple(ends.integers.tolist()) == format.integers


@pytest.mark.parametrize("integers", [[128], [-129], [[0, 0], [0, 1000]]])
def test_integers_outside_of_the_format_are_an_error(integers):
    with pytest.raises(QuantizationError, match="outside of their format; allowed: -128 to 127"):
        QuantizedTensor(np.array(integers), QuantizedFormat(8, True, 1.0))


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint64", "complex64"])
def test_integers_are_of_an_integer_type(dtype):
    with pytest.raises(QuantizationError, match=f"type {dtype}; allowed: int64"):
        QuantizedTensor(np.zeros(2, dtype), QuantizedFormat(8, True, 1.0))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32"])
def test_other_integer_types_become_int64(dtype):
    assert QuantizedTensor(np.zeros(2, dtype), QuantizedFormat(8, True, 1.0)).integers.dtype == np.int64


@pytest.mark.parametrize("shape", [(), (2,), (3, 2), (3, 1)])
def test_a_scale_per_channel_fits_the_last_axis(shape):
    with pytest.raises(QuantizationError, match="3 scales don't fit"):
        QuantizedTensor(np.zeros(shape, np.int64), QuantizedFormat(8, True, [1.0, 2.0, 3.0]))


def test_other_integers_keep_the_format():
    tensor = QuantizedTensor(np.array([1, 2]), QuantizedFormat(8, True, 0.5))
    other = tensor.with_integers(np.array([3]))
    assert other.format is tensor.format
    assert other.real.tolist() == [1.5]
    with pytest.raises(QuantizationError, match="outside of their format"):
        tensor.with_integers(np.array([300]))


def test_no_values_are_values_of_any_format():
    assert QuantizedTensor(np.zeros((0, 3), np.int64), QuantizedFormat(8, True, 1.0)).real.shape == (0, 3)
