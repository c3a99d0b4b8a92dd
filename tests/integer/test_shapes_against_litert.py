"""The engine's operators that move or choose integers against LiteRT: all equal."""

import numpy as np
import pytest
from litert_tensors import assert_equal_integers, file_tensor, integer_constant, litert, random_format, random_tensor
from one_operator_file import FileTensor

from qpipe.integer.operator import Notes
from qpipe.integer.operators import Clamp, Crop, MaxPooling, Pad, Repeat, Reshape, Transpose

SHAPE = (2, 12, 10, 16)


@pytest.fixture(params=[True, False], ids=["int8", "uint8"])
def x(request):
    random = np.random.default_rng(2026)
    return random_tensor(random, random_format(random, "float", signed=request.param), SHAPE)


CASES = {
    "reshape": (Reshape((-1,)), "RESHAPE", [[2, 1920]]),
    "permute": (Transpose((0, 3, 1, 2)), "TRANSPOSE", [[0, 3, 1, 2]]),
    "pad": (Pad(((1, 2), (3, 0))), "PAD", [[[0, 0], [1, 2], [3, 0], [0, 0]]]),
    "crop": (Crop(((1, 1), (2, 0))), "SLICE", [[0, 1, 2, 0], [-1, 10, 8, 16]]),
    "upsample": (Repeat((3, 2)), "RESIZE_NEAREST_NEIGHBOR", [[36, 20]]),
}


@pytest.mark.parametrize("case", CASES)
def test_moves(x, case):
    operator, name, constants = CASES[case]
    expected = operator(x, notes=Notes())
    got = litert(name, [x, *map(integer_constant, constants)], expected, version=1 if name == "RESHAPE" else 2)
    assert_equal_integers(expected, got)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 1), (3, 2), (1, 2)])
def test_max_pooling(x, window, stride, padding):
    expected = MaxPooling((window, window), (stride, stride), padding)(x, notes=Notes())
    options = {
        "filterHeight": window,
        "filterWidth": window,
        "strideH": stride,
        "strideW": stride,
        "padding": 0 if padding == "same" else 1,
    }
    assert_equal_integers(expected, litert("MAX_POOL_2D", [x], expected, options))


@pytest.mark.parametrize(("name", "bounds"), [("RELU", (0.0, np.inf)), ("RELU6", (0.0, 6.0))])
def test_activation_on_its_own_keeps_the_format(x, name, bounds):
    expected = Clamp(bounds)(x, notes=Notes())
    assert_equal_integers(expected, litert(name, [x], expected))


def test_clamp_is_a_maximum_and_a_minimum(x):
    expected = Clamp((-0.5, np.inf))(x, notes=Notes())
    limit = expected.integers.min() - x.format.storage_offset
    stored = file_tensor(x.format, ())
    constant = FileTensor.constant(np.array(limit, np.int8), stored.scale, stored.zero_point)
    assert_equal_integers(expected, litert("MAXIMUM", [x, constant], expected))
