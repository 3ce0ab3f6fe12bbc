"""Every trainer, from its plans to a mask."""

import pytest

import nnmedseg
from nnmedseg.errors import WeightsError
from nnmedseg.files import read_json
from nnmedseg.trainers import available_trainers

from .conftest import SHORT

TRAINERS = [trainer.__name__ for trainer in available_trainers()]


@pytest.mark.slow
@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_trainer_trains_and_predicts(planned, tmp_path, trainer):
    fold = nnmedseg.train(
        2, "2d", 1, trainer=trainer, recipe=SHORT, encoder_weights="none", device="cpu",
        folders=planned.folders,
    )  # fmt: skip
    assert read_json(fold / "run.json")["encoder_weights"] == "none"
    image = min((planned.dataset / "imagesTs").iterdir())
    manifest = nnmedseg.predict(image, tmp_path, fold.parent, folds=[1], device="cpu")
    assert not manifest.failed


def test_a_paper_that_starts_from_pretrained_weights_does_not_start_without(fresh):
    with pytest.raises(WeightsError, match="biformer_base_best"):
        nnmedseg.train(
            2, "2d", 0, trainer="HeteroMedSegTrainer", recipe=SHORT, device="cpu",
            folders=fresh.folders,
        )  # fmt: skip
    assert not list(fresh.folders.results.rglob("*.pth"))
