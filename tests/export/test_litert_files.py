"""What is in a LiteRT file beside the arithmetic: batch, ends, names, metadata, alignment, sizes."""

import json

import keras
import numpy as np
import pytest
from keras import layers as k
from small_networks_to_export import config, quantized, residual, samples

import qpipe
from qpipe.config.schema import LayerRule, OutputQuantizerRule

interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not installed; none for Windows")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")


@pytest.fixture(scope="module")
def model():
    return quantized(residual, config(float_softmax=True))


@pytest.fixture
def path(model, tmp_path):
    exported = qpipe.export_litert(
        model, tmp_path / "model.tflite", labels=["a", "b", "c", "d", "e"], normalization="unit"
    )
    assert exported.bytes == exported.path.stat().st_size
    return exported.path


def read(path):
    return schema.ModelT.InitFromPackedBuf(path.read_bytes())


def run(path, x):
    runner = interpreter.Interpreter(str(path)).get_signature_runner()
    (name,) = runner.get_input_details()
    return next(iter(runner(**{name: x}).values()))


def test_ends_are_int8_and_named_as_in_the_model(path):
    runner = interpreter.Interpreter(str(path)).get_signature_runner()
    assert {name: detail["dtype"] for name, detail in runner.get_input_details().items()} == {"image": np.int8}
    (output,) = runner.get_output_details().values()
    scales = output["quantization_parameters"]
    assert (output["dtype"], scales["scales"][0], scales["zero_points"][0]) == (np.int8, 1 / 256, -128)


def test_float_ends_give_what_the_integers_stand_for(model, path, tmp_path):
    qpipe.export_litert(model, tmp_path / "float.tflite", io="float")
    x = samples()
    detail = next(iter(interpreter.Interpreter(str(path)).get_signature_runner().get_input_details().values()))
    scale, zero_point = (detail["quantization_parameters"][key][0] for key in ("scales", "zero_points"))
    q = np.clip(np.rint(x * (np.float32(1) / scale)) + zero_point, -128, 127).astype(np.int8)
    real = run(tmp_path / "float.tflite", x)
    np.testing.assert_array_equal(real, (run(path, q).astype(np.float32) + 128) / 256)
    np.testing.assert_allclose(real, model.predict(x, verbose=0), atol=1 / 128)


def test_any_batch(path):
    x = np.random.default_rng(0).integers(-128, 128, (5, 9, 8, 4)).astype(np.int8)
    together = run(path, x)
    np.testing.assert_array_equal(together, np.concatenate([run(path, row[np.newaxis]) for row in x]))
    assert list(read(path).subgraphs[0].tensors[read(path).subgraphs[0].inputs[0]].shapeSignature) == [-1, 9, 8, 4]


def test_metadata(path):
    model = read(path)
    content = {entry.name.decode(): bytes(model.buffers[entry.buffer].data) for entry in model.metadata}
    told = json.loads(content["qpipe"])
    assert told["name"] == "small"
    assert told["version"] == qpipe.__version__
    assert told["labels"] == ["a", "b", "c", "d", "e"]
    assert (told["normalization"], told["io"], told["inputs"]) == ("unit", "int8", {"image": {"preparation": []}})


def test_constants_are_aligned(path):
    """Microcontrollers read 32-bit biases where they lie in the file."""
    content = np.frombuffer(path.read_bytes(), np.uint8)
    model = schema.Model.GetRootAs(content)
    sizes = 0
    for index in range(model.BuffersLength()):
        data = model.Buffers(index).DataAsNumpy()
        if not isinstance(data, int):
            assert (data.ctypes.data - content.ctypes.data) % 16 == 0
            sizes += 1
    assert sizes > 5


