import subprocess
import sys
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from qpipe.numerics import divide_half_away, round_half_even, shift_right_half_even

floats = st.floats(-(2.0**20), 2.0**20, width=32)
ties = st.integers(-(2**20), 2**20).map(lambda whole: whole + 0.5)
int64 = st.integers(-(2**63), 2**63 - 1)
near_ties = st.builds(
    lambda whole, bits, off: (2 * whole + 1) * 2**bits // 2 + off,
    st.integers(-(2**20), 2**20),
    st.integers(1, 40),
    st.integers(-1, 1),
)
both_kinds = pytest.mark.parametrize("make", [np.asarray, ops.convert_to_tensor], ids=["numpy", "tensor"])


def exact_half_even(x):
    return round(Fraction(x))


def exact_half_away(x):
    magnitude = floor(abs(Fraction(x)) + Fraction(1, 2))
    return magnitude if x >= 0 else -magnitude


@both_kinds
@given(values=st.lists(floats | ties, min_size=1, max_size=20))
def test_rounding_equals_exact_rational_arithmetic(make, values):
    rounded = np.array(round_half_even(make(np.array(values, "float32"))))
    assert rounded.dtype == np.float32
    assert rounded.tolist() == [exact_half_even(float(np.float32(value))) for value in values]


@both_kinds
def test_ties(make):
    values = make(np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], "float32"))
    assert np.array(round_half_even(values)).tolist() == [-2, -2, 0, 0, 2, 2]


@pytest.mark.parametrize("value", [np.array([1.25], "float32"), np.float32(1.25), 1.25])
def test_numpy_stays_numpy(value):
    rounded = round_half_even(value)
    assert isinstance(rounded, np.ndarray | np.generic)
    assert rounded.dtype == np.asarray(value).dtype


def test_numpy_alone_does_not_import_keras():
    program = """
import sys
import numpy as np
from qpipe.numerics import QuantizedFormat, affine_parameters, integer_range, quantize, requantize, round_half_even
scale, zero_point = affine_parameters(np.float32(-1), np.float32(3), integer_range(8))
format = QuantizedFormat(8, True, scale, int(zero_point))
requantize(quantize(round_half_even(np.array([0.5])), format).tensor, QuantizedFormat(4, True, 0.5))
print([name for name in ("keras", "tensorflow") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@given(int64 | near_ties, st.integers(0, 70))
def test_a_shift_to_the_right_is_an_exact_division_rounded_half_to_even(integer, bits):
    assert int(shift_right_half_even(np.array(integer, np.int64), bits)) == round(Fraction(integer, 2**bits))


@pytest.mark.parametrize("integer", [-(2**63), -(2**63) + 1, -(2**62), 2**62, 2**63 - 1])
def test_shifts_at_the_ends_of_int64(integer):
    bits = np.arange(66)
    shifted = shift_right_half_even(np.array(integer, np.int64), bits)
    assert shifted.tolist() == [round(Fraction(integer, 2**count)) for count in bits.tolist()]


@both_kinds
@given(totals=st.lists(st.integers(-(2**24), 2**24), min_size=1, max_size=20), count=st.integers(1, 5000))
def test_division_of_integers_rounds_exactly_with_ties_away_from_zero(make, totals, count):
    quotients = np.array(divide_half_away(make(np.array(totals, "int32")), make(np.array(count, "int32"))))
    assert quotients.dtype.kind == "i"
    assert quotients.tolist() == [exact_half_away(Fraction(total, count)) for total in totals]


@both_kinds
def test_division_ties(make):
    quotients = divide_half_away(make(np.array([-6, -2, 2, 6, 0])), make(np.array([4, 4, 4, 4, 4])))
    assert np.array(quotients).tolist() == [-2, -1, 1, 2, 0]


def test_shifts_differ_by_channel():
    integers = np.array([[5, 5, 5], [-6, -6, -6]])
    assert shift_right_half_even(integers, np.array([0, 1, 2])).tolist() == [[5, 2, 1], [-6, -3, -2]]
