import pytest

from qpipe.config.quantizer_validation import validate_quantizer
from qpipe.config.schema import (
    ApplicationModel,
    BiasQuantizerConfig,
    DigitsData,
    FileModel,
    FoldingConfig,
    FoldingMode,
    JobConfig,
    LayerRule,
    MethodConfig,
    MethodName,
    OutputQuantizerConfig,
    OutputQuantizerRule,
    QuantizerConfig,
    TrainingConfig,
    TrainingStage,
    WeightQuantizerConfig,
    WeightQuantizerRule,
)
from qpipe.config.validation import validate, validate_folding
from qpipe.errors import ConfigError


def job(**changes) -> JobConfig:
    parts = {
        "model": ApplicationModel(application="MobileNet"),
        "data": DigitsData(),
    }
    parts |= {"runs_dir": "runs", "method": MethodConfig(name=MethodName.ptq)}
    return JobConfig(**{**parts, **changes})


def test_schema_defaults_are_valid():
    assert validate(job()) == []


def test_keys_that_post_training_quantization_ignores_are_reported():
    folding = FoldingConfig(ema_freeze_delay=3, mode=FoldingMode.batch_stats_folding)
    warnings = validate(job(folding=folding))
    assert warnings == [
        "folding.mode, folding.ema_freeze_delay are set but not used: method=ptq does not train the quantized model"
    ]
    assert validate(job(folding=folding, method=MethodConfig(name=MethodName.qat))) == []


def test_training_that_does_not_happen_is_reported():
    training = TrainingConfig(float=TrainingStage(epochs=3), qat=TrainingStage(batch_size=8))
    model = FileModel(path="model.keras", train=False)
    assert validate(job(training=training, model=model)) == [
        "training.qat.batch_size is set but not used: method=ptq does not train the quantized model",
        "training.float.epochs is set but not used: model.train=false takes the model's weights as they are",
    ]
    used = job(
        training=training, model=FileModel(path="model.keras", train=True), method=MethodConfig(name=MethodName.qat)
    )
    assert validate(used) == []


def test_value_that_was_never_set_in_python():
    with pytest.raises(ConfigError, match=r"model\.path is not set.*model\.path=\.\.\."):
        validate(job(model=FileModel()))


@pytest.mark.parametrize("bitwidth", [2, 16])
def test_extreme_bitwidths_are_allowed(bitwidth):
    validate_quantizer(
        QuantizerConfig(
            weight=WeightQuantizerConfig(bitwidth=bitwidth),
            output=OutputQuantizerConfig(bitwidth=bitwidth),
            layers=[LayerRule(match="a", weight=WeightQuantizerRule(bitwidth=bitwidth))],
        )
    )


@pytest.mark.parametrize("bitwidth", [True, 4.0, "4", None])
def test_bitwidth_of_another_type_in_python(bitwidth):
    with pytest.raises(ConfigError, match=r"quantizer\.weight\.bitwidth"):
        validate_quantizer(QuantizerConfig(weight=WeightQuantizerConfig(bitwidth=bitwidth)))


def test_bias_may_be_as_wide_as_the_accumulator():
    wide = BiasQuantizerConfig(bitwidth=64)
    sixteen = OutputQuantizerConfig(bitwidth=16)
    validate_quantizer(QuantizerConfig(bias=wide, buffer_bitwidth=64))
    validate_quantizer(QuantizerConfig(bias=wide, output=sixteen))
    validate_quantizer(
        QuantizerConfig(bias=wide, layers=[LayerRule(match="a", output=OutputQuantizerRule(bitwidth=16))])
    )
    with pytest.raises(ConfigError, match="from 2 to 32"):
        validate_quantizer(QuantizerConfig(bias=wide))


def test_path_of_a_rule_and_of_a_nested_configuration():
    config = QuantizerConfig(
        layers=[LayerRule(match="a"), LayerRule(match="b", weight=WeightQuantizerRule(bitwidth=1))]
    )
    with pytest.raises(ConfigError, match=r"^mine\.layers\[1\]\.weight\.bitwidth: 1 "):
        validate_quantizer(config, path="mine")


def test_folding_alone():
    validate_folding(FoldingConfig(layers=["re:conv.*", "block_*"], ema_freeze_delay=0))
    with pytest.raises(ConfigError, match=r"folding\.ema_freeze_delay: -1 .* null"):
        validate_folding(FoldingConfig(ema_freeze_delay=-1))