def test_everything_that_can_is_computed_by_xnnpack(path):
    loaded = interpreter.Interpreter(str(path))
    loaded.allocate_tensors()
    operators = [op["op_name"] for op in loaded._get_ops_details()]
    assert "DELEGATE" in operators
    kinds = {code.builtinCode for code in read(path).operatorCodes}
    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    wanted = {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED", "SOFTMAX"}
    assert {names[kind] for kind in kinds} == wanted


def test_weights_of_four_bits_take_half_a_byte(tmp_path):
    def build(x):
        return k.Dense(64, name="dense")(k.Flatten()(x))

    sizes = {
        width: qpipe.export_litert(quantized(build, config(weight=width)), tmp_path / "model.tflite").bytes
        for width in (3, 4, 5, 8)
    }
    assert sizes[8] - sizes[4] == pytest.approx(9 * 8 * 4 * 64 / 2, abs=64)
    assert (sizes[3], sizes[5]) == (pytest.approx(sizes[4], abs=64), pytest.approx(sizes[8], abs=64))


def test_a_prepared_input_takes_raw_integers(tmp_path):
    """Rescaling by 1/255 behind pixels: the file takes pixel - 128."""
    inputs = keras.Input((6, 6, 1), name="pixels")
    outputs = k.Dense(3)(k.Flatten()(k.Conv2D(2, 3)(k.Rescaling(1 / 255)(inputs))))
    x = np.random.default_rng(1).integers(0, 256, (64, 6, 6, 1)).astype("float32")
    x[0, 0, 0], x[0, 0, 1] = 0, 255
    model = qpipe.calibrate(qpipe.quantize(keras.Model(inputs, outputs)), x)
    path = tmp_path / "model.tflite"
    qpipe.export_litert(model, path)
    (detail,) = interpreter.Interpreter(str(path)).get_input_details()
    assert detail["quantization"] == (pytest.approx(1.0), -128)
    expected = qpipe.integer_predict(model, x, integers=True)
    got = run(path, (x - 128).astype(np.int8)).astype(int) + expected.format.storage_offset
    np.testing.assert_array_equal(got, expected.integers)


def test_a_preparation_that_no_integers_stand_for_is_told(tmp_path):
    def build(x):
        return k.Conv2D(2, 1)(k.Rescaling([0.1, 0.2, 0.3, 0.4])(x))

    exported = qpipe.export_litert(quantized(build), tmp_path / "model.tflite")
    assert "takes integers of prepared values" in " ".join(exported.notes)
    model = read(exported.path)
    told = json.loads(bytes(model.buffers[model.metadata[0].buffer].data))
    ((operation, values),) = told["inputs"]["image"]["preparation"]
    assert (operation, values) == ("multiply", pytest.approx([0.1, 0.2, 0.3, 0.4]))


def test_several_inputs_and_outputs_and_shared_tensors(tmp_path):
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    both = k.Add(name="both")([k.Dense(4, name="left")(a), k.Dense(4, name="right")(b)])
    model = keras.Model({"b": b, "a": a}, [both, k.Dense(2, name="head")(both), k.Dense(3, activation="tanh")(both)])
    x = {"a": samples((6,), seed=1), "b": samples((6,), seed=2)}
    calibrated = qpipe.calibrate(qpipe.quantize(model), x)
    for io in ("int8", "float"):
        qpipe.export_litert(calibrated, tmp_path / "model.tflite", io=io)
        comparison = qpipe.verify(calibrated, tmp_path / "model.tflite", x)
        assert comparison.first_difference is None
        assert list(comparison.outputs)[:2] == ["both", "head"]
        assert [prediction.shape for prediction in comparison.predictions] == [(96, 4), (96, 2), (96, 3)]


def test_a_tensor_that_is_an_output_twice_and_one_that_is_handed_on(tmp_path):
    def build(x):
        y = k.Conv2D(2, 1, name="conv")(x)
        return [y, y, k.Dropout(0.5, name="dropout")(y)]

    model = quantized(build)
    qpipe.export_litert(model, tmp_path / "model.tflite")
    comparison = qpipe.verify(model, tmp_path / "model.tflite", samples())
    assert list(comparison.outputs) == ["conv", "conv_1", "dropout"]
    assert comparison.mismatch_rate == 0.0


def test_peak_activation_memory_of_a_chain(tmp_path):
    """In the widest operator input and output are alive: 9*8*4 bytes in, 9*8*16 out."""
    exported = qpipe.export_litert(quantized(lambda x: k.Conv2D(2, 1)(k.Conv2D(16, 1)(x))), tmp_path / "model.tflite")
    assert exported.peak_activation_bytes == 9 * 8 * (4 + 16)


@pytest.mark.parametrize("bits", [8, 4])
def test_the_file_in_float_has_four_bytes_for_every_weight(bits, tmp_path):
    """Kernel integers become floats; so do the biases, which have 4 bytes already."""
    model = quantized(lambda x: k.Conv2D(2, 1)(x), config(weight=bits))
    exported = qpipe.export_litert(model, tmp_path / "model.tflite")
    assert exported.float_bytes == exported.bytes + 4 * 2 * (4 - bits / 8)


def test_peak_activation_memory_of_a_branch(tmp_path):
    def build(x):
        y = k.Conv2D(8, 1)(x)
        return k.Add()([y, k.Conv2D(8, 1)(y)])

    exported = qpipe.export_litert(quantized(build), tmp_path / "model.tflite")
    assert exported.peak_activation_bytes == 9 * 8 * 8 * 3


def test_wide_scores_are_the_output_in_the_place_of_a_softmax(tmp_path):
    rules = [LayerRule(match="classes", output=OutputQuantizerRule(bitwidth=16, symmetric=True))]
    model = quantized(residual, config(float_softmax=True, layers=rules))
    exported = qpipe.export_litert(model, tmp_path / "model.tflite")
    assert "ends before this softmax, with scores of 16 bits" in exported.notes[0]
    comparison = qpipe.verify(model, exported.path, samples())
    assert list(comparison.outputs) == ["classes"]
    decided = comparison.predictions[0].argmax(axis=-1)
    np.testing.assert_array_equal(decided, model.predict(samples(), verbose=0).argmax(axis=-1))
