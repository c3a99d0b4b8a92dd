"""The C array: the bytes of the file, aligned, with what a resolver needs; a compiler takes it where there is one."""

import re
import shutil
import subprocess

import pytest
from keras import layers as k
from small_networks_to_export import config, quantized, residual

import qpipe
from qpipe.errors import ExportError
from qpipe.export.c_array import write_c_array
from qpipe.export.litert.options import VERSIONS
from qpipe.export.micro import MICRO_OPERATORS, RESOLVER_METHODS

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed; there is none for Windows")


@pytest.fixture(scope="module")
def model():
    return quantized(residual)


@pytest.fixture
def path(model, tmp_path):
    return qpipe.export_litert(model, tmp_path / "net-1.tflite").path


def test_the_bytes_of_the_file(path):
    array = write_c_array(path)
    assert (array.header.name, array.source.name) == ("net-1.h", "net-1.cc")
    text = array.source.read_text()
    assert "alignas(16) extern const unsigned char net_1_tflite[] = {" in text
    assert bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", text)) == path.read_bytes()


def test_the_header_names_the_resolvers_methods(path):
    array = write_c_array(path)
    assert array.missing == ()
    assert "all 6 operators" in array.summary()
    header = array.header.read_text()
    assert "MicroMutableOpResolver<6>" in header
    for method in ("AddConv2D", "AddDepthwiseConv2D", "AddAdd", "AddMean", "AddFullyConnected", "AddSoftmax"):
        assert f"resolver.{method}();" in header


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
def test_a_compiler_takes_it(path, tmp_path):
    write_c_array(path)
    program = '#include <cstdint>\n#include <cstdio>\n#include "net-1.h"\nint main() {\n  unsigned sum = 0;\n'
    program += "  for (std::size_t i = 0; i < net_1_tflite_length; ++i) sum += net_1_tflite[i];\n"
    program += '  std::printf("%zu %u %d", net_1_tflite_length, sum, int(std::uintptr_t(net_1_tflite) % 16));\n}\n'
    (tmp_path / "main.cc").write_text(program)
    subprocess.run(
        ["c++", "-std=c++11", "-Wall", "-Werror", "main.cc", "net-1.cc", "-o", "main"], cwd=tmp_path, check=True
    )
    printed = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout
    content = path.read_bytes()
    assert printed == f"{len(content)} {sum(content)} 0"


def test_an_operator_that_microcontrollers_lack_is_reported(path, monkeypatch):
    monkeypatch.setattr("qpipe.export.c_array.MICRO_OPERATORS", MICRO_OPERATORS - {"MEAN"})
    array = write_c_array(path)
    assert array.missing == ("MEAN",)
    assert array.summary() == "LiteRT for Microcontrollers does not have MEAN"
    assert "does not have MEAN" in array.header.read_text()
    assert "AddMean" not in array.header.read_text()


def test_wrong_files(tmp_path):
    with pytest.raises(ExportError, match="can't be read"):
        write_c_array(tmp_path / "none.tflite")
    (tmp_path / "text.tflite").write_text("no LiteRT file")
    with pytest.raises(ExportError, match="is no LiteRT file"):
        write_c_array(tmp_path / "text.tflite")


def test_tables_work_on_microcontrollers(tmp_path):
    def build(x):
        return k.Activation("gelu")(k.Conv2D(2, 1)(x))

    exported = qpipe.export_litert(quantized(build, config()), tmp_path / "model.tflite")
    assert "GATHER" in exported.operators
    assert write_c_array(exported.path).missing == ()


def test_every_method_belongs_to_an_operator_that_is_written():
    assert set(VERSIONS) - {"RELU", "RELU6"} <= set(RESOLVER_METHODS)
