"""What the second of two stages may start from, and how the epochs are divided."""

from __future__ import annotations

import pytest
import torch

from nnmedseg.errors import NotFoundError, WeightsError
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.trainers.condseg import ConDSegPVTTrainer, ConDSegStage1Trainer, ConDSegTrainer
from nnmedseg.trainers.rosper import RoSPERTrainer
from nnmedseg.training.first_stage import FirstStage, is_first_stage, load_first_stage
from nnmedseg.training.stages import divided, with_first_stages

ENCODER = "network.encoder.model."


@pytest.fixture(scope="module")
def stage1():
    return PlannedNetwork(3, 2, network="condseg_stage1", width=16).state_dict()


@pytest.fixture
def saved(tmp_path):
    def save(content):
        torch.save(content, tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    return save


def test_a_checkpoint_of_ours_is_told_from_imagenets_weights(stage1, saved):
    assert is_first_stage(saved({"network_weights": stage1}))
    imagenet = {k.removeprefix(ENCODER): v for k, v in stage1.items() if k.startswith(ENCODER)}
    assert not is_first_stage(saved(imagenet))


def test_a_checkpoint_of_another_network_is_refused(saved):
    with pytest.raises(WeightsError, match="not of a first stage"):
        is_first_stage(saved({"network_weights": {"network.stem.weight": torch.zeros(1)}}))


def test_a_first_stage_of_the_authors_is_to_be_imported(saved):
    with pytest.raises(WeightsError, match="nnmedseg_import_weights condseg_stage1"):
        is_first_stage(saved({"head.conv1.conv.0.weight": torch.zeros(1)}))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"nowhere\.pth"):
        is_first_stage(tmp_path / "nowhere.pth")


@pytest.fixture(scope="module")
def network():
    return PlannedNetwork(3, 2, network="condseg", width=16)


def test_the_whole_encoder_is_carried_over_with_its_statistics(stage1, network, saved):
    changed = {name: entry + 1 if "running" in name else entry for name, entry in stage1.items()}
    assert "258 entries" in load_first_stage(network, saved({"network_weights": changed}))
    encoder = {k: v for k, v in network.state_dict().items() if k.startswith(ENCODER)}
    assert len(encoder) == 258
    assert all(torch.equal(entry, changed[name]) for name, entry in encoder.items())


@pytest.mark.parametrize("entry", ["bn1.running_mean", "layer3.5.conv3.weight"])
def test_a_first_stage_that_lacks_an_entry_is_refused(stage1, network, saved, entry):
    path = saved({"network_weights": {k: v for k, v in stage1.items() if k != ENCODER + entry}})
    with pytest.raises(WeightsError, match=f"1 missing: .*{entry}") as error_info:
        load_first_stage(network, path)
    assert "--stage 1 --overwrite" in str(error_info.value)


def test_a_record_names_a_file_without_the_folders_of_the_machine(stage1, saved, tmp_path):
    path = saved({"network_weights": stage1, "current_epoch": 7})
    elsewhere = FirstStage.of_file(path, tmp_path / "results")
    assert elsewhere.as_recorded()["checkpoint"] == "weights.pth"
    assert elsewhere.file(tmp_path / "results") == path
    inside = FirstStage.of_file(path, tmp_path.parent)
    assert inside.as_recorded()["checkpoint"] == f"{tmp_path.name}/weights.pth"
    assert inside.file(tmp_path.parent) == path
    assert inside.epochs == 7


@pytest.mark.parametrize(
    ("epochs", "stages"), [(1, (1, 1)), (2, (1, 1)), (3, (1, 2)), (1000, (500, 500))]
)
def test_two_stages_share_the_epochs(epochs, stages):
    assert divided(epochs) == stages


def test_a_first_stage_is_planned_before_its_second_and_once():
    wanted = [RoSPERTrainer, ConDSegTrainer, ConDSegPVTTrainer, ConDSegStage1Trainer]
    planned = [RoSPERTrainer, ConDSegStage1Trainer, ConDSegTrainer, ConDSegPVTTrainer]
    assert with_first_stages(wanted) == planned
