"""What a training leaves for whoever watches it, whoever's trainer it is."""

import csv
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nnmedseg.files import read_json
from nnmedseg.training.reliable import reliable
from nnmedseg.training.run_record import RunRecord

from ..faults.conftest import tiny  # noqa: F401 - a fixture
from ..faults.faulty_trainers import OneNanTrainer, TinyTrainer
from ..faults.tiny_workspace import NAME, PLANS

LATEST = "checkpoint_latest.pth"


@pytest.fixture
def workspace(tiny):  # noqa: F811
    return tiny


@pytest.fixture
def shown(caplog):
    """Lines that a user of our commands sees."""
    with caplog.at_level(logging.INFO, logger="nnmedseg"):
        yield caplog


def build(folders, trainer_class=TinyTrainer, epochs=3, **settings):
    from nnmedseg.nnunet.registration import register

    register()
    torch.manual_seed(0)
    base = folders.preprocessed / NAME
    plans = {**read_json(base / f"{PLANS}.json"), "continue_training": False}
    dataset = read_json(base / "dataset.json")
    trainer = reliable(trainer_class)(plans, "2d", 0, dataset, torch.device("cpu"))
    own = {
        "num_epochs": epochs,
        "num_iterations_per_epoch": 2,
        "save_every": 1,
        "panel_every": 0,
        **settings,
    }
    for name, value in own.items():
        setattr(trainer, name, value)
    trainer.logger.local_logger.plot_progress_png = lambda folder: None  # it takes a second
    return trainer


def fold_of(trainer):
    return Path(trainer.output_folder)


