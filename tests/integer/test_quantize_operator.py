import numpy as np
import pytest

from qpipe.integer.operator import Notes
from qpipe.integer.operators import Quantize, Requantization
from qpipe.numerics import QuantizedFormat


def operator(scale, zero_point, *preparation, bitwidth=8):
    steps = tuple((name, np.asarray(values, np.float32)) for name, values in preparation)
    target = QuantizedFormat(bitwidth, False, np.float32(scale), zero_point)
    return Quantize(Requantization(np.float32(1), target), steps)


@pytest.mark.parametrize(
    ("quantize", "scale", "zero_point"),
    [
        (operator(0.1, 7), 0.1, 7),
        (operator(1 / 255, 0, ("multiply", 1 / 255)), 1.0, 0),
        (operator(1 / 128, 128, ("multiply", 1 / 128), ("add", -1.0)), 1.0, 0),
        (operator(0.25, 20, ("subtract", 3.0), ("divide", 2.0)), 0.5, 14),
        (operator(0.25, 20, ("multiply", 4.0), ("subtract", 1.0), ("divide", 0.5)), 0.03125, 12),
    ],
)
def test_the_format_of_the_raw_input(quantize, scale, zero_point):
    raw = quantize.input_format()
    assert (float(raw.scale), raw.zero_point) == (pytest.approx(scale, rel=1e-7), zero_point)
    assert raw.integers == quantize.requantization.output.integers
    q = np.arange(256)
    x = (q - zero_point) * np.float64(raw.scale)
    np.testing.assert_array_equal(quantize(x, notes=Notes()).integers, q)


@pytest.mark.parametrize(
    "quantize",
    [
        operator(2 / 255, 128, ("multiply", 1 / 127.5), ("add", -1.0)),
        operator(1.0, 0, ("multiply", [1.0, 2.0, 3.0])),
        operator(1.0, 0, ("add", [1.0, 2.0, 3.0])),
        operator(1.0, 0, ("multiply", -1.0)),
        operator(1.0, 0, ("multiply", 0.0)),
        operator(1.0, 0, ("subtract", 3.0)),
        operator(1.0, 5, ("add", 300.0)),
        operator(1e-6, 5, ("add", 1e5), ("subtract", 1e5)),
    ],
    ids=["half an integer", "factors", "offsets", "negative", "zero", "below", "above", "rounding"],
)
def test_no_format_where_the_raw_input_has_none(quantize):
    assert quantize.input_format() is None


def test_the_preparation_is_rounded_to_float32_after_each_operation(rng):
    quantize = operator(0.01, 40, ("subtract", 3.3), ("divide", 7.7), ("multiply", [0.1, 0.3]), bitwidth=16)
    x = rng.normal(3.0, 5.0, size=(500, 2)).astype("float32")
    expected = (x - np.float32(3.3)) / np.float32(7.7) * np.array([0.1, 0.3], np.float32)
    expected = np.clip(np.rint(expected / np.float32(0.01)) + 40, 0, 65535)
    np.testing.assert_array_equal(quantize(x, notes=Notes()).integers, expected)
