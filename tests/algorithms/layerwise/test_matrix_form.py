"""Every covered layer as a matrix product, against the layer itself."""

import numpy as np
import pytest
import tensorflow as tf

from qpipe.algorithms.layerwise.matrix_form import matrix_form
from qpipe.algorithms.layerwise.moments import means, moments
from qpipe.layers import QConv1D, QConv2D, QConv2DTranspose, QDense, QDepthwiseConv1D, QDepthwiseConv2D

CASES = {
    "dense": (lambda: QDense(5), (7,)),
    "dense of a sequence": (lambda: QDense(5), (4, 7)),
    "same": (lambda: QConv2D(6, 3, padding="same"), (7, 8, 4)),
    "strides": (lambda: QConv2D(6, (3, 2), strides=(2, 1), padding="same"), (7, 8, 4)),
    "dilation": (lambda: QConv2D(6, 3, dilation_rate=2), (9, 8, 4)),
    "groups": (lambda: QConv2D(6, 3, groups=2), (7, 8, 4)),
    "1-D": (lambda: QConv1D(6, 3, strides=2, padding="same"), (9, 4)),
    "causal": (lambda: QConv1D(6, 3, padding="causal", dilation_rate=2), (9, 4)),
    "depthwise": (lambda: QDepthwiseConv2D(3, padding="same", strides=2), (7, 8, 4)),
    "multiplier": (lambda: QDepthwiseConv2D((3, 2), depth_multiplier=3), (7, 8, 4)),
    "depthwise 1-D": (lambda: QDepthwiseConv1D(3, depth_multiplier=2, padding="same"), (9, 4)),
}


def built(make, shape):
    layer = make()
    layer.build((None, *shape))
    rng = np.random.default_rng(0)
    layer.kernel.assign(rng.normal(size=layer.kernel.shape))
    return layer, rng.normal(size=(3, *shape)).astype("float32")


@pytest.mark.parametrize("case", CASES)
def test_product_of_rows_and_matrix_is_the_layer(case):
    layer, x = built(*CASES[case])
    form = matrix_form(layer)
    expected = layer.linear_op(tf.constant(x), layer.kernel)
    product = tf.matmul(form.rows_of(tf.constant(x)), form.to_matrix(layer.kernel))
    np.testing.assert_allclose(product, form.columns_of(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_matrix_goes_back_to_the_kernel(case):
    layer, _ = built(*CASES[case])
    form = matrix_form(layer)
    np.testing.assert_array_equal(form.to_kernel(form.to_matrix(layer.kernel)), np.array(layer.kernel))


def test_a_scale_per_channel_and_one_for_all():
    layer, _ = built(*CASES["multiplier"])
    form = matrix_form(layer)
    scale = np.arange(12.0).reshape(1, 1, 4, 3)
    kernel = np.broadcast_to(scale, layer.kernel.shape)
    np.testing.assert_array_equal(form.scale_matrix(scale), form.to_matrix(kernel)[:, 0])
    np.testing.assert_array_equal(form.scale_matrix(np.full((1, 1, 1, 1), 3.0)), np.full((4, 3), 3.0))


def test_a_transposed_convolution_has_none():
    assert matrix_form(QConv2DTranspose(3, 3)) is None


@pytest.mark.parametrize("case", ["same", "groups", "depthwise", "dense"])
def test_moments_give_the_squared_error_of_any_kernel(case):
    """Against the mean of the squared differences, taken directly."""
    layer, x = built(*CASES[case])
    form = matrix_form(layer)
    rng = np.random.default_rng(1)
    target = np.array(layer.linear_op(tf.constant(x), layer.kernel)) + rng.normal(size=form.groups * form.columns)
    target = target.astype("float32")
    gathered = moments(form, [(x[:2], target[:2]), (x[2:], target[2:])])
    other = (np.array(layer.kernel) + 0.3 * rng.normal(size=layer.kernel.shape)).astype("float32")
    bias = rng.normal(size=(form.groups, form.columns))
    output = np.array(layer.linear_op(tf.constant(x), other), np.float64) + bias.reshape(-1)
    expected = np.mean(np.sum((output - target) ** 2, axis=-1))
    assert gathered.error(form.to_matrix(other).astype("float64"), bias) == pytest.approx(expected, rel=1e-4)


def test_fitted_bias_leaves_no_mean_error():
    layer, x = built(*CASES["same"])
    form = matrix_form(layer)
    target = np.array(layer.linear_op(tf.constant(x), layer.kernel)) + np.float32(0.7)
    kernel = np.round(np.array(layer.kernel))
    first = means(form, [(x[:1], target[:1]), (x[1:], target[1:])])
    bias = first.fitted_bias(form.to_matrix(kernel)).reshape(-1)
    output = np.array(layer.linear_op(tf.constant(x), kernel), np.float64) + bias
    np.testing.assert_allclose((output - target).reshape(-1, 6).mean(axis=0), 0.0, atol=1e-4)


def test_centered_moments_are_the_covariances():
    layer, x = built(*CASES["same"])
    form = matrix_form(layer)
    target = np.array(layer.linear_op(tf.constant(x), layer.kernel))
    gram, cross = moments(form, [(x, target)]).centered()
    rows = np.array(form.rows_of(tf.constant(x)), np.float64)[0]
    columns = target.reshape(-1, 6).astype("float64")
    np.testing.assert_allclose(gram[0], np.cov(rows.T, bias=True), atol=1e-5)
    np.testing.assert_allclose(cross[0], (rows - rows.mean(0)).T @ (columns - columns.mean(0)) / len(rows), atol=1e-5)


def test_deviations_that_are_small_beside_the_mean_are_not_lost():
    rng = np.random.default_rng(0)
    layer = QDense(2)
    layer.build((None, 5))
    x = (1000.0 + 0.01 * rng.normal(size=(4096, 5))).astype("float32")
    target = (500.0 + 0.01 * rng.normal(size=(4096, 2))).astype("float32")
    gram, cross = moments(matrix_form(layer), [(x[:2048], target[:2048]), (x[2048:], target[2048:])]).centered()
    both = np.cov(np.concatenate([x, target], axis=1).T.astype("float64"), bias=True)
    np.testing.assert_allclose(gram[0], both[:5, :5], atol=1e-7)
    np.testing.assert_allclose(cross[0], both[:5, 5:], atol=1e-7)
