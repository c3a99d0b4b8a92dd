"""What LiteRT can't express or computes wrongly is refused, with layer and reason, and nothing is written."""

import keras
import numpy as np
import pytest
from keras import layers as k
from small_networks_to_export import config, quantized, samples

import qpipe
from qpipe.config.schema import LayerRule, OutputQuantizerRule, QuantizerConfig, WeightQuantizerRule
from qpipe.errors import ExportError, QuantizationError

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed; there is none for Windows")


def three_terms(x):
    return k.Add(name="sum")([k.Conv2D(4, 1, name=f"branch_{index}")(x) for index in range(3)])


def depthwise(x):
    return k.DepthwiseConv2D(3, name="depthwise")(x)


def dense(x):
    return k.Dense(3, name="dense")(k.Flatten()(x))


def float_middle(x):
    return k.Conv2D(2, 1, name="behind")(k.LayerNormalization(name="normalization")(k.Conv2D(2, 1, name="before")(x)))


def dilated_transposition(x):
    return k.Conv2DTranspose(3, 3, dilation_rate=2, name="transposed")(x)


def softmax_inside(x):
    return k.Dense(2, name="dense")(k.Softmax(name="shares")(k.Flatten()(x)))


REFUSED = {
    "weights of more than 8 bits": (dense, config(weight=9), "dense", "weights of at most 8 bits"),
    "asymmetric 16-bit activations": (dense, config(activation=16), "dense", "symmetric=true"),
    "16-bit activations that are never negative": (
        lambda x: k.ReLU(name="relu")(k.Conv2D(2, 1, name="conv")(x)),
        config(activation=16, symmetric=True),
        "conv",
        "at most 15 bits",
    ),
    "int4 depthwise weights beside 16-bit activations": (
        depthwise,
        config(weight=4, activation=16, symmetric=True),
        "depthwise",
        "garbage",
    ),
    "a buffer that may saturate": (dense, config(buffer_bitwidth=16), "dense", "saturate at buffer_bitwidth=16"),
    "three terms": (three_terms, config(), "sum", "add two at a time"),
    "a layer in float": (float_middle, config(), "normalization", "stays in float"),
    "a transposed convolution with dilation": (dilated_transposition, config(), "transposed", "no dilation"),
    "an input that is an output": (lambda x: [x, dense(x)], config(), "image", "hands this input on"),
    "a softmax of 6 bits": (softmax_inside, config(activation=6), "shares", "scale 1/256"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, tmp_path):
    build, quantizers, layer, reason = REFUSED[case]
    model = quantized(build, quantizers)
    with pytest.raises(ExportError, match=f"layer '{layer}'.*{reason}") as error:
        qpipe.export_litert(model, tmp_path / "model.tflite")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_all_layers_are_named_at_once(tmp_path):
    rules = [LayerRule(match="first", weight=WeightQuantizerRule(bitwidth=12))]
    rules.append(LayerRule(match="second", output=OutputQuantizerRule(bitwidth=16)))
    model = quantized(
        lambda x: k.Conv2D(2, 1, name="third")(k.Conv2D(2, 1, name="second")(k.Conv2D(2, 1, name="first")(x))),
        QuantizerConfig(layers=rules),
    )
    with pytest.raises(ExportError, match=r"layer 'first'.*layer 'second'.*layer 'third'"):
        qpipe.export_litert(model, tmp_path / "model.tflite")


def test_an_older_file_stays_where_the_model_is_refused(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"older")
    with pytest.raises(ExportError):
        qpipe.export_litert(quantized(three_terms), path)
    assert path.read_bytes() == b"older"


def test_a_narrow_buffer_that_the_worst_case_fits_is_exported(tmp_path):
    model = quantized(depthwise, config(buffer_bitwidth=20))
    qpipe.export_litert(model, tmp_path / "model.tflite")
    assert qpipe.verify(model, tmp_path / "model.tflite", samples()).first_difference is None


class TestSumsThatMayWrap:
    """300,000 products of 8 bits may pass 32 bits; random signs stay far inside."""

    @pytest.fixture(scope="class")
    @staticmethod
    def model():
        return quantized(dense, shape=(300, 250, 4))

    def test_refused_without_data(self, model, tmp_path):
        with pytest.raises(ExportError, match="may need 33 bits, and the runtime's 32 bits wrap"):
            qpipe.export_litert(model, tmp_path / "model.tflite")

    def test_a_warning_with_data_that_stays_inside(self, model, tmp_path, caplog):
        x = samples((300, 250, 4), 2)
        exported = qpipe.export_litert(model, tmp_path / "model.tflite", samples=x)
        assert "may need 33 bits in the worst case" in exported.warnings[0]
        assert exported.warnings[0] in caplog.text
        assert qpipe.verify(model, tmp_path / "model.tflite", x).first_difference is None

    def test_refused_where_the_data_wraps(self, model, tmp_path):
        x = np.broadcast_to(samples((300, 250, 4), 1), (1, 300, 250, 4))
        kernel = np.array(model.get_layer("dense").kernel)[:, 0]
        worst = np.sign(kernel).reshape(1, 300, 250, 4) * np.abs(x).max()
        with pytest.raises(ExportError, match=r"33 bits \(33 on the data\)"):
            qpipe.export_litert(model, tmp_path / "model.tflite", samples=worst.astype("float32"))


@pytest.mark.parametrize(
    ("path", "arguments", "message"),
    [
        ("model.onnx", {}, "needs the ending '.tflite'"),
        ("model.tflite", {"io": "flot"}, "io='flot' is not known; did you mean 'float'"),
    ],
)
def test_arguments(path, arguments, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        qpipe.export_litert(quantized(dense), tmp_path / path, **arguments)


def test_an_unquantized_or_uncalibrated_model(tmp_path):
    model = keras.Sequential([keras.Input((4,)), k.Dense(2)])
    with pytest.raises(QuantizationError, match="is not quantized"):
        qpipe.export_litert(model, tmp_path / "model.tflite")
    with pytest.raises(QuantizationError, match="never calibrated"):
        qpipe.export_litert(qpipe.quantize(model), tmp_path / "model.tflite")


def test_an_input_of_unknown_size(tmp_path):
    model = keras.Sequential([keras.Input((None, None, 3), name="image"), k.Conv2D(2, 1), k.GlobalAveragePooling2D()])
    calibrated = qpipe.calibrate(qpipe.quantize(model), samples((8, 8, 3)))
    with pytest.raises(ExportError, match="input 'image' has the shape"):
        qpipe.export_litert(calibrated, tmp_path / "model.tflite")


def test_an_input_with_two_quantizers_is_exported_with_real_values_only(tmp_path):
    def build(x):
        return [k.Conv2D(2, 1)(x), k.Conv2D(2, 1)(k.Rescaling(0.5)(x))]

    model = quantized(build)
    with pytest.raises(ExportError, match=r"has several quantizers.*io=float"):
        qpipe.export_litert(model, tmp_path / "model.tflite")
    qpipe.export_litert(model, tmp_path / "model.tflite", io="float")
    assert qpipe.verify(model, tmp_path / "model.tflite", samples()).first_difference is None
