"""How trainers load and augment."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import nnmedseg
from nnmedseg.files import read_json
from nnmedseg.training.sample_loader import SampleLoader


@pytest.fixture(scope="module")
def paper_data(planned):
    nnmedseg.plan_and_preprocess(
        2,
        trainers=["RoSPERTrainer"],
        configurations=["2d_paper"],
        working_size=32,
        folders=planned.folders,
    )
    return planned


def _trainer(workspace, name, configuration, recipe, monkeypatch):
    from nnmedseg.trainers import default_plans_name, find_trainer
    from nnmedseg.training.reliable import reliable

    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    trainer_class = reliable(find_trainer(name))
    plans = read_json(workspace.preprocessed / f"{default_plans_name(trainer_class)}.json")
    planned = plans["configurations"][configuration]["nnmedseg"]
    planned["recipe"] = {**planned.get("recipe", {}), **recipe}
    plans["configurations"][configuration]["batch_size"] = 2
    plans["continue_training"] = False
    description = read_json(workspace.preprocessed / "dataset.json")
    trainer = trainer_class(plans, configuration, "all", description, torch.device("cpu"))
    trainer.batch_size = 2
    return trainer


def _loader_of(batches):
    while not isinstance(batches, SampleLoader):
        batches = getattr(batches, "_loader", None) or batches.data_loader
    return batches


@pytest.mark.parametrize("name", ["RoSPERTrainer", "nnUNetTrainer"])
def test_images_are_loaded_quickly_whoevers_trainer_it_is(paper_data, name, monkeypatch):
    trainer = _trainer(paper_data, name, "2d", {}, monkeypatch)
    training, validation = trainer.get_dataloaders()
    size = tuple(trainer.configuration_manager.patch_size)
    for batches in (training, validation):
        assert _loader_of(batches)
        assert next(batches)["data"].shape[2:] == size
    assert _loader_of(training).need_to_pad[1] > 0  # room to rotate, as nnU-Net's


def test_a_papers_patch_is_the_whole_image_and_nothing_is_mirrored_in_prediction(
    paper_data, monkeypatch
):
    trainer = _trainer(
        paper_data, "RoSPERTrainer", "2d_paper", {"augmentation": "none"}, monkeypatch
    )
    batches, _ = trainer.get_dataloaders()
    batch = next(batches)
    whole = trainer.get_tr_and_val_datasets()[0].load_case(batch["keys"][0])
    assert np.array_equal(batch["data"][0], whole[0][:, 0])
    assert np.array_equal(batch["target"][0], whole[1][:, 0].clip(0))
    assert trainer.inference_allowed_mirroring_axes is None


def test_a_papers_augmentation_is_drawn_anew_each_time(paper_data, monkeypatch):
    trainer = _trainer(
        paper_data, "RoSPERTrainer", "2d_paper",
        {"augmentation": "rosper"}, monkeypatch,
    )  # fmt: skip
    batches, _ = trainer.get_dataloaders()
    cases = trainer.get_tr_and_val_datasets()[0]
    drawn = [batch for batch, _ in zip(batches, range(4), strict=False)]
    changed = [
        not np.array_equal(image, cases.load_case(key)[0][:, 0])
        for batch in drawn
        for key, image in zip(batch["keys"], batch["data"].numpy(), strict=True)
    ]
    assert sum(changed) >= 2


def test_validation_samples_are_not_augmented(paper_data, monkeypatch):
    trainer = _trainer(
        paper_data, "RoSPERTrainer", "2d_paper",
        {"augmentation": "rosper"}, monkeypatch,
    )  # fmt: skip
    _, batches = trainer.get_dataloaders()
    cases = trainer.get_tr_and_val_datasets()[1]
    for _ in range(4):
        batch = next(batches)
        for key, image in zip(batch["keys"], batch["data"].numpy(), strict=True):
            assert np.array_equal(image, cases.load_case(key)[0][:, 0])
