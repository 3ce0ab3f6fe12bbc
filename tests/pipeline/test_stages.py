"""ConDSeg's two stages: trained by one command, each gone on with where it was stopped."""

import hashlib
import os
import shutil
import signal

import pytest
import torch

import nnmedseg
from nnmedseg.errors import NotFoundError, UserError, WeightsError
from nnmedseg.files import read_json, write_json
from nnmedseg.paths import Folders, resolve
from nnmedseg.planners.pipeline import preprocess_configurations

from .conftest import Workspace
from .test_interrupted_training import alive_in_group, log_of, start_command, wait_for

pytestmark = pytest.mark.slow

FIRST = "ConDSegStage1Trainer__ConDSegStage1Plans"
SECOND = "ConDSegTrainer__ConDSegPlans"
FINAL, LATEST, OLD = "checkpoint_final.pth", "checkpoint_latest.pth", "of_an_earlier_run"
NARROW = {"ConDSegStage1Plans": 16, "ConDSegPlans": 16}
EPOCHS = 4  # two for each stage


def copy_of(planned, root):
    """A copy of the planned workspace with small networks; the encoder has one size only."""
    folders = Folders(*(root / name for name in ("raw", "preprocessed", "results")))
    for kind in ("raw", "preprocessed"):
        shutil.copytree(getattr(planned.folders, kind), getattr(folders, kind))
    copy = Workspace(folders, folders.raw / planned.dataset.name, folders.results / "none")
    for name, width in NARROW.items():
        plans = read_json(copy.preprocessed / f"{name}.json")
        for configuration in plans["configurations"].values():
            configuration["architecture"]["arch_kwargs"]["width"] = width
        write_json(plans, copy.preprocessed / f"{name}.json")
    return copy


def train(workspace, **changes):
    resolve(workspace.root)
    settings = {
        "trainer": "ConDSegTrainer", "recipe": {"epochs": EPOCHS, "iterations": 1},
        "encoder_weights": "none", "seed": 1, "device": "cpu", "batch_size": 2,
    }  # fmt: skip
    return nnmedseg.train(2, changes.pop("configuration", "2d"), 0, folders=workspace.folders, **{
        **settings, **changes,
    })  # fmt: skip


def fold_of(workspace, model, configuration="2d"):
    results = workspace.folders.results / workspace.dataset.name
    return results / f"{model}__{configuration}" / "fold_0"


@pytest.fixture(scope="module")
def both(planned, tmp_path_factory):
    """A workspace in which the first stage was trained alone, and then the second.

    What was there before looks finished.
    """
    workspace = copy_of(planned, tmp_path_factory.mktemp("both"))
    first, second = fold_of(workspace, FIRST), fold_of(workspace, SECOND)
    for fold in (first, second):
        fold.mkdir(parents=True)
        (fold / FINAL).write_bytes(b"old")
        (fold / OLD).touch()
    assert train(workspace, stage=1, overwrite=True) == first
    assert (second / OLD).is_file()
    (first / OLD).touch()
    assert train(workspace, overwrite=True) == second
    yield workspace
    resolve(planned.root)


@pytest.fixture
def small(planned, tmp_path):
    yield copy_of(planned, tmp_path)
    resolve(planned.root)


def test_both_stages_are_trained_and_validated(both):
    for model in (FIRST, SECOND):
        fold = fold_of(both, model)
        assert (fold / "validation" / "summary.json").is_file()
        assert torch.load(fold / FINAL, weights_only=True)["current_epoch"] == EPOCHS // 2


def test_overwriting_keeps_a_finished_first_stage(both):
    assert (fold_of(both, FIRST) / OLD).is_file()
    assert not (fold_of(both, SECOND) / OLD).exists()


def test_the_second_stage_records_what_it_started_from(both):
    checkpoint = fold_of(both, FIRST) / FINAL
    assert read_json(fold_of(both, SECOND) / "run.json")["first_stage"] == {
        "checkpoint": f"{FIRST}__2d/fold_0/{FINAL}",
        "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "epochs": EPOCHS // 2,
    }


def test_either_stage_predicts(both, tmp_path):
    image = min((both.dataset / "imagesTs").iterdir())
    for model in (FIRST, SECOND):
        folder = fold_of(both, model).parent
        assert not nnmedseg.predict(image, tmp_path / model, folder, device="cpu").failed


def test_a_first_stage_with_other_settings_is_not_used(both):
    with pytest.raises(UserError, match="seed was 1, is 2") as error_info:
        train(both, seed=2, overwrite=True)
    assert "--stage 1 --overwrite" in str(error_info.value)
    assert f"--encoder-weights {fold_of(both, FIRST) / FINAL}" in str(error_info.value)


