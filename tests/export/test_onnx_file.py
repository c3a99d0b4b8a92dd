"""What an ONNX file holds: types, layouts, metadata; and what is refused."""

import json

import keras
import numpy as np
import onnxruntime
import pytest
from export.onnx_comparison import assert_exact, assert_near, compared, onnx, operators_of, properties_of, read
from keras import layers as k

import qpipe
from qpipe.config.schema import (
    LayerRule,
    OutputQuantizerConfig,
    OutputQuantizerRule,
    QuantizerConfig,
    ScaleKind,
    WeightQuantizerConfig,
    WeightQuantizerRule,
)
from qpipe.errors import ExportError

SHAPE = (8, 6, 3)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(40, *SHAPE)).astype("float32")


def small_network():
    keras.utils.set_random_seed(1)
    i = keras.Input(SHAPE, name="image")
    y = k.Conv2D(5, 3, activation="relu", name="conv")(i)
    y = k.Flatten(name="flat")(y)
    return keras.Model(i, k.Dense(4, activation="softmax", name="classes")(y), name="small")


def quantized(model, x, config=None):
    return qpipe.calibrate(qpipe.quantize(model, config or QuantizerConfig()), x)


def run(path, arrays, *, optimize=True):
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, arrays)


def constant(model, name):
    """Type, numbers and stored bytes of the constant whose name starts so."""
    (found,) = [entry for entry in model.graph.initializer if entry.name.startswith(name)]
    return found.data_type, onnx.numpy_helper.to_array(found), len(found.raw_data)


def test_integers_at_the_ends_in_the_models_order_of_axes(x, tmp_path):
    model = quantized(small_network(), x)
    exported = qpipe.export_onnx(model, tmp_path / "model.onnx")
    assert exported.bytes == exported.path.stat().st_size
    graph = read(exported.path).graph
    (taken,), (given,) = graph.input, graph.output
    assert (taken.name, taken.type.tensor_type.elem_type) == ("image", onnx.TensorProto.INT8)
    assert [axis.dim_param or axis.dim_value for axis in taken.type.tensor_type.shape.dim] == ["batch", *SHAPE]
    assert (given.name, given.type.tensor_type.elem_type) == ("classes_softmax", onnx.TensorProto.INT8)
    assert [axis.dim_param or axis.dim_value for axis in given.type.tensor_type.shape.dim] == ["batch", 4]


@pytest.mark.parametrize("optimize", [True, False])
def test_real_values_at_the_ends(x, tmp_path, optimize):
    model = quantized(small_network(), x, QuantizerConfig(float_softmax=False))
    path = qpipe.export_onnx(model, tmp_path / "model.onnx", io="float").path
    for count in (1, 7, 40):
        (given,) = run(path, {"image": x[:count]}, optimize=optimize)
        np.testing.assert_array_equal(given, qpipe.integer_predict(model, x[:count]))


def test_metadata_describes_the_integers(x, tmp_path):
    model = quantized(small_network(), x)
    path = qpipe.export_onnx(model, tmp_path / "model.onnx", labels=["a", "b", "c", "d"], normalization="unit").path
    found = properties_of(path)
    assert (found["name"], found["version"], found["io"]) == ("small", qpipe.__version__, "int8")
    assert json.loads(found["labels"]) == ["a", "b", "c", "d"]
    assert found["normalization"] == "unit"
    described = json.loads(found["inputs"])["image"]
    quantizer = model.get_layer("image_quantize").quantizer
    assert np.float32(described["scale"]) == np.float32(quantizer.scale)
    stored = np.clip(np.rint(x / described["scale"]) + described["zero_point"], -128, 127).astype("int8")
    (given,) = run(path, {"image": stored})
    output = json.loads(found["outputs"])["classes_softmax"]
    real = (given.astype("float32") - output["zero_point"]) * output["scale"]
    np.testing.assert_allclose(real, model.predict(x, verbose=0), atol=1.5 / 256)


