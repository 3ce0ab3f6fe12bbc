"""Data-loading processes that die, and cases that cannot be read."""

import multiprocessing
import os
import signal
import sys

import numpy as np
import pytest

from nnmedseg.cli import train
from nnmedseg.errors import DataError, UserError

from .faulty_trainers import TinyTrainer
from .test_interruption import alive_in_group
from .tiny_workspace import CASES, NAME, PLANS, PLUGIN, new_trainer

# The thread that collects nnU-Net's batches dies with a traceback when a process does.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="needs processes that are forked")


def draw_until_it_fails(loader, batches=200):
    for _ in range(batches):
        next(loader)


def stored(folders, case):
    return folders.preprocessed / NAME / "tiny_2d" / f"{case}.uint8"


def truncate(path):
    os.truncate(path, path.stat().st_size - 100)


@pytest.fixture
def loading(tiny):
    """A trainer whose data come from two processes."""
    trainer = new_trainer(TinyTrainer, tiny, workers=2)
    yield trainer
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        loader._finish()


@needs_fork
def test_a_killed_process_is_a_message_with_its_case(loading):
    loader = loading.dataloader_train
    os.kill(loader._loader._processes[1].pid, signal.SIGKILL)
    with pytest.raises(UserError, match="process 2 of 2 was ended by SIGKILL; it had case case_"):
        draw_until_it_fails(loader)


@needs_fork
def test_a_process_that_died_with_a_lock_that_all_share_is_a_message_too(loading):
    loader = loading.dataloader_train
    lock = loader._loader.abort_event._cond
    lock.acquire()  # as the process would have that is killed next, of which nobody releases it
    try:
        os.kill(loader._loader._processes[0].pid, signal.SIGKILL)
        with pytest.raises(UserError, match="process 1 of 2 was ended by SIGKILL"):
            draw_until_it_fails(loader)
    finally:
        lock.release()


@needs_fork
def test_no_process_is_left_of_a_loader_that_failed(loading):
    processes = loading.dataloader_train._loader._processes
    os.kill(processes[0].pid, signal.SIGKILL)
    with pytest.raises(UserError):
        draw_until_it_fails(loading.dataloader_train)
    assert not any(process.is_alive() for process in processes)


class KillingTrainer(TinyTrainer):
    """Kills one of its own data-loading processes when an epoch begins, if told to."""

    kills = False

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        if self.kills:
            os.kill(self.dataloader_train._loader._processes[0].pid, signal.SIGKILL)


@needs_fork
def test_a_training_whose_process_is_killed_ends_with_the_message_alone(tiny, capfd):
    trainer = new_trainer(KillingTrainer, tiny, num_iterations_per_epoch=200)
    trainer.kills = True
    os.environ["nnUNet_n_proc_DA"] = "1"
    with pytest.raises(UserError, match="process 1 of 1 was ended by SIGKILL"):
        trainer.run_training()
    assert "Traceback" not in capfd.readouterr().err
    trainer.dataloader_val._finish()


class KilledTrainer(TinyTrainer):
    """Of which each process is killed that loads data."""

    def get_tr_and_val_datasets(self):
        return tuple(map(Deadly, super().get_tr_and_val_datasets()))


class Deadly:
    def __init__(self, dataset):
        self.dataset = dataset
        self.identifiers = dataset.identifiers

    def load_case(self, case):
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.dataset.load_case(case)


@needs_fork
def test_a_process_that_is_killed_before_its_first_batch_is_a_message(tiny):
    with pytest.raises(UserError, match=r"process has failed.* the cases case_\d") as caught:
        new_trainer(KilledTrainer, tiny, workers=1)
    assert "if it was killed, use fewer --workers" in caught.value.mend


@pytest.mark.parametrize("workers", [0, 1])
def test_a_case_that_is_damaged_while_training_goes_on_is_named(tiny, workers):
    trainer = new_trainer(TinyTrainer, tiny, workers=workers)
    truncate(stored(tiny, "case_2"))
    with pytest.raises(DataError, match=r"case case_2: .*it has \d+ of \d+ bytes"):
        draw_until_it_fails(trainer.dataloader_train)
    trainer.dataloader_val._finish()


def test_a_damaged_array_of_nnunets_is_named_too(tiny):
    blosc2 = pytest.importorskip("blosc2")
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    from nnmedseg.nnunet.dataset import MedSegDataset

    folder = tiny.preprocessed / NAME / "tiny_2d"
    dataset = MedSegDataset(str(folder))
    for case in CASES:
        data, labels, _, properties = dataset.load_case(case)
        data, labels = data[:], labels[:]
        properties["class_locations"] = {1: np.argwhere(labels == 1)}
        nnUNetDatasetBlosc2.save_case(
            data, labels, properties, str(folder / case),
            chunks=data.shape, blocks=data.shape, chunks_seg=labels.shape, blocks_seg=labels.shape,
        )  # fmt: skip
        stored(tiny, case).unlink()
    assert blosc2.open(str(folder / "case_1.b2nd")).shape == data.shape
    trainer = new_trainer(TinyTrainer, tiny)
    truncate(folder / "case_1.b2nd")
    with pytest.raises(DataError, match="the preprocessed case case_1 cannot be read"):
        draw_until_it_fails(trainer.dataloader_train)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_come_through(tiny, workers):
    trainer = new_trainer(TinyTrainer, tiny, workers=workers)
    watched = next(trainer.dataloader_train)
    assert set(watched["keys"]) <= set(CASES[:4])
    assert watched["data"].shape == (4, 3, 16, 16)
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        loader._finish()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_the_command_exits_with_2_and_leaves_no_process(tiny, capsys, workers):
    for case in CASES[:4]:
        truncate(stored(tiny, case))
    before = set(alive_in_group(os.getpgrp()))
    code = train.main(
        ["900", "2d", "0", "-tr", "TinyTrainer", "-p", PLANS, "--plugin", str(PLUGIN),
         "--epochs", "1", "--iterations", "2", "--device", "cpu", "--workers", workers,
         "--workspace", str(tiny.raw.parent)]
    )  # fmt: skip
    assert code == 2
    assert "error: case case_" in capsys.readouterr().err
    assert not multiprocessing.active_children()
    assert set(alive_in_group(os.getpgrp())) <= before


def test_nothing_is_left_in_the_folder_for_temporary_files(tiny, tmp_path, monkeypatch):
    import tempfile

    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    trainer = new_trainer(TinyTrainer, tiny)
    next(trainer.dataloader_train)
    assert list(folder.rglob(str(os.getpid())))
    del trainer
    import gc

    gc.collect()
    assert not list(folder.iterdir())
