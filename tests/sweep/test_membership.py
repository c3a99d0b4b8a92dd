import pytest

from qpipe.sweep.membership import label, membership, short_names


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["quantizer.weight.bitwidth"], ["bitwidth"]),
        (["quantizer.weight.bitwidth", "quantizer.output.bitwidth"], ["weight.bitwidth", "output.bitwidth"]),
        (["quantizer.weight.bitwidth", "folding.mode"], ["bitwidth", "mode"]),
        (["+experiment", "seed"], ["experiment", "seed"]),
        (["a.b.c", "d.b.c", "b.c", "c"], ["a.b.c", "d.b.c", "b.c", "c"]),
        (["hydra/launcher", "launcher"], ["hydra.launcher", "launcher"]),
    ],
)
def test_short_names_tell_keys_apart(keys, names):
    assert list(short_names(keys).values()) == names


def test_label_rounds_long_numbers_and_cuts_long_texts():
    swept = {"bitwidth": "4", "rate": "0.00012345678901", "path": "/a/very/long/" + "x" * 40 + "/data.npz"}
    text = label(swept)
    assert text.startswith("bitwidth=4 rate=0.0001235 path=…")
    assert text.endswith("x/data.npz")
    assert len(text) < 80


def test_place_of_a_job():
    member = membership(
        "net",
        "parent",
        job="bitwidth=4 experiment=a",
        number=3,
        swept={"bitwidth": "4", "experiment": "a"},
        groups=["experiment"],
        identity="abc",
    )
    assert member.name == "bitwidth=4 experiment=a · net"
    assert member.parameters == {"swept/experiment": "a"}
    assert member.tags == {
        "mlflow.parentRunId": "parent",
        "qpipe.sweep.job": "bitwidth=4 experiment=a",
        "qpipe.sweep.number": "3",
        "qpipe.sweep.identity": "abc",
        "swept/bitwidth": "4",
        "swept/experiment": "a",
    }
