import numpy as np
import pytest

from qpipe.algorithms.calibration.core import ema_range, minmax_range, mse_range, percentile_range
from qpipe.numerics import integer_range


def histogram(values, bins=2048):
    return np.histogram(values, bins)


def squared_error(values, low, high, integers, symmetric):
    """Mean squared quantization error of the values themselves, in float64."""
    if symmetric:
        scale, zero_point = max(-low, high) / integers.highest, 0.0
    else:
        scale = (high - low) / (integers.highest - integers.lowest)
        zero_point = np.clip(np.rint(integers.lowest - low / scale), *integers)
    quantized = (np.clip(np.rint(values / scale) + zero_point, *integers) - zero_point) * scale
    return np.mean((quantized - values) ** 2)


def test_minmax():
    assert minmax_range(np.array([-1.0, -3.0, 0.5]), np.array([2.0, 1.0, 7.0])) == (-3.0, 7.0)


def test_ema_starts_with_the_first_batch():
    lows, highs = np.array([-1.0, -2.0, -4.0]), np.array([1.0, 3.0, 2.0])
    low, high = ema_range(lows, highs, momentum=0.5)
    assert (low, high) == (-2.75, 2.0)
    assert ema_range(lows[:1], highs[:1]) == (-1.0, 1.0)


def test_ema_equals_the_closed_form(rng):
    highs = rng.uniform(1, 5, 30)
    weights = 0.01 * 0.99 ** np.arange(29, -1, -1)
    weights[0] = 0.99**29
    assert ema_range(-highs, highs)[1] == pytest.approx(weights @ highs)
    assert ema_range(-highs, highs)[0] == pytest.approx(-weights @ highs)


@pytest.mark.parametrize("percentile", [99.99, 99.0, 90.0])
def test_percentile_equals_numpys_to_a_bin(percentile, rng):
    values = rng.normal(size=200_000) + 0.3
    counts, edges = histogram(values)
    low, high = percentile_range(counts, edges, percentile)
    width = edges[1] - edges[0]
    expected = np.percentile(values, [100 - percentile, percentile])
    np.testing.assert_allclose([low, high], expected, atol=1.01 * width)


def test_percentile_cuts_outliers_off(rng):
    values = np.concatenate([rng.uniform(-1, 1, 100_000), [50.0, -70.0]])
    low, high = percentile_range(*histogram(values))
    assert -1.2 < low < -0.9
    assert 0.9 < high < 1.2


def test_percentile_of_few_values_keeps_them_all():
    values = np.array([-1.0, 0.0, 4.0])
    assert percentile_range(*histogram(values)) == (-1.0, 4.0)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_mse_is_the_best_share_and_never_worse_than_minmax(bits, symmetric, rng):
    values = rng.standard_t(3, size=50_000)
    integers = integer_range(bits, signed=symmetric)
    low, high = mse_range(*histogram(values), integers, symmetric=symmetric)
    ours = squared_error(values, low, high, integers, symmetric)
    full = values.min(), values.max()
    shares = [(full[0] * share, full[1] * share) for share in np.linspace(0.1, 1.0, 100)]
    best = min(squared_error(values, *share, integers, symmetric) for share in shares)
    assert ours <= squared_error(values, *full, integers, symmetric)
    assert ours <= 1.02 * best
    assert bits == 8 or high < 0.9 * full[1]


def test_mse_of_uniform_values_keeps_the_range(rng):
    values = rng.uniform(0, 1, 50_000)
    low, high = mse_range(*histogram(values), integer_range(8, signed=False), symmetric=False)
    assert low == 0
    assert high == pytest.approx(1, abs=0.02)
