"""Where LiteRT is not installed (there is none for Windows), one sentence says so, and a job goes on with a warning."""

import importlib.util

import pytest
from small_networks_to_export import quantized, residual, samples

import qpipe
from qpipe.errors import ExportError
from qpipe.export.c_array import write_c_array


@pytest.fixture
def without_litert(monkeypatch):
    found = importlib.util.find_spec
    missing = lambda name, *arguments: None if name == "ai_edge_litert" else found(name, *arguments)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", missing)
    monkeypatch.delitem(vars(qpipe), "export_litert", raising=False)


@pytest.mark.usefixtures("without_litert")
def test_one_sentence(tmp_path):
    sentence = r"LiteRT files need the packages ai-edge-litert \(.*not for Windows\) and flatbuffers; install them, or"
    with pytest.raises(ExportError, match=sentence):
        qpipe.export_litert(None, tmp_path / "model.tflite")
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\0\0\0\0TFL3")
    with pytest.raises(ExportError, match=sentence):
        qpipe.verify(quantized(residual), path, samples())
    with pytest.raises(ExportError, match=sentence):
        write_c_array(path)
