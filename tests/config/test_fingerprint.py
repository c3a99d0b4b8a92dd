import subprocess
import sys
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from qpipe.config.fingerprint import fingerprint
from qpipe.config.schema import (
    ApplicationModel,
    BiasQuantizerConfig,
    BiasQuantizerRule,
    FileModel,
    QuantizerConfig,
    ScaleKind,
    TrainingConfig,
)


def test_known_value_holds_in_every_process():
    program = (
        "from qpipe.config.fingerprint import fingerprint; from qpipe.config.schema import *; "
        "print(fingerprint(QuantizerConfig(), {'b': 1.5, 'a': [True, None]}, b'x'))"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert fingerprint(QuantizerConfig(), {"a": [True, None], "b": 1.5}, b"x") == other
    assert len(other) == 16
    assert int(other, 16) > 0


def test_plain_data_has_a_fixed_name():
    assert fingerprint("a", 1, {"k": [2.5, None]}) == "d51c37950ba03706"


def test_order_of_keys_does_not_count_but_order_of_items_does():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({3: 0.1, "a": 1, None: 2}) == fingerprint({None: 2, "a": 1, 3: 0.1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])
    assert fingerprint((1, 2)) == fingerprint([1, 2])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, True),
        (1, 1.0),
        (1, "1"),
        (None, "null"),
        (b"a", "a"),
        ({}, []),
        ({1: 0.5}, {"1": 0.5}),
        ({1: 0.5}, {True: 0.5}),
        ({1: 0.5}, {1: 0.25}),
        (PurePosixPath("a"), "a"),
        (BiasQuantizerConfig(bitwidth=8), BiasQuantizerRule(bitwidth=8)),
        (ApplicationModel(application="MobileNet"), ApplicationModel(application="MobileNet", train=False)),
        (FileModel(path="a"), FileModel(path="b")),
        (TrainingConfig(), QuantizerConfig()),
    ],
)
def test_different_data_has_different_names(left, right):
    assert fingerprint(left) != fingerprint(right)


def test_parts_do_not_run_together():
    assert fingerprint("ab", "c") != fingerprint("a", "bc")


def test_enums_count_by_value_and_paths_by_their_parts():
    assert fingerprint(ScaleKind.float) == fingerprint("float")
    assert fingerprint(PureWindowsPath("a\\b")) == fingerprint(PurePosixPath("a/b"))


@pytest.mark.parametrize("value", [object(), {object(): 2}, {"a": {1, 2}}, QuantizerConfig])
def test_other_data_is_refused(value):
    with pytest.raises(TypeError, match="a fingerprint takes"):
        fingerprint(value)
