import io

from rich.console import Console

from qpipe.reports.terminal import Terminal


def plain_terminal():
    output = io.StringIO()
    return Terminal(Console(file=output, highlight=False)), output


def test_plain_output_has_headings_times_and_few_progress_lines():
    terminal, output = plain_terminal()
    with terminal.stage("calibrate", "calibration"), terminal.progress("calibrating") as on_batch:
        for step in range(1, 101):
            on_batch(step, 100)
    text = output.getvalue()
    assert text.startswith("calibration")
    assert "\x1b" not in text
    assert text.count("calibrating:") == 4
    assert "calibrating: 100/100" in text
    assert 0 <= terminal.times["calibrate"] < 5


def test_the_time_of_a_failed_stage_is_measured_too():
    terminal, _ = plain_terminal()
    try:
        with terminal.stage("fold", "folding"):
            raise ValueError
    except ValueError:
        pass
    assert "fold" in terminal.times


def test_epoch_lines_show_what_was_measured():
    terminal, output = plain_terminal()
    terminal.epoch(3, 12, {"loss": 0.5, "accuracy": 0.75, "val_loss": 0.25, "val_accuracy": 1.0})
    assert (
        output.getvalue().strip() == "epoch  3/12  loss 0.5000  accuracy 0.7500  val loss 0.2500  val accuracy 1.0000"
    )
