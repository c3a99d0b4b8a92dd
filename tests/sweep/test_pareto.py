import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from qpipe.sweep.pareto import pareto_front

points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3)), max_size=12)


@given(points, st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_front_is_what_nothing_dominates(points, maximize):
    """Against the definition, with exact numbers and the coordinates turned one by one."""

    def is_no_worse(a, b, up):
        return Fraction(a) >= Fraction(b) if up else Fraction(a) <= Fraction(b)

    def dominates(left, right):
        no_worse = [is_no_worse(a, b, up) for a, b, up in zip(left, right, maximize, strict=True)]
        better = [a != b for a, b in zip(left, right, strict=True)]
        return all(no_worse) and any(better)

    expected = [i for i, point in enumerate(points) if not any(dominates(other, point) for other in points)]
    assert pareto_front(points, maximize) == expected


def test_front_of_accuracy_and_size():
    models = [(0.99, 400.0), (0.98, 300.0), (0.97, 350.0), (0.95, 200.0), (0.95, 250.0)]
    assert pareto_front(models, (True, False)) == [0, 1, 3]


def test_equal_points_are_both_on_the_front():
    assert pareto_front([(1.0, 2.0), (1.0, 2.0), (0.5, 2.0)], (True, False)) == [0, 1]


def test_unknown_values_are_on_no_front():
    assert pareto_front([(math.nan, 1.0), (0.5, 2.0), (0.4, math.nan)], (True, False)) == [1]
