"""Checkpoints between nnU-Net and us, and those that nobody should trust."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnmedseg.errors import WeightsError
from nnmedseg.inference.predictor import MedSegPredictor
from nnmedseg.training.checkpoints import read_checkpoint
from nnmedseg.training.reliable import ReliableTrainer, reliable

from .test_training import trainer_of_fold_all


@pytest.fixture
def trainer(trained):
    return trainer_of_fold_all(trained)


@pytest.fixture
def model(trained, tmp_path):
    """A copy of the model that a test may change."""
    copy = tmp_path / trained.model.name
    shutil.copytree(trained.model, copy)
    return copy


def test_ours_hold_all_that_nnunets_hold(trainer, tmp_path):
    trainer.save_checkpoint(str(tmp_path / "ours.pth"))
    nnUNetTrainer.save_checkpoint(trainer, str(tmp_path / "stock.pth"))
    ours = read_checkpoint(tmp_path / "ours.pth")
    stock = torch.load(tmp_path / "stock.pth", weights_only=False)
    assert {key for key in stock if key not in ours} == set()
    assert all(ours[key] == stock[key] for key in ("current_epoch", "trainer_name", "logging"))


def test_nnunets_trainer_loads_ours(trained, trainer):
    file = trained.model / "fold_0" / "checkpoint_final.pth"
    nnUNetTrainer.load_checkpoint(trainer, str(file))
    weights = read_checkpoint(file)["network_weights"]
    assert trainer.current_epoch == 1
    torch.testing.assert_close(trainer.network.state_dict(), weights, rtol=0, atol=0)


def test_ours_need_no_class_but_pytorchs_own(trained):
    for file in trained.model.rglob("checkpoint_*.pth"):
        assert torch.load(file, weights_only=True)


def test_nnunets_trainers_keep_their_name_with_our_checkpoints():
    ours = reliable(nnUNetTrainer)
    assert issubclass(ours, ReliableTrainer)
    assert ours.__name__ == "nnUNetTrainer"


def test_a_trainer_that_saves_in_its_own_way_keeps_it():
    class Own(nnUNetTrainer):
        def save_checkpoint(self, filename):
            pass

    assert reliable(Own) is Own


def test_a_checkpoint_of_another_network_is_a_user_error(trained, trainer, tmp_path):
    content = dict(read_checkpoint(trained.model / "fold_0" / "checkpoint_final.pth"))
    content["network_weights"] = {"another": torch.zeros(1)}
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not fit"):
        trainer.load_checkpoint(str(tmp_path / "other.pth"))


def change(model, **changes):
    file = model / "fold_0" / "checkpoint_final.pth"
    torch.save({**torch.load(file, weights_only=True), **changes}, file)


def test_a_model_with_numpys_numbers_is_loaded(model):
    change(model, _best_ema=np.float64(0.5), logging={"train_losses": [np.float32(1)]})
    assert MedSegPredictor.from_folder(model, [0]).trainer_name == "RoSPERTrainer"


class Hostile:
    """Its unpickling makes a file."""

    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return (Path.touch, (self.made,))


def test_prediction_runs_no_code_from_a_model(model, tmp_path):
    change(model, logging=Hostile(tmp_path / "made"))
    with pytest.raises(WeightsError, match="may be code"):
        MedSegPredictor.from_folder(model, [0])
    assert not (tmp_path / "made").exists()