def test_kernels_have_a_scale_per_channel_and_biases_32_bits(x, tmp_path):
    model = quantized(small_network(), x)
    graph = read(qpipe.export_onnx(model, tmp_path / "model.onnx", operators="qdq").path)
    layer = model.get_layer("conv")
    integers = layer.integer_weights()
    dtype, kernel, _ = constant(graph, "conv/kernel")
    assert dtype == onnx.TensorProto.INT8
    np.testing.assert_array_equal(kernel, np.array(integers.kernel).transpose(3, 2, 0, 1))
    dtype, bias, _ = constant(graph, "conv/bias")
    assert dtype == onnx.TensorProto.INT32
    np.testing.assert_array_equal(bias, np.array(integers.bias))
    constants = {entry.name: onnx.numpy_helper.to_array(entry) for entry in graph.graph.initializer}
    dequantized = {node.input[0]: node for node in graph.graph.node if node.op_type == "DequantizeLinear"}
    for name, expected in (("conv/kernel", integers.scale), ("conv/bias", layer.accumulator_scale())):
        (node,) = [node for source, node in dequantized.items() if source.startswith(name)]
        np.testing.assert_array_equal(constants[node.input[1]], np.array(expected).reshape(-1))


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_four_bits_are_stored_as_such(x, tmp_path, bits):
    config = QuantizerConfig(weight=WeightQuantizerConfig(bitwidth=bits))
    model = quantized(small_network(), x, config)
    exported = qpipe.export_onnx(model, tmp_path / "model.onnx")
    dtype, kernel, stored = constant(read(exported.path), "conv/kernel")
    assert stored == -(-3 * 3 * 3 * 5 // 2)
    assert dtype == onnx.TensorProto.INT4
    np.testing.assert_array_equal(
        kernel.astype("int8"), np.array(model.get_layer("conv").integer_weights().kernel).transpose(3, 2, 0, 1)
    )
    for comparison in compared(model, x, tmp_path, ends=("int8",)).values():
        assert_near(comparison, 1e-3)


def test_narrow_activations_are_clipped_to_their_integers(x, tmp_path):
    model = quantized(small_network(), x, QuantizerConfig(output=OutputQuantizerConfig(bitwidth=5)))
    path = qpipe.export_onnx(model, tmp_path / "model.onnx").path
    graph = read(path)
    clips = [node for node in graph.graph.node if node.op_type == "Clip" and node.output[0].startswith("conv")]
    constants = {entry.name: onnx.numpy_helper.to_array(entry) for entry in graph.graph.initializer}
    assert [[int(constants[name]) for name in clip.input[1:]] for clip in clips] == [[0, 31]]
    assert_exact(model, 20 * x, tmp_path)


def test_the_runtime_fuses_convolutions_to_integers(x, tmp_path):
    """As on ARM by default, on other processors with `session.qdqisint8allowed`."""
    exported = qpipe.export_onnx(quantized(small_network(), x), tmp_path / "model.onnx", operators="qdq")
    assert exported.bound.layer > 0
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(exported.path, options, providers=["CPUExecutionProvider"])
    fused = operators_of(tmp_path / "optimized.onnx")
    assert "QLinearConv" in fused
    assert "Conv" not in fused


def test_all_operators_are_integer_ones(x, tmp_path):
    model = quantized(small_network(), x)
    exported = qpipe.export_onnx(model, tmp_path / "model.onnx")
    path = exported.path
    assert operators_of(path).count("QLinearConv") == 2
    assert (exported.bound.layer, exported.bound.lsb, exported.bound.output) == (0, 0, 0)
    assert exported.bound.is_kept(qpipe.verify(model, path, x))
    assert not {"Conv", "Gemm", "DequantizeLinear", "QuantizeLinear"} & set(operators_of(path))
    assert_exact(model, x, tmp_path, operators="qlinear")


def test_sixteen_bit_dense_layers_are_not_quantized_on_the_fly(tmp_path):
    """With an 8-bit kernel, ONNX Runtime would round the activations of the dense layer to 8 bits."""
    keras.utils.set_random_seed(2)
    rows = np.random.default_rng(1).normal(size=(64, 64)).astype("float32")
    i = keras.Input((64,))
    config = QuantizerConfig(input=OutputQuantizerConfig(bitwidth=16), output=OutputQuantizerConfig(bitwidth=16))
    model = quantized(keras.Model(i, k.Dense(48)(i)), rows, config)
    for comparison in compared(model, rows, tmp_path).values():
        assert_near(comparison, 5e-3, lsb=1)


def test_average_pooling_rounds_ties_away_from_zero(tmp_path):
    """All sums of four 8-bit integers around 0: a quarter of the means are ties."""
    i = keras.Input((2, 2, 1), name="image")
    config = QuantizerConfig(
        input=OutputQuantizerConfig(symmetric=True, scale=ScaleKind.power_of_two), output=OutputQuantizerConfig()
    )
    integers = np.random.default_rng(3).integers(-127, 128, size=(500, 2, 2, 1))
    model = quantized(keras.Model(i, k.AveragePooling2D(2)(i)), integers.astype("float32"), config)
    assert float(model.get_layer(index=1).quantizer.scale) == 1.0
    path = qpipe.export_onnx(model, tmp_path / "model.onnx").path
    (given,) = run(path, {"image": integers.astype("int8")})
    total = integers.sum(axis=(1, 2, 3))
    away = np.sign(total) * np.floor(np.abs(total) / 4 + 0.5)
    assert np.mean(np.abs(total) % 4 == 2) > 0.2
    np.testing.assert_array_equal(given.reshape(-1), away)


def test_a_sum_rounds_ties_up(tmp_path):
    one, other = keras.Input((1,), name="one"), keras.Input((1,), name="other")
    activation = OutputQuantizerConfig(symmetric=True, scale=ScaleKind.power_of_two)
    pairs = np.array([[a, b] for a in range(-128, 128) for b in range(-128, 128)], "float32")
    arrays = {"one": pairs[:, :1], "other": pairs[:, 1:]}
    model = keras.Model({"one": one, "other": other}, k.Add(name="total")([one, other]))
    model = quantized(model, arrays, QuantizerConfig(input=activation, output=activation))
    path = qpipe.export_onnx(model, tmp_path / "model.onnx").path
    (given,) = run(path, {name: array.astype("int8") for name, array in arrays.items()})
    np.testing.assert_array_equal(given[:, 0], np.floor(pairs.sum(axis=1) / 2 + 0.5).clip(-128, 127))


def test_an_input_that_is_rescaled(x, tmp_path):
    """Real values on ties of the input's scale: x * (1 / s) as in the engine, where x / s rounds otherwise."""
    i = keras.Input(SHAPE, name="image")
    model = keras.Model(i, k.Conv2D(3, 1)(k.Rescaling(1 / 255)(i)))
    pixels = np.random.default_rng(5).integers(0, 511, size=(40, *SHAPE)).astype("float32") / 2
    model = quantized(model, pixels)
    assert_exact(model, pixels, tmp_path)
    path = qpipe.export_onnx(model, tmp_path / "model.onnx").path
    described = json.loads(properties_of(path)["inputs"])["image"]
    assert described["scale"] == pytest.approx(pixels.max() / 255, rel=1e-6)
    assert described["preparation"] == []


def test_a_preparation_without_integer_form_is_in_the_metadata(x, tmp_path):
    i = keras.Input(SHAPE, name="image")
    prepared = k.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])(i)
    model = quantized(keras.Model(i, k.Conv2D(3, 1)(prepared)), x)
    exported = qpipe.export_onnx(model, tmp_path / "model.onnx")
    described = json.loads(properties_of(exported.path)["inputs"])["image"]
    assert [name for name, _ in described["preparation"]] == ["subtract", "divide"]
    assert any("preparation" in note for note in exported.notes)
    assert_exact(model, x, tmp_path)


