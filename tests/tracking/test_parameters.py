from qpipe.config.schema import (
    ApplicationModel,
    DigitsData,
    FoldingMode,
    JobConfig,
    LayerRule,
    QuantizerConfig,
    TrackingConfig,
    WeightQuantizerRule,
    WeightRange,
)
from qpipe.tracking import flat_parameters
from qpipe.tracking.parameters import LONGEST_KEY, LONGEST_PARAMETER, cut, mlflow_key


def job(**options):
    model = ApplicationModel(application="MobileNet", arguments={"alpha": 0.25})
    return JobConfig(model=model, data=DigitsData(image_size=[64, 48]), **options)


def test_values_are_flat_and_readable():
    flat = flat_parameters(job(name="first"))
    expected = {
        "name": "first",
        "seed": "0",
        "dry_run": "false",
        "model.kind": "ApplicationModel",
        "model.application": "MobileNet",
        "model.weights": "null",
        "model.arguments.alpha": "0.25",
        "data.kind": "DigitsData",
        "data.image_size": "[64,48]",
        "data.augmentation.shift": "0.0",
        "training.float.learning_rate": "0.001",
        "folding.layers": '["*"]',
        "folding.mode": FoldingMode.ema_stats_folding.value,
        "quantizer.weight.bitwidth": "8",
        "quantizer.layers": "[]",
        "tracking.tags": "{}",
    }
    assert {key: flat[key] for key in expected} == expected
    assert all(isinstance(value, str) for value in flat.values())


def test_each_rule_is_compact_json_of_what_it_sets():
    rules = [
        LayerRule(match="conv1", weight=WeightQuantizerRule(bitwidth=4, range=WeightRange.mse)),
        LayerRule(match="re:.*_preds", quantize=False),
    ]
    flat = flat_parameters(job(quantizer=QuantizerConfig(layers=rules)))
    assert flat["quantizer.layers.0"] == '{"match":"conv1","weight":{"bitwidth":4,"range":"mse"}}'
    assert flat["quantizer.layers.1"] == '{"match":"re:.*_preds","quantize":false}'
    assert "quantizer.layers" not in flat


def test_passwords_are_masked():
    flat = flat_parameters(job(tracking=TrackingConfig(uri="postgresql://me:secret@host:5432/runs")))
    assert flat["tracking.uri"] == "postgresql://me:***@host:5432/runs"


def test_long_values_are_cut_with_a_word():
    text = cut("x" * 7000, LONGEST_PARAMETER)
    assert len(text) == LONGEST_PARAMETER
    assert text.endswith("(cut)")
    assert cut("short", LONGEST_PARAMETER) == "short"


def test_keys_hold_nothing_that_mlflow_refuses():
    assert mlflow_key("layers[0].*@x/é") == "layers_0_.__x/_"
    assert mlflow_key("train/loss") == "train/loss"
    assert mlflow_key("../a//b") == "_/a/_/b"
    assert len(mlflow_key("k" * 300)) == LONGEST_KEY
