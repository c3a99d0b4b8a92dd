from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpipe.numerics import round_half_away, round_half_even

floats = st.floats(-(2.0**20), 2.0**20, width=32)
ties = st.integers(-(2**20), 2**20).map(lambda whole: whole + 0.5)


def exact_half_even(x):
    return round(Fraction(x))


def exact_half_away(x):
    magnitude = floor(abs(Fraction(x)) + Fraction(1, 2))
    return magnitude if x >= 0 else -magnitude


@pytest.mark.parametrize(
    ("rounding", "exact"), [(round_half_even, exact_half_even), (round_half_away, exact_half_away)]
)
@given(st.lists(floats | ties, min_size=1, max_size=20))
def test_rounding_equals_exact_rational_arithmetic(rounding, exact, values):
    rounded = np.array(rounding(np.array(values, "float32")))
    assert rounded.tolist() == [exact(float(np.float32(value))) for value in values]


def test_ties():
    values = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], "float32")
    assert np.array(round_half_even(values)).tolist() == [-2, -2, 0, 0, 2, 2]
    assert np.array(round_half_away(values)).tolist() == [-3, -2, -1, 1, 2, 3]


def test_the_number_just_below_a_half_rounds_to_zero():
    below = np.nextafter(np.float32(0.5), np.float32(0))
    assert np.array(round_half_away(np.array([below, -below]))).tolist() == [0, 0]