def test_branches_shared_inputs_and_several_outputs(x, tmp_path):
    keras.utils.set_random_seed(3)
    first, second = keras.Input(SHAPE, name="first"), keras.Input(SHAPE, name="second")
    y = k.Conv2D(3, 1, name="left")(first)
    total = k.Add(name="total")([y, second])
    joined = k.Concatenate(name="joined")([first, total, y])
    outputs = {"total": total, "left": y, "mean": k.GlobalAveragePooling2D(name="mean")(joined)}
    model = quantized(keras.Model({"first": first, "second": second}, outputs), {"first": x, "second": x[::-1]})
    assert_exact(model, {"first": x, "second": x[::-1] * 2}, tmp_path)
    names = {output.name for output in read(tmp_path / "int8.onnx").graph.output}
    assert names == set(outputs)


def test_verify_takes_onnx_files(x, tmp_path):
    model = quantized(small_network(), x)
    path = qpipe.export_onnx(model, tmp_path / "model.onnx").path
    comparison = qpipe.verify(model, path, x)
    assert_near(comparison, 1e-3)
    assert comparison.predictions[0].shape == (40, 4)
    assert {"conv", "classes", "classes_softmax"} <= set(comparison.tensors)


def test_a_changed_file_is_found_out(x, tmp_path):
    """The comparison sees one weight that is off by one."""
    model = quantized(small_network(), x)
    path = qpipe.export_onnx(model, tmp_path / "model.onnx").path
    graph = read(path)
    (kernel,) = [entry for entry in graph.graph.initializer if entry.name.startswith("conv/kernel")]
    integers = onnx.numpy_helper.to_array(kernel).copy()
    integers.flat[0] += 1 if integers.flat[0] < 100 else -1
    kernel.CopyFrom(onnx.numpy_helper.from_array(integers, kernel.name))
    onnx.save(graph, path)
    comparison = qpipe.verify(model, path, x)
    assert comparison.first_difference == "conv"
    assert comparison.tensors["classes"].differing
    assert [name for name, tensor in comparison.isolated.items() if tensor.differing] == ["conv"]


