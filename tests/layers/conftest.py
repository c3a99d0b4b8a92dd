import pytest

from qpipe.quantizers import OutputQuantizer


@pytest.fixture
def ranged():
    """Makes an output quantizer with a range."""

    def make(low=-3.0, high=4.0, **arguments) -> OutputQuantizer:
        quantizer = OutputQuantizer(**arguments)
        quantizer.set_range(low, high)
        return quantizer

    return make
