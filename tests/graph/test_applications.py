"""Every family of `keras.applications` goes through what a dry run does."""

import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

from qpipe import keras_source
from qpipe.config.schema import FoldingConfig, QuantizerConfig
from qpipe.graph.folding import apply_folding, plan_folding, unfold_batchnorm
from qpipe.graph.layer_plan import Treatment
from qpipe.graph.quantization import quantize_with_plan
from qpipe.graph.trace import trace
from qpipe.reports.layers import layer_report

DOCS = Path(__file__).parents[2] / "docs"
FAST = {
    "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35},
    "VGG16": {},
}
SLOW = {
    "ConvNeXtTiny": {},
    "DenseNet121": {},
    "EfficientNetB0": {},
    "EfficientNetV2B0": {},
    "InceptionResNetV2": {"size": 75},
    "InceptionV3": {"size": 75},
    "MobileNetV3Large": {"alpha": 0.75},
    "MobileNetV3Small": {"alpha": 0.75},
    "NASNetMobile": {},
    "ResNet50": {},
    "ResNet50V2": {},
    "Xception": {"size": 71},
}
BUILDERS = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
FAMILIES = (
    *("ConvNeXt", "DenseNet", "EfficientNetB", "EfficientNetV2", "InceptionResNetV2", "InceptionV3"),
    *("MobileNet", "MobileNetV2", "MobileNetV3", "NASNet", "VGG", "Xception"),
)


def family(builder: str) -> str:
    """Which entry stands for a builder; ResNets of the two versions have the version at the end of their names."""
    if builder.startswith("ResNet"):
        return "ResNetV2" if builder.endswith("V2") else "ResNet"
    return max((name for name in FAMILIES if builder.startswith(name)), key=len)


def random_statistics(model: keras.Model) -> None:
    random = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight in layer.weights:
                positive = weight.name in ("gamma", "moving_variance")
                values = random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(0, 0.1, weight.shape)
                weight.assign(values)


def test_every_builder_is_of_a_family_that_is_tested():
    builders = keras_source.classes("keras.applications")
    assert {family(name) for name in builders} == {family(name) for name in (*FAST, *SLOW)}


@pytest.mark.parametrize("name", BUILDERS)
def test_family_goes_through_a_dry_run(name):
    arguments = dict((FAST | SLOW)[name])
    size = arguments.pop("size", 32)
    builder = getattr(keras.applications, name)
    model = builder(input_shape=(size, size, 3), classes=10, weights=None, classifier_activation=None, **arguments)
    random_statistics(model)
    graph = trace(model)
    folding = plan_folding(graph, FoldingConfig())
    folded = apply_folding(graph, folding, FoldingConfig())
    _assert_same_output(folded, model)
    _assert_same_output(unfold_batchnorm(folded), model)

    result = quantize_with_plan(folded, QuantizerConfig(), absorbed=folding.absorbed())
    report = layer_report(result, folding)
    planned = {row.plan.name for row in report.rows} | {row.plan.fused for row in report.rows}
    absorbed = {name for row in report.rows for name in row.plan.folded}
    assert {node.name for node in graph.nodes} <= planned | absorbed
    assert [row.plan.name for row in report.rows if row.plan.treatment is Treatment.float and not row.plan.reason] == []
    assert report.quantized > 10
    plans = [row.plan for row in report.rows]
    assert all(plan.treatment is Treatment.keeps for plan in plans if plan.layer == "Concatenate")
    assert not any(plan.layer.startswith("Separable") for plan in plans)
    normalizations = sum(isinstance(node.operation, keras.layers.BatchNormalization) for node in graph.nodes)
    assert len(folding.folds) + len(folding.kept) == normalizations
    assert result.model.output_shape == (None, 10)


def folding_table() -> dict:
    return runpy.run_path(str(DOCS / "generate_folding_table.py"))


def test_a_row_of_the_folding_table_is_what_its_script_writes():
    assert folding_table()["row"]("MobileNetV2") in (DOCS / "folding-table.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.slow
def test_the_folding_table_is_what_its_script_writes():
    written = (DOCS / "folding-table.md").read_text(encoding="utf-8")
    assert written == folding_table()["page"](), "run: python docs/generate_folding_table.py"


def _assert_same_output(ours: keras.Model, theirs: keras.Model) -> None:
    x = np.random.default_rng(5).normal(size=(2, *theirs.input_shape[1:])).astype("float32")
    expected = np.asarray(theirs(x, training=False))
    np.testing.assert_allclose(ours(x, training=False), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
