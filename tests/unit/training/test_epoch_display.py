"""What a user sees of an epoch."""

import dataclasses
import logging
import sys
import time

import pytest

from nnmedseg.training.epoch_display import EpochDisplay, Pace, describe

from .test_training_log import result


class Terminal:
    """A stream that says it is a terminal, and keeps what is written."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_rest_is_judged_by_the_epochs_after_the_first(clock):
    pace = Pace(0)
    clock[0] = 100.0
    pace.epoch_ends(1)
    clock[0] = 120.0
    pace.epoch_ends(3)
    assert pace.seconds_left(3, 10) == pytest.approx(70)


def test_a_resumed_run_counts_the_epochs_that_remain(clock):
    pace = Pace(6)
    clock[0] = 30.0
    pace.epoch_ends(7)
    assert pace.seconds_left(7, 10) == pytest.approx(90)


def test_the_first_epoch_tells_the_rest_before_its_end(clock):
    pace = Pace(0)
    assert pace.seconds_left(0, 10) is None
    clock[0] = 5.0
    assert pace.seconds_left(0.5, 10) == pytest.approx(95)


@pytest.mark.parametrize("is_best", [True, False])
def test_a_line_fits_a_terminal(is_best):
    epoch = dataclasses.replace(result(1000), skipped_batches=0, learning_rate=1.23e-5)
    line = describe(epoch, 1000, validated=True, is_best=is_best)
    assert len(line) <= 80
    assert ("(best)" in line) == is_best


def test_an_epoch_without_validation_claims_none():
    line = describe(result(1), 10, validated=False, is_best=False)
    assert "Dice" not in line
    assert "validation" not in line


def run_an_epoch(display):
    display.epoch_starts(0, 2, 3, 4)
    display.batch_trained(0.5, 0.01)
    display.batch_trained(float("nan"), 0.01)
    display.batch_validated()
    display.epoch_ends(result(1), validated=True, is_best=False)
    display.close()


def test_without_a_terminal_an_epoch_is_one_line(caplog, capsys):
    with caplog.at_level(logging.INFO):
        run_an_epoch(EpochDisplay(0))
    assert len(caplog.messages) == 1
    assert "33.0 images/s" in caplog.messages[0]
    assert caplog.messages[0].endswith("left")
    assert capsys.readouterr().out == ""


def test_on_a_terminal_lines_scroll_above_the_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr("nnmedseg.training.epoch_display.SECONDS_BETWEEN_REFRESHES", 0)
    handler = logging.StreamHandler(terminal)
    # Commands that other tests have run leave handlers behind.
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    logging.getLogger("nnmedseg").setLevel(logging.INFO)
    try:
        run_an_epoch(EpochDisplay(0))
    finally:
        logging.getLogger("nnmedseg").setLevel(logging.NOTSET)
    assert "Epoch 1/2" in terminal.text
    assert "loss 0.500" in terminal.text
    assert "images/s" in terminal.text
    assert terminal.text.count("validation 0.2500") == 1
    assert handler.stream is terminal
    assert sys.stdout is terminal
