"""Sums in fixed point against exact rational arithmetic."""

from fractions import Fraction
from math import floor, log2

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpipe.numerics import rounded_sum, sum_factors

RATIOS = st.floats(2.0**-10, 250.0, width=32)
CENTRED = st.integers(-(2**16), 2**16)


@given(ratios=st.lists(RATIOS, min_size=1, max_size=4), data=st.data())
def test_one_rounding_with_ties_up(ratios, data):
    terms = [data.draw(CENTRED) for _ in ratios]
    signs = [data.draw(st.sampled_from([1, -1])) for _ in ratios]
    shift = 20 - floor(log2(max(ratios)))
    multipliers = [round(Fraction(ratio) * Fraction(2) ** shift) for ratio in ratios]
    exact = sum(s * m * t for s, m, t in zip(signs, multipliers, terms, strict=True))
    expected = floor(Fraction(exact) / Fraction(2) ** shift + Fraction(1, 2))
    factors = sum_factors([np.float32(ratio) for ratio in ratios])
    signed = [sign * factor for sign, factor in zip(signs, factors, strict=True)]
    assert rounded_sum([np.array(term) for term in terms], signed) == np.float32(expected)


@pytest.mark.parametrize("exponent", range(-10, 8))
def test_powers_of_two_are_factors_as_they_are(exponent):
    ratios = [np.float32(2.0**exponent), np.float32(2.0 ** (exponent - 9))]
    assert sum_factors(ratios) == ratios


def test_tensors_give_the_same_numbers(rng):
    ratios = [np.float32(ratio) for ratio in rng.uniform(0.001, 3.0, 3)]
    terms = [rng.integers(-255, 256, 1000) for _ in ratios]
    expected = rounded_sum(terms, sum_factors(ratios))
    tensors = [keras.ops.convert_to_tensor(ratio) for ratio in ratios]
    floats = [keras.ops.convert_to_tensor(term.astype("float32")) for term in terms]
    got = rounded_sum(floats, sum_factors(tensors))
    np.testing.assert_array_equal(np.array(got), expected)
    assert np.array(got).dtype == np.float32
