"""The log of epochs: rows of log.csv and event files of TensorBoard."""

import csv

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nnmedseg.training.training_log import CsvLog, EpochResult, EventLog


def result(epoch, train_loss=0.5):
    return EpochResult(
        epoch=epoch,
        train_loss=train_loss,
        val_loss=0.25,
        pseudo_dice=0.75,
        pseudo_dice_of_classes={"liver": 0.9, "tumour": float("nan")},
        ema_pseudo_dice=0.7,
        learning_rate=0.001,
        seconds=12.5,
        images_per_second=33.0,
        skipped_batches=2,
        peak_memory_mib=None,
    )


def rows(folder):
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def scalars(folder, tag):
    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return [(event.step, round(event.value, 4)) for event in accumulator.Scalars(tag)]


def test_each_class_has_a_column_of_its_own(tmp_path):
    CsvLog(tmp_path, 0).append(result(1))
    (row,) = rows(tmp_path)
    assert (row["pseudo_dice_liver"], row["pseudo_dice_tumour"]) == ("0.9", "")
    assert (row["skipped_batches"], row["peak_memory_mib"]) == ("2", "")


def test_a_resumed_log_has_no_epoch_twice(tmp_path):
    log = CsvLog(tmp_path, 0)
    for epoch in (1, 2, 3):
        log.append(result(epoch))
    resumed = CsvLog(tmp_path, 1)
    assert [row["epoch"] for row in rows(tmp_path)] == ["1"]
    resumed.append(result(2, train_loss=0.4))
    assert [(row["epoch"], row["train_loss"]) for row in rows(tmp_path)] == [
        ("1", "0.5"),
        ("2", "0.4"),
    ]


def test_half_a_row_of_a_killed_process_is_removed(tmp_path):
    log = CsvLog(tmp_path, 0)
    log.append(result(1))
    log.append(result(2))
    whole = log.path.read_text()
    log.path.write_text(whole[:-7])
    CsvLog(tmp_path, 1).append(result(2))
    assert log.path.read_text() == whole


def test_a_new_run_begins_a_new_log(tmp_path):
    CsvLog(tmp_path, 0).append(result(1))
    CsvLog(tmp_path, 0)
    assert rows(tmp_path) == []


def test_tensorboard_shows_the_epochs_as_steps(tmp_path):
    log = EventLog(tmp_path, 0)
    log.append(result(1))
    log.append(result(2, train_loss=0.4))
    assert scalars(tmp_path, "loss/train") == [(1, 0.5), (2, 0.4)]
    assert scalars(tmp_path, "pseudo_dice/liver") == [(1, 0.9), (2, 0.9)]


@pytest.mark.parametrize("epochs_done", [0, 1, 2])
def test_tensorboard_shows_repeated_epochs_once(tmp_path, epochs_done):
    before = EventLog(tmp_path, 0)
    for epoch in (1, 2, 3):
        before.append(result(epoch))
    resumed = EventLog(tmp_path, epochs_done)
    for epoch in range(epochs_done + 1, 4):
        resumed.append(result(epoch, train_loss=0.1))
    expected = [(epoch, 0.5 if epoch <= epochs_done else 0.1) for epoch in (1, 2, 3)]
    assert scalars(tmp_path, "loss/train") == expected


def test_no_machine_is_named(tmp_path):
    import socket

    EventLog(tmp_path, 0).append(result(1))
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert socket.gethostname() not in file.name
    assert socket.gethostname().encode() not in file.read_bytes()
