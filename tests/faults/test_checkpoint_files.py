"""Checkpoint files that are damaged, hostile, or half written."""

import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nnmedseg.errors import UserError, WeightsError
from nnmedseg.training.checkpoints import (
    BEST,
    FINAL,
    LATEST,
    PREVIOUS,
    link_as_latest,
    newest_readable,
    plain,
    read_checkpoint,
    remove_unfinished,
    write_checkpoint,
)
from nnmedseg.training.resuming import random_states, set_random_states


class Hostile:
    """Its unpickling makes a file."""

    def __init__(self, made: Path):
        self.made = made

    def __reduce__(self):
        return (Path.touch, (self.made,))


def content(epoch: int) -> dict:
    return {"network_weights": {"weight": torch.full((100, 100), epoch)}, "current_epoch": epoch}


@pytest.fixture
def fold(tmp_path):
    """A fold with the checkpoints of epochs 1 and 2."""
    for epoch in (1, 2):
        write_checkpoint(content(epoch), tmp_path / LATEST)
    return tmp_path


def epoch_of(fold):
    path, found = newest_readable(fold)
    return path.name, found["current_epoch"]


def test_the_latest_and_the_previous_one_are_kept(fold):
    assert read_checkpoint(fold / LATEST)["current_epoch"] == 2
    assert read_checkpoint(fold / PREVIOUS)["current_epoch"] == 1
    assert len(list(fold.iterdir())) == 2


def test_the_best_checkpoint_becomes_the_latest_without_a_copy(fold):
    write_checkpoint(content(3), fold / BEST)
    link_as_latest(fold / BEST)
    assert (fold / LATEST).samefile(fold / BEST)
    assert read_checkpoint(fold / PREVIOUS)["current_epoch"] == 2


def test_a_new_best_checkpoint_leaves_the_latest_one_as_it_was(fold):
    write_checkpoint(content(3), fold / BEST)
    link_as_latest(fold / BEST)
    write_checkpoint(content(4), fold / BEST)
    assert epoch_of(fold) == (LATEST, 3)


def test_a_final_checkpoint_moves_no_other(fold):
    write_checkpoint(content(3), fold / FINAL)
    assert epoch_of(fold) == (FINAL, 3)
    assert read_checkpoint(fold / PREVIOUS)["current_epoch"] == 1


def test_a_fold_without_checkpoints_has_none_to_resume_from(tmp_path):
    assert newest_readable(tmp_path) is None


def test_the_best_checkpoint_is_none_to_resume_from(tmp_path):
    write_checkpoint(content(1), tmp_path / BEST)
    assert newest_readable(tmp_path) is None


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, flip, lambda data: b""], ids=["cut", "flipped", "empty"])
def test_a_damaged_latest_checkpoint_gives_way_to_the_previous_one(fold, damage, caplog):
    latest = fold / LATEST
    latest.write_bytes(damage(latest.read_bytes()))
    assert epoch_of(fold) == (PREVIOUS, 1)
    reports = [record.getMessage() for record in caplog.records]
    assert len(reports) == 1
    assert reports[0].startswith("Passing over checkpoint_latest.pth: ")
    assert "\n" not in reports[0]


def test_checkpoints_of_which_none_can_be_read_are_an_error(fold):
    for name in (LATEST, PREVIOUS):
        (fold / name).write_bytes(b"")
    with pytest.raises(WeightsError, match="cannot be read"):
        newest_readable(fold)


def write_pickle(value, path):
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("write", [torch.save, write_pickle])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, write):
    made = tmp_path / "made"
    write({**content(1), "extra": Hostile(made)}, tmp_path / LATEST)
    with pytest.raises(WeightsError, match="may be code"):
        read_checkpoint(tmp_path / LATEST)
    assert not made.exists()


def test_the_hostile_file_of_these_tests_is_hostile(tmp_path):
    torch.save(Hostile(tmp_path / "made"), tmp_path / LATEST)
    torch.load(tmp_path / LATEST, weights_only=False)
    assert (tmp_path / "made").exists()


