import sys

import pytest

from qpipe.errors import ConfigError
from qpipe.targets import call, check_target, check_targets, instantiated, locate

MODULE = """
class Net:
    def __init__(self, width=1, **more):
        self.width, self.more = width, more

    @classmethod
    def wide(cls, factor):
        return cls(10 * factor)


def build(width, *, depth=2):
    return width, depth


def parses():
    import argparse

    argparse.ArgumentParser().parse_args(["--nothing"])


def fails():
    raise ValueError("No luck today. And more.")


SIZE = 3
"""


@pytest.fixture(autouse=True)
def _users_module(tmp_path, monkeypatch):
    (tmp_path / "users_nets.py").write_text(MODULE)
    (tmp_path / "broken_nets.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "exiting_nets.py").write_text("import sys\nsys.exit('usage')\n")
    (tmp_path / "wrong_nets.py").write_text("def (:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("users_nets", "broken_nets", "wrong_nets", "exiting_nets"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_modules_of_the_working_folder_are_found():
    assert call("users_nets.build", {"width": 3}, "model", depth=4, unknown=5) == (3, 4)
    assert call("users_nets.build", {"width": 3, "depth": 1}, "model", depth=4) == (3, 1)
    assert call("users_nets.Net.wide", {"factor": 2}, "model").width == 20
    assert call("users_nets.Net", {"width": 2, "other": 1}, "model").more == {"other": 1}


def test_targets_inside_arguments_come_first():
    value = {"a": [{"_target_": "users_nets.build", "width": {"_target_": "users_nets.Net"}}], "b": 1}
    made = instantiated(value, "training")
    assert made["b"] == 1
    assert made["a"][0][0].width == 1


MISTAKES = {
    "tiny": "model: 'tiny' is not allowed; give a dotted path",
    "users nets.build": "give a dotted path",
    "user_nets.build": "there is no module 'user_nets' in the working folder",
    "users_nets.biuld": "'users_nets' has no 'biuld'; did you mean 'build'?",
    "users_nets.Net.wid": "'users_nets.Net' has no 'wid'; did you mean 'wide'?",
    "users_nets.Ned.wide": "'users_nets' has no 'Ned'; did you mean 'Net'?",
    "users_nets.SIZE": "is a int; a class or a function is needed",
    "broken_nets.build": "importing 'broken_nets' needs the module 'nothing_of_this_name', which is missing",
    "exiting_nets.build": "importing 'exiting_nets' called sys.exit('usage')",
    "wrong_nets.build": "importing 'wrong_nets' raised SyntaxError",
    "keras.layers.Conv2": "keras.layers has no 'Conv2'; did you mean",
    "keras.layer.Conv2D": "Keras has no module 'keras.layer'; did you mean 'keras.layers'",
}


@pytest.mark.parametrize("path", MISTAKES)
def test_mistake_in_the_path(path):
    with pytest.raises(ConfigError) as mistake:
        locate(path, "model")
    assert MISTAKES[path] in str(mistake.value)
    assert "\n" not in str(mistake.value)


def test_mistake_in_an_argument():
    with pytest.raises(ConfigError, match=r"users_nets\.build has no argument 'widht'; did you mean 'width'"):
        call("users_nets.build", {"widht": 3}, "model")
    with pytest.raises(ConfigError, match=r"raised TypeError: .*'width'"):
        call("users_nets.build", {}, "model")


def test_error_inside_the_function():
    with pytest.raises(ConfigError, match=r"^model: users_nets.fails raised ValueError: No luck today$"):
        call("users_nets.fails", {}, "model")
    with pytest.raises(ConfigError, match=r"^model: users_nets.parses called sys\.exit\(2\)$"):
        call("users_nets.parses", {}, "model")


def test_keras_is_checked_without_being_imported():
    check_target("keras.optimizers.SGD", "training.float.optimizer", {"momentum": 0.9})
    with pytest.raises(
        ConfigError, match=r"training\.float\.optimizer: .*no argument 'momentun'; did you mean 'momentum'"
    ):
        check_target("keras.optimizers.SGD", "training.float.optimizer", {"momentun": 0.9})
    with pytest.raises(ConfigError, match=r"callbacks\[0\]: .*has no 'TerminateOnNan'; did you mean 'TerminateOnNaN'"):
        check_targets({"callbacks": [{"_target_": "keras.callbacks.TerminateOnNan"}]}, "training")
