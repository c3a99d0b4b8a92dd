"""`qpipe.verify` finds what differs, says where, and tells own differences from inherited ones."""

import numpy as np
import pytest
from keras import layers as k
from small_networks_to_export import config, quantized, residual, samples

import qpipe
from qpipe.errors import ExportError

schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="LiteRT is not installed; none for Windows")


@pytest.fixture(scope="module")
def model():
    return quantized(residual)


@pytest.fixture
def path(model, tmp_path):
    qpipe.export_litert(model, tmp_path / "model.tflite")
    return tmp_path / "model.tflite"


def test_the_same_integers(model, path):
    comparison = qpipe.verify(model, path, samples())
    assert (comparison.samples, comparison.mismatch_rate, comparison.largest_lsb) == (96, 0.0, 0)
    assert list(comparison.tensors)[:3] == ["stem", "depthwise", "pointwise"]
    assert comparison.isolated.keys() == comparison.tensors.keys()
    assert "the very same integers" in comparison.summary()
    expected = np.rint(model.predict(samples(), verbose=0) * 256)
    assert np.abs(comparison.predictions[0] * 256 - expected).max() == 0


def tampered(path, tensor: str, change):
    """Changes the bytes of a constant of the file."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    index = next(t.buffer for t in model.subgraphs[0].tensors if t.name.decode() == tensor)
    content = path.read_bytes()
    old = bytes(model.buffers[index].data)
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, change(np.frombuffer(old, np.uint8).copy()).tobytes()))


def test_a_changed_weight_is_found_in_its_layer(model, path):
    def change(weights):
        weights[0] ^= 0x7F
        return weights

    tampered(path, "pointwise/kernel", change)
    comparison = qpipe.verify(model, path, samples())
    assert comparison.first_difference == "pointwise"
    assert comparison.differing_layers == ["pointwise"]
    assert comparison.tensors["add"].differing
    assert not comparison.isolated["add"].differing
    assert "they part first in 'pointwise'" in comparison.summary()


def test_bounds(model, path, tmp_path):
    exported = qpipe.export_litert(model, tmp_path / "again.tflite")
    assert exported.bound.is_kept(qpipe.verify(model, path, samples()))
    tampered(path, "depthwise/kernel", lambda weights: weights ^ 0x30)
    assert not exported.bound.is_kept(qpipe.verify(model, path, samples()))


def test_four_bit_convolutions_have_a_bound_by_layer(tmp_path):
    def build(x):
        return k.Dense(3, name="dense")(k.Flatten()(k.Conv2D(8, 3, name="conv")(k.Conv2D(8, 1, name="pointwise")(x))))

    narrow = quantized(build, config(weight=4))
    exported = qpipe.export_litert(narrow, tmp_path / "model.tflite")
    comparison = qpipe.verify(narrow, tmp_path / "model.tflite", samples())
    assert comparison.differing_layers == ["conv"]
    assert comparison.isolated["conv"].largest_lsb == 1
    assert exported.bound.output is None
    assert exported.bound.is_kept(comparison)
    assert "FULLY_CONNECTED" in exported.operators


def test_wrong_files(model, path, tmp_path):
    cases = {"model.pb": "unknown ending '.pb'", "none.tflite": "there is no such file"}
    (tmp_path / "model.pb").write_bytes(b"")
    for name, message in cases.items():
        with pytest.raises(ExportError, match=message):
            qpipe.verify(model, tmp_path / name, samples())
    for content in (b"", b"no LiteRT file at all", path.read_bytes()[:1000]):
        path.write_bytes(content)
        with pytest.raises(ExportError, match="LiteRT can't load it"):
            qpipe.verify(model, path, samples())


def test_a_file_of_another_model(model, tmp_path):
    other = quantized(lambda x: k.Conv2D(2, 1, name="other")(x))
    qpipe.export_litert(other, tmp_path / "model.tflite")
    with pytest.raises(ExportError, match=r"has the inputs \['image'\] and the outputs \['other'\]; the model has"):
        qpipe.verify(model, tmp_path / "model.tflite", samples())


def test_a_file_that_the_runtime_can_not_compute(model, path, monkeypatch):
    from qpipe.export.litert.run import LoadedFile

    def failing(self, arrays):
        raise RuntimeError("no kernel\nNode number 3")

    monkeypatch.setattr(LoadedFile, "run", failing)
    with pytest.raises(ExportError, match=r"model.tflite: LiteRT can't run it: no kernel$"):
        qpipe.verify(model, path, samples())