def test_numpys_numbers_as_nnunet_saves_them_are_read(tmp_path):
    numbers = [np.float64(1.5), np.float32(2.5), np.float16(3), np.int64(4), np.bool_(True)]
    torch.save({**content(1), "logging": {"lrs": numbers}}, tmp_path / LATEST)
    assert read_checkpoint(tmp_path / LATEST)["logging"]["lrs"] == [1.5, 2.5, 3, 4, True]


def test_a_number_written_under_numpy_1_is_read(tmp_path):
    held = pickle.dumps({"network_weights": {}, "_best_ema": np.float64(0.75)}, protocol=2)
    old = b"cnumpy.core.multiarray\n"
    held = held.replace(b"cnumpy._core.multiarray\n", old)
    assert old in held
    (tmp_path / LATEST).write_bytes(as_torch_file(held, tmp_path))
    assert read_checkpoint(tmp_path / LATEST)["_best_ema"] == 0.75


def as_torch_file(pickled: bytes, folder: Path) -> bytes:
    """A file of PyTorch's with another pickle in it."""
    writer = torch._C.PyTorchFileWriter(str(folder / "file.pth"))
    writer.write_record("data.pkl", pickled, len(pickled))
    writer.write_record("byteorder", b"little", 6)
    writer.write_end_of_file()
    return (folder / "file.pth").read_bytes()


def test_what_is_made_plain_needs_no_class_of_numpy(tmp_path):
    log = {"losses": [np.float32(0.1)], 3: (np.int64(2), None, "x"), "where": Path("a")}
    torch.save(plain(log), tmp_path / "log.pth")
    expected = {"losses": [float(np.float32(0.1))], 3: (2, None, "x"), "where": "a"}
    assert torch.load(tmp_path / "log.pth", weights_only=True) == expected


def test_an_object_in_a_checkpoint_is_an_error_when_it_is_saved():
    with pytest.raises(TypeError, match="cannot hold a Generator"):
        plain({"generator": np.random.default_rng()})


def draws():
    legacy = np.random  # nnU-Net's augmentation draws from the global generator
    return random.random(), legacy.random(), legacy.standard_normal(), torch.rand(3).tolist()


def test_random_states_from_a_file_give_the_same_numbers_again(tmp_path):
    draws()  # leaves half of a pair of normal numbers in NumPy's state
    states = plain(random_states(torch.device("cpu")))
    write_checkpoint({**content(1), "random_states": states}, tmp_path / LATEST)
    first = draws()
    set_random_states(read_checkpoint(tmp_path / LATEST)["random_states"])
    assert draws() == first


FILL = """
import resource, sys, torch
from pathlib import Path
from nnmedseg.errors import UserError
from nnmedseg.training.checkpoints import LATEST, write_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
weights = {"weight": torch.zeros(1000, 1000)}
try:
    write_checkpoint({"network_weights": weights, "current_epoch": 3}, Path(sys.argv[1]) / LATEST)
except UserError as error:
    print(error)
"""


def test_a_file_that_cannot_grow_leaves_the_earlier_checkpoints(fold):
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(fold)], capture_output=True, text=True, check=True
    )
    assert "the checkpoint cannot be written: File too large" in done.stdout
    assert "make room" in done.stdout
    assert epoch_of(fold) == (LATEST, 2)
    assert sorted(path.name for path in fold.iterdir()) == [LATEST, PREVIOUS]


def test_a_full_disk_leaves_the_earlier_checkpoints(small_disk):
    write_checkpoint(content(1), small_disk / LATEST)
    large = {"network_weights": {"weight": torch.zeros(1000, 1000)}, "current_epoch": 2}
    with pytest.raises(UserError, match="No space left on device"):
        write_checkpoint(large, small_disk / LATEST)
    assert epoch_of(small_disk) == (LATEST, 1)


def test_what_a_killed_process_was_writing_is_removed(fold):
    (fold / ".writing-1-2-checkpoint_latest.pth").write_bytes(b"half")
    remove_unfinished(fold)
    assert sorted(path.name for path in fold.iterdir()) == [LATEST, PREVIOUS]