def test_a_second_stage_goes_on_without_the_first(both, small):
    shutil.copytree(fold_of(both, SECOND).parent, fold_of(small, SECOND).parent)
    shutil.rmtree(fold_of(small, SECOND) / "validation")
    train(small, must_continue=True)
    assert (fold_of(small, SECOND) / "validation" / "summary.json").is_file()
    assert not fold_of(small, FIRST).exists()


def test_a_given_first_stage_is_not_to_be_trained(both, small):
    with pytest.raises(UserError, match="trained already"):
        train(small, encoder_weights=fold_of(both, FIRST) / FINAL, stage=1)


def test_a_given_first_stage_that_lacks_an_entry_is_refused(both, small, tmp_path):
    content = torch.load(fold_of(both, FIRST) / FINAL, weights_only=True)
    del content["network_weights"]["network.encoder.model.bn1.running_var"]
    torch.save(content, tmp_path / "lacking.pth")
    with pytest.raises(WeightsError, match=r"1 missing: .*bn1\.running_var"):
        train(small, encoder_weights=tmp_path / "lacking.pth")
    assert not fold_of(small, FIRST).exists()
    assert not list(small.folders.results.rglob("*.pth"))


def test_a_trainer_without_stages_has_no_first_one(both):
    with pytest.raises(UserError, match="in one go"):
        train(both, trainer="RoSPERTrainer", stage=1)


def test_there_must_be_something_to_continue(small):
    with pytest.raises(NotFoundError, match="no checkpoint to continue from"):
        train(small, must_continue=True)


def killed_when(workspace, file):
    process = start_command(
        "2", "2d", "0", "-tr", "ConDSegTrainer", "--epochs", str(EPOCHS), "--iterations", "1",
        "--batch-size", "2", "--encoder-weights", "none", "--seed", "1", "--device", "cpu",
        "--workspace", str(workspace.root),
    )  # fmt: skip
    try:
        wait_for(process, file)
    finally:
        for left in alive_in_group(process.pid):
            os.kill(left, signal.SIGKILL)
        process.wait()


def test_a_training_killed_in_either_stage_goes_on_as_if_it_had_not_been(both, small, caplog):
    first, second = fold_of(small, FIRST), fold_of(small, SECOND)
    killed_when(small, first / LATEST)
    assert not second.exists()
    killed_when(small, second / LATEST)
    with caplog.at_level("INFO"):
        train(small, must_continue=True)
    assert f"from {second / LATEST}" in caplog.text
    for model in (FIRST, SECOND):
        assert log_of(fold_of(small, model)) == log_of(fold_of(both, model))
    record = read_json(second / "run.json")["first_stage"]
    assert record["sha256"] == hashlib.sha256((first / FINAL).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def by_the_paper(planned, tmp_path_factory):
    """Both stages with the paper's recipe."""
    workspace = copy_of(planned, tmp_path_factory.mktemp("by_the_paper"))
    resolve(workspace.root)
    preprocess_configurations(
        workspace.dataset.name,
        [workspace.preprocessed / f"{name}.json" for name in NARROW],
        ["2d_paper"],
        folders=workspace.folders,
        num_workers=1,
    )
    recipe = {"epochs": 1, "iterations": 1}
    train(workspace, configuration="2d_paper", recipe=recipe)
    yield workspace
    resolve(planned.root)


def test_in_the_papers_recipe_each_stage_has_all_epochs(by_the_paper):
    for model in (FIRST, SECOND):
        record = read_json(fold_of(by_the_paper, model, "2d_paper") / "run.json")
        assert record["recipe"]["epochs"] == 1
        assert record["recipe"]["loss"].startswith("condseg")


def test_in_the_papers_recipe_the_first_stage_sees_each_image_twice(by_the_paper):
    checkpoint = fold_of(by_the_paper, FIRST, "2d_paper") / FINAL
    weights = torch.load(checkpoint, weights_only=True)["network_weights"]
    assert weights["network.encoder.model.bn1.num_batches_tracked"] == 2


def test_in_the_papers_recipe_the_auxiliary_outputs_are_trained(by_the_paper):
    checkpoint = fold_of(by_the_paper, SECOND, "2d_paper") / FINAL
    content = torch.load(checkpoint, weights_only=True)
    rest, encoder = content["optimizer_state"]["param_groups"]
    assert len(content["optimizer_state"]["state"]) == len(rest["params"]) + len(encoder["params"])
    assert (rest["lr"], encoder["lr"]) == (1e-4, 1e-5)
