"""Every trainer, from its plans to a mask."""

import shutil
from dataclasses import replace

import pytest

import nnmedseg
from nnmedseg.errors import WeightsError
from nnmedseg.files import read_json
from nnmedseg.paths import Folders, resolve
from nnmedseg.planners.pipeline import preprocess_configurations
from nnmedseg.trainers import available_trainers

from .conftest import SHORT, Workspace

TRAINERS = [trainer.__name__ for trainer in available_trainers()]
WITH_A_PAPER = [name for name in TRAINERS if name != "ConDSegStage1Trainer"]  # ConDSegTrainer's
PROMPTED = "ProMISePromptTrainer"


def train_and_predict(workspace, trainer, configuration, target, **settings):
    fold = nnmedseg.train(
        2, configuration, 1, trainer=trainer, encoder_weights="none", device="cpu",
        folders=workspace.folders, **settings,
    )  # fmt: skip
    images = workspace.dataset / "imagesTs"
    prompts = {"prompts_from": workspace.dataset / "labelsTs"} if trainer == PROMPTED else {}
    manifest = nnmedseg.predict(
        min(images.iterdir()), target, fold.parent, folds=[1], device="cpu", **prompts
    )
    assert not manifest.failed
    return read_json(fold / "run.json")


@pytest.mark.slow
@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_trainer_trains_and_predicts(planned, tmp_path, trainer):
    folders = replace(planned.folders, results=tmp_path / "results")  # others predict from theirs
    own = replace(planned, folders=folders)
    record = train_and_predict(own, trainer, "2d", tmp_path / "masks", recipe=SHORT)
    assert record["encoder_weights"] == "none"


@pytest.fixture(scope="module")
def papers(planned, tmp_path_factory):
    """The planned workspace with the images as the papers want them."""
    root = tmp_path_factory.mktemp("papers")
    folders = Folders(*(root / name for name in ("raw", "preprocessed", "results")))
    for kind in ("raw", "preprocessed"):
        shutil.copytree(getattr(planned.folders, kind), getattr(folders, kind))
    resolve(root)
    workspace = Workspace(folders, folders.raw / planned.dataset.name, folders.results / "none")
    plans = [
        path for path in workspace.preprocessed.glob("*Plans.json") if "nnUNet" not in path.name
    ]
    preprocess_configurations(
        planned.dataset.name, plans, ["2d_paper"], folders=folders, num_workers=1
    )
    return workspace


@pytest.mark.slow
@pytest.mark.parametrize("trainer", WITH_A_PAPER)
def test_every_trainer_trains_by_its_papers_recipe(papers, tmp_path, trainer):
    resolve(papers.root)
    recipe = {"epochs": 1, "iterations": 1}
    record = train_and_predict(papers, trainer, "2d_paper", tmp_path, recipe=recipe, batch_size=2)
    assert record["recipe"]["loss"] != "nnunet"
    assert record["recipe"]["augmentation"] != "nnunet"


def test_a_paper_that_starts_from_pretrained_weights_does_not_start_without(fresh):
    with pytest.raises(WeightsError, match="biformer_base_best"):
        nnmedseg.train(
            2, "2d", 0, trainer="HeteroMedSegTrainer", recipe=SHORT, device="cpu",
            folders=fresh.folders,
        )  # fmt: skip
    assert not list(fresh.folders.results.rglob("*.pth"))
