import keras
import numpy as np
import pytest


@pytest.fixture(scope="session")
def randomize():
    """Gives every weight of a model a random value; variances stay positive."""

    def apply(model: keras.Model, seed: int = 3) -> keras.Model:
        random = np.random.default_rng(seed)
        for weight in model.weights:
            if weight.dtype not in ("float32", "float16", "bfloat16"):
                continue
            fan_in = int(np.prod(weight.shape[:-1])) or 1
            if "variance" in weight.name or weight.name == "gamma":
                weight.assign(random.uniform(0.5, 1.5, weight.shape))
            elif "kernel" in weight.name:
                weight.assign(
                    random.normal(0, (1.5 if "depthwise" in weight.path else 1.0) / np.sqrt(fan_in), weight.shape)
                )
            else:
                weight.assign(random.normal(0, 0.3, weight.shape))
        return model

    return apply


@pytest.fixture(scope="session")
def assert_same_output():
    """Asserts that two models give the same outputs, to `tolerance` of the largest."""

    def check(ours: keras.Model, theirs: keras.Model, tolerance: float = 1e-5, seed: int = 5) -> None:
        random = np.random.default_rng(seed)
        inputs = [random.normal(size=(4, *tensor.shape[1:])).astype("float32") for tensor in theirs.inputs]
        given = inputs if len(inputs) > 1 else inputs[0]
        for our, their in zip(
            keras.tree.flatten(ours(given, training=False)),
            keras.tree.flatten(theirs(given, training=False)),
            strict=True,
        ):
            np.testing.assert_allclose(our, their, rtol=0, atol=tolerance * max(float(np.abs(their).max()), 1e-6))

    return check
