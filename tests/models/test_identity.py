import json
import sys
import zipfile

import pytest

from qpipe.config.fingerprint import fingerprint
from qpipe.config.schema import ApplicationModel, CallableModel, FileModel, LayersModel
from qpipe.models import model_identity


@pytest.fixture
def module(tmp_path, monkeypatch):
    path = tmp_path / "identity_of_a_user" / "nets.py"
    path.parent.mkdir()
    (path.parent / "__init__.py").write_text("")
    path.write_text("def net(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("identity_of_a_user", "identity_of_a_user.nets"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return path


def test_equal_configurations_are_equal_and_others_are_not():
    tiny, small = (ApplicationModel(application="MobileNet", arguments={"alpha": alpha}) for alpha in (0.25, 0.5))
    assert model_identity(tiny) == model_identity(tiny)
    assert fingerprint(model_identity(tiny)) != fingerprint(model_identity(small))


@pytest.mark.parametrize(
    "config",
    [
        CallableModel(_target_="identity_of_a_user.nets.net"),
        CallableModel(_target_="keras.Sequential", arguments={"layers": [{"_target_": "identity_of_a_user.nets.net"}]}),
        CallableModel(_target_="identity_of_a_user.nets.Class.net"),
        LayersModel(layers=[{"layer": "identity_of_a_user.nets.net"}]),
        LayersModel(layers=[{"layer": "Dense", "units": 1, "activation": {"_target_": "identity_of_a_user.nets.net"}}]),
    ],
    ids=["callable", "argument", "class", "layer", "layer's argument"],
)
def test_the_source_of_targets_counts(module, config):
    before = model_identity(config)
    assert before == model_identity(config)
    module.write_text("def net(): return None\n")
    assert model_identity(config) != before


def test_the_file_that_defines_a_name_counts(module):
    (module.parent / "__init__.py").write_text("from identity_of_a_user.nets import net\n")
    config = CallableModel(_target_="identity_of_a_user.net")
    before = model_identity(config)
    module.write_text("def net(): return None\n")
    assert model_identity(config) != before


def test_the_source_of_what_a_trusted_file_names_counts(module, tmp_path):
    path = tmp_path / "trusted.keras"
    part = {"module": "identity_of_a_user.nets", "class_name": "net", "config": {}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(part))
    config = FileModel(path=str(path), trusted=True)
    before = model_identity(config)
    module.write_text("def net(): return None\n")
    assert model_identity(config) != before


def test_files_count_with_name_and_content_and_not_with_their_folder(tmp_path):
    content = {"a/m.keras": b"1", "b/m.keras": b"1", "c/m.keras": b"2", "a/n.keras": b"1"}
    identities = {}
    for name, value in content.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(value)
        identities[name] = model_identity(FileModel(path=str(path)))
    assert identities["a/m.keras"] == identities["b/m.keras"]
    assert identities["a/m.keras"] != identities["c/m.keras"]
    assert identities["a/m.keras"] != identities["a/n.keras"]


def test_kinds_differ():
    callable_model = CallableModel(_target_="keras.applications.MobileNet")
    assert model_identity(callable_model)["kind"] == "CallableModel"