@pytest.fixture(autouse=True)
def _in_one_process(monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")


def log_of(fold):
    with (fold / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class StoppedTrainer(TinyTrainer):
    """Is stopped in the fourth epoch."""

    def on_validation_epoch_start(self):
        if self.current_epoch == 3:
            raise KeyboardInterrupt
        super().on_validation_epoch_start()


StoppedTrainer.__name__ = TinyTrainer.__name__  # both have the same folder


def test_every_epoch_has_a_row_with_what_nnunet_has_logged(workspace):
    trainer = build(workspace)
    trainer.run_training()
    rows = log_of(fold_of(trainer))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for column, key in (("train_loss", "train_losses"), ("ema_pseudo_dice", "ema_fg_dice")):
        logged = trainer.logger.get_value(key, None)
        assert [float(row[column]) for row in rows] == pytest.approx(logged, rel=1e-4, nan_ok=True)
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert "pseudo_dice_disc" in rows[0]


def test_skipped_batches_are_counted_in_their_epoch(workspace):
    trainer = build(workspace, OneNanTrainer, epochs=2)
    trainer.run_training()
    assert [row["skipped_batches"] for row in log_of(fold_of(trainer))] == ["1", "0"]


def test_an_epoch_that_a_resumed_run_repeats_is_in_no_log_twice(workspace):
    stopped = build(workspace, StoppedTrainer, epochs=5, save_every=2)
    with pytest.raises(KeyboardInterrupt):
        stopped.run_training()
    fold = fold_of(stopped)
    assert [row["epoch"] for row in log_of(fold)] == ["1", "2", "3"]
    resumed = build(workspace, epochs=5)
    resumed.load_checkpoint(str(fold / LATEST))
    assert resumed.current_epoch == 2
    resumed.run_training()
    assert [row["epoch"] for row in log_of(fold)] == ["1", "2", "3", "4", "5"]
    events = EventAccumulator(str(fold / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss/train")] == [1, 2, 3, 4, 5]


def test_only_some_epochs_are_validated_and_the_last_values_stand_between(workspace):
    trainer = build(workspace, epochs=6, val_every=3)
    validated = []
    step = trainer.validation_step

    def counted(batch):
        validated.append(trainer.current_epoch + 1)
        return step(batch)

    trainer.validation_step = counted
    trainer.run_training()
    assert validated == [1, 3, 6]
    for key in ("val_losses", "mean_fg_dice", "ema_fg_dice"):
        values = trainer.logger.get_value(key, None)
        assert values[0] == values[1]
        assert values[2] == values[3] == values[4]
    assert trainer.num_val_iterations_per_epoch == 1


def test_the_best_checkpoint_is_of_a_validated_epoch(workspace):
    trainer = build(workspace, epochs=4, val_every=2)
    written = []
    save = trainer.save_checkpoint

    def noted(path):
        written.append((trainer.current_epoch + 1, path.rpartition("_")[2]))
        save(path)

    trainer.save_checkpoint = noted
    trainer.run_training()
    best = [epoch for epoch, name in written if name == "best.pth"]
    assert best
    assert set(best) <= {1, 2, 4}


def test_nnunets_lines_are_in_its_log_and_ours_on_the_screen(workspace, shown, capsys):
    trainer = build(workspace)
    trainer.run_training()
    lines = shown.messages
    assert [line[:9] for line in lines if line.startswith("Epoch")] == [
        "Epoch 1/3",
        "Epoch 2/3",
        "Epoch 3/3",
    ]
    assert not [line for line in lines if "Pseudo dice" in line or "2026" in line]
    assert "Pseudo dice" not in capsys.readouterr().out
    (log,) = fold_of(trainer).glob("training_log_*.txt")
    assert log.read_text().count("Pseudo dice") == 3


def test_where_our_lines_are_not_shown_nnunets_are(workspace, capsys, caplog):
    with caplog.at_level(logging.WARNING, logger="nnmedseg"):
        trainer = build(workspace, epochs=1)
        trainer.run_training()
    assert "Pseudo dice" in capsys.readouterr().out


def test_what_our_own_code_says_is_shown_and_kept(workspace, shown):
    trainer = build(workspace)
    trainer.print_to_log_file("Skipped a batch:", "case_1")
    (log,) = fold_of(trainer).glob("training_log_*.txt")
    assert "Skipped a batch: case_1" in shown.messages
    assert "Skipped a batch: case_1" in log.read_text()


def test_panels_are_drawn_every_few_epochs_and_at_the_end(workspace):
    trainer = build(workspace, epochs=5, panel_every=2)
    trainer.run_training()
    panels = sorted((fold_of(trainer) / "panels").iterdir())
    assert [path.name for path in panels] == ["epoch_0002.png", "epoch_0004.png", "epoch_0005.png"]
    assert np.asarray(Image.open(panels[0])).ndim == 3


def test_panels_change_nothing_of_the_training(workspace):
    losses = []
    for panel_every in (0, 1):
        trainer = build(workspace, panel_every=panel_every)
        np.random.seed(0)  # noqa: NPY002 - the augmentation's generator
        trainer.run_training()
        log = trainer.logger.get_value
        losses.append([log("train_losses", None), log("val_losses", None)])
    assert losses[0] == losses[1]


def test_a_panel_that_fails_ends_no_training(workspace, shown):
    trainer = build(workspace, panel_every=1)
    trainer.image_for_validation = None
    trainer.run_training()
    assert trainer.current_epoch == 3
    assert len([line for line in shown.messages if "No more panels" in line]) == 1


def test_progress_is_drawn_of_all_epochs_though_not_in_each(workspace):
    trainer = build(workspace, epochs=4)
    drawn = []
    logger = trainer.logger.local_logger
    draw = type(logger).plot_progress_png

    def noted(folder):
        drawn.append(len(trainer.logger.get_value("train_losses", None)))
        draw(logger, folder)

    logger.plot_progress_png = noted
    trainer.run_training()
    assert drawn == [1, 4]
    assert (fold_of(trainer) / "progress.png").is_file()


def test_the_record_has_the_networks_cost_and_how_far_the_training_is(workspace):
    trainer = build(workspace)
    trainer.run_record = RunRecord(fold_of(trainer))
    trainer.run_record.begin({}, resumed=False)
    trainer.run_training()
    record = trainer.run_record.read()
    first, norm, last = 3 * 4 * 9 + 4, 4 + 4, 4 * 2 + 2
    assert record["parameters"] == record["trained_parameters"] == first + norm + last
    assert record["flops_of_a_patch"] == 2 * 16 * 16 * (3 * 4 * 9 + 4 * 2)
    assert record["epochs_done"] == 3
    assert record["peak_memory_bytes"] > 2**20
