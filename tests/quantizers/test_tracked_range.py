"""The range of one layer or of several that share a quantizer: one move for each training step."""

import numpy as np
import pytest
import tensorflow as tf

from qpipe.errors import QuantizationError
from qpipe.quantizers import OutputQuantizer


def steps_of(rng, count=5, members=3):
    """Tensors by step and member, of different ranges."""
    return [
        [rng.normal(size=40).astype("float32") * (member + 1 + step) for member in range(members)]
        for step in range(count)
    ]


def union(tensors):
    return min(t.min() for t in tensors), max(t.max() for t in tensors)


def moving(quantizer):
    """What a range consists of, apart from what is pending."""
    tracked = quantizer.tracked
    return tracked.ends, tracked.steps, tracked.turn, tracked.calibrated, quantizer.stored_scale, quantizer.zero_point


def training_step(quantizer, in_graph=False):
    """Returns a function that quantizes the tensors of one step and returns the scale after each member."""

    def step(tensors):
        scales = []
        for x in tensors:
            quantizer(x, training=True)
            scales.append(tf.identity(quantizer.stored_scale.value))
        return scales

    traced = tf.function(step) if in_graph else step
    return lambda tensors: [float(scale) for scale in traced([tf.constant(x) for x in tensors])]


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("members", [1, 3])
def test_the_union_moves_the_range_once_for_each_step(members, calibrated, in_graph, rng):
    quantizer = OutputQuantizer(members=members, momentum=0.9)
    if calibrated:
        quantizer.set_range(-2.0, 3.0)
    low, high = (-2.0, 3.0) if calibrated else (None, None)
    train = training_step(quantizer, in_graph)
    for number, tensors in enumerate(steps_of(rng, members=members)):
        scales = train(tensors)
        if number == 0 and not calibrated:
            low, high = union(tensors)
            assert float(quantizer.low) == np.float32(low)
            assert float(quantizer.high) == np.float32(high)
        else:
            assert len(set(scales)) == 1, "all members of a step quantize with one scale"
            assert scales[0] == pytest.approx((high - low) / 255, rel=1e-5), "that of the steps before"
            assert float(quantizer.low) == pytest.approx(low, rel=1e-5)
            assert float(quantizer.high) == pytest.approx(high, rel=1e-5)
            assert int(quantizer.steps) == number
        if number or calibrated:
            pending = union(tensors)
            low, high = 0.9 * low + 0.1 * pending[0], 0.9 * high + 0.1 * pending[1]
    quantizer.settle()
    assert float(quantizer.high) == pytest.approx(high, rel=1e-5)
    assert float(quantizer.scale) == pytest.approx((high - low) / 255, rel=1e-5)
    assert int(quantizer.steps) == 5


def test_a_graph_traced_before_the_first_step_sets_the_range_once(rng):
    """The trace does not know whether the range is set; the variable decides in every step."""
    quantizer = OutputQuantizer(momentum=0.5)
    train = training_step(quantizer, in_graph=True)
    for x in ([-1.0, 1.0], [-3.0, 5.0], [0.0, 0.0]):
        train([np.array(x, "float32")])
    assert [float(quantizer.low), float(quantizer.high)] == [-2.0, 3.0]


@pytest.mark.parametrize("members", [1, 3])
def test_settling_twice_or_between_steps_changes_nothing_that_comes_later(members, rng):
    steps = steps_of(rng, members=members)
    one, other = (OutputQuantizer(members=members) for _ in range(2))
    for tensors in steps:
        training_step(one)(tensors)
        training_step(other)(tensors)
        other.settle()
        other.settle()
    one.fix()
    other.fix()
    for ours, theirs in zip(moving(one), moving(other), strict=True):
        np.testing.assert_array_equal(np.array(ours), np.array(theirs))


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("delay", [1, 3])
@pytest.mark.parametrize("members", [1, 3])
def test_freezes_after_exactly_n_steps(members, delay, in_graph, rng):
    steps = steps_of(rng, members=members)
    frozen = OutputQuantizer(members=members, ema_freeze_delay=delay)
    short = OutputQuantizer(members=members)
    train = training_step(frozen, in_graph)
    for tensors in steps:
        train(tensors)
    for tensors in steps[:delay]:
        training_step(short)(tensors)
    frozen.fix()
    short.fix()
    assert int(frozen.steps) == int(short.steps) == delay
    for ours, theirs in zip(moving(frozen), moving(short), strict=True):
        np.testing.assert_array_equal(np.array(ours), np.array(theirs))


@pytest.mark.parametrize(("first", "second", "expected"), [(False, False, (0, 255)), (False, True, (-128, 127))])
def test_joining_makes_the_integers_signed_if_any_member_is(first, second, expected):
    quantizer = OutputQuantizer(symmetric=True, signed=first)
    quantizer.join(second)
    assert quantizer.members == 2
    assert quantizer.integers == expected
    again = OutputQuantizer.from_config(quantizer.get_config())
    assert (again.members, again.integers, len(again.variables)) == (2, expected, len(quantizer.variables))


def test_nobody_joins_a_quantizer_whose_range_is_set():
    quantizer = OutputQuantizer(name="concat")
    quantizer.set_range(0.0, 1.0)
    with pytest.raises(QuantizationError, match="concat: no further layer can join"):
        quantizer.join(False)


def test_calibration_clears_what_is_pending(rng):
    quantizer = OutputQuantizer(members=2)
    quantizer(rng.normal(size=9).astype("float32"), training=True)
    quantizer.set_range(-1.0, 1.0)
    quantizer.fix()
    assert (float(quantizer.low), float(quantizer.high), int(quantizer.steps)) == (-1, 1, 0)