@pytest.mark.parametrize("content", [b"", b"no file of any format"])
def test_a_file_that_is_none(x, tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=r"model\.onnx: ONNX Runtime can't load it"):
        qpipe.verify(quantized(small_network(), x), path, x)


def test_a_file_of_another_model(x, tmp_path):
    i = keras.Input(SHAPE, name="picture")
    other = qpipe.export_onnx(quantized(keras.Model(i, k.Conv2D(2, 1)(i)), x), tmp_path / "model.onnx").path
    with pytest.raises(ExportError, match=r"has the inputs \['picture'\].*the model's are \['image'\]"):
        qpipe.verify(quantized(small_network(), x), other, x)


def test_refusals_name_every_layer_and_nothing_is_written(x, tmp_path):
    config = QuantizerConfig(layers=[LayerRule(match=name, buffer_bitwidth=14) for name in ("conv", "classes")])
    model = quantized(small_network(), x, config)
    with pytest.raises(ExportError, match=r"ONNX.*'conv': its accumulator can reach.*14 bits.*'classes': its acc"):
        qpipe.export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_layer_in_float_is_refused(x, tmp_path):
    i = keras.Input(SHAPE)
    y = k.LayerNormalization(name="norm")(k.Conv2D(4, 3)(i))
    model = quantized(keras.Model(i, k.Conv2D(2, 1)(y)), x)
    with pytest.raises(ExportError, match="layer 'norm': it stays in float"):
        qpipe.export_onnx(model, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"path": "model.tflite"}, r"needs the ending '\.onnx'"),
        ({"path": "model.onnx", "operators": "qdqq"}, r"operators='qdqq' is not known.*qdq"),
        ({"path": "model.onnx", "io": "flaot"}, r"io='flaot' is not known.*float"),
    ],
)
def test_mistakes(x, tmp_path, arguments, what):
    model = quantized(small_network(), x)
    with pytest.raises(ExportError, match=what):
        qpipe.export_onnx(model, tmp_path / arguments.pop("path"), **arguments)


def test_mixed_widths(x, tmp_path):
    """A 16-bit layer between 8-bit ones, and weights of every width."""
    keras.utils.set_random_seed(4)
    y = i = keras.Input(SHAPE)
    rules = []
    for bits in range(2, 9):
        y = k.Conv2D(6, 1, activation="relu", name=f"conv_{bits}")(y)
        rules.append(LayerRule(match=f"conv_{bits}", weight=WeightQuantizerRule(bitwidth=bits)))
    rules.append(LayerRule(match="conv_5", output=OutputQuantizerRule(bitwidth=16)))
    model = quantized(keras.Model(i, y), x, QuantizerConfig(layers=rules))
    for comparison in compared(model, x, tmp_path, ends=("int8",)).values():
        assert_near(comparison, 1e-3)


def test_without_the_packages_there_is_one_sentence(x, tmp_path, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    model = quantized(small_network(), x)
    path = qpipe.export_onnx(model, tmp_path / "model.onnx").path
    with pytest.raises(ExportError, match=r"onnxruntime: pip install 'qpipe\[onnx\]'"):
        qpipe.verify(model, path, x)
