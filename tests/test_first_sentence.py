import pytest

from qpipe.first_sentence import first_sentence


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("No luck. And more.", "No luck"),
        ("Wrong shape:\nTraceback (most recent call last):\n  File 'x.py'", "Wrong shape"),
        ("{{function_node __wrapped__Add_1}} Shapes [1] vs. [2] [Op:AddV2] name: ", "Shapes [1] vs. [2]"),
        ("\x1b[1mToo small\x1b[0m", "Too small"),
        ("Traceback (most recent call last): x", "ValueError"),
    ],
)
def test_what_a_user_needs_is_left(message, sentence):
    assert first_sentence(ValueError(message)) == sentence
