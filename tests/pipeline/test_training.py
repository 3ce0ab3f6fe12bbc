"""Training one fold, stopping it and going on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import nnmedseg
from nnmedseg.errors import UserError
from nnmedseg.files import read_json, write_json
from nnmedseg.nnunet import prepare

from .conftest import SHORT


def train(workspace, **changes):
    settings = {"trainer": "RoSPERTrainer", "recipe": SHORT, "device": "cpu", "seed": 1}
    return nnmedseg.train(2, "2d", changes.pop("fold", 0), folders=workspace.folders, **{
        **settings, **changes,
    })  # fmt: skip


def losses(fold):
    checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    return [float(loss) for loss in checkpoint["logging"]["train_losses"]]


def test_a_fold_holds_nnunets_files(trained):
    fold = trained.model / "fold_0"
    for name in ("checkpoint_final.pth", "progress.png", "validation/summary.json", "run.json"):
        assert (fold / name).is_file(), name
    for name in ("plans.json", "dataset.json", "dataset_fingerprint.json"):
        assert (trained.model / name).is_file(), name


def test_what_was_used_is_recorded(trained):
    record = read_json(trained.model / "fold_0" / "run.json")
    assert record["recipe"]["epochs"] == SHORT["epochs"]
    assert record["recipe"]["optimizer"] == "adamw"
    assert record["seed"] == 1


def test_the_splits_hash_is_in_the_model_folder_and_its_summary(trained):
    fold = trained.model / "fold_0"
    converted = read_json(trained.dataset / "conversion.json")["split_sha256"]
    assert read_json(fold / "run.json")["split_sha256"] == converted
    assert read_json(fold / "validation" / "summary.json")["split_sha256"] == converted


def test_the_recipe_of_the_command_line_reaches_the_model_folder(trained):
    stored = read_json(trained.model / "plans.json")["configurations"]["2d"]["nnmedseg"]["recipe"]
    assert stored["iterations"] == SHORT["iterations"]


def trainer_of_fold_all(workspace):
    prepare()
    from nnmedseg.trainers.rosper import RoSPERTrainer

    plans = read_json(workspace.preprocessed / "RoSPERPlans.json")
    trainer = RoSPERTrainer(
        {**plans, "continue_training": False}, "2d", "all",
        read_json(workspace.preprocessed / "dataset.json"), torch.device("cpu"),
    )  # fmt: skip
    trainer.initialize()
    return trainer


@pytest.fixture
def trainer(trained):
    return trainer_of_fold_all(trained)


def test_fold_all_has_the_cases_of_all_folds(fresh):
    splits = read_json(fresh.preprocessed / "splits_final.json")
    train_ids, validation_ids = trainer_of_fold_all(fresh).do_split()
    assert set(train_ids) == {case for fold in splits for part in fold.values() for case in part}
    assert validation_ids == train_ids


def test_fold_all_leaves_out_what_is_in_no_fold(fresh, caplog):
    file = fresh.preprocessed / "splits_final.json"
    splits = read_json(file)
    copy = splits[0]["val"][0]
    write_json(
        [{part: [c for c in ids if c != copy] for part, ids in fold.items()} for fold in splits],
        file,
    )
    with caplog.at_level("INFO"):
        train_ids, validation_ids = trainer_of_fold_all(fresh).do_split()
    assert copy not in train_ids
    assert copy not in validation_ids
    assert f"in no fold of {file}: 1 case(s), {copy}" in caplog.text


def test_weights_and_optimiser_state_are_in_channels_last(trainer):
    outputs = trainer.network.train()(torch.randn(2, 3, 32, 48))
    sum(x.square().mean() for x in outputs).backward()
    trainer.optimizer.step()
    convs = [m for m in trainer.network.modules() if isinstance(m, torch.nn.Conv2d)]
    state = trainer.optimizer.state
    kept = [x for conv in convs for x in (conv.weight, state[conv.weight]["exp_avg"])]
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in kept)


def test_all_four_heads_are_supervised(trainer):
    outputs = trainer.network.train()(torch.randn(2, 3, 32, 48))
    trainer.loss(outputs, torch.randint(0, 2, (2, 1, 32, 48))).backward()
    heads = [p.grad for name, p in trainer.network.named_parameters() if "heads" in name]
    assert len(outputs) == 4
    assert heads
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in heads)


def test_the_mean_dice_is_that_of_nnunets_evaluation(trained):
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

    validation = trained.model / "fold_0" / "validation"
    expected = compute_metrics_on_folder(
        str(trained.preprocessed / "gt_segmentations"), str(validation), None,
        NaturalImage2DIO(), ".png", [1], num_processes=1,
    )  # fmt: skip
    found = read_json(validation / "summary.json")
    assert found["foreground_mean"] == pytest.approx(expected["foreground_mean"], nan_ok=True)
    assert len(found["metric_per_case"]) == len(expected["metric_per_case"])


def test_the_same_command_again_trains_nothing(trained, caplog):
    checkpoint = trained.model / "fold_0" / "checkpoint_final.pth"
    before = checkpoint.stat().st_mtime_ns
    with caplog.at_level("INFO"):
        train(trained)
    assert checkpoint.stat().st_mtime_ns == before
    assert "Already trained" in caplog.text


def test_other_settings_in_the_same_folder_are_refused(trained):
    with pytest.raises(UserError, match="epochs"):
        train(trained, recipe={**SHORT, "epochs": 2})


def test_a_changed_split_is_refused(fresh, trained):
    shutil.copytree(trained.folders.results, fresh.folders.results, dirs_exist_ok=True)
    splits = read_json(fresh.preprocessed / "splits_final.json")
    write_json(splits[::-1], fresh.preprocessed / "splits_final.json")
    with pytest.raises(UserError, match=r"splits_final.json has changed"):
        train(fresh)


def test_a_run_that_recorded_no_split_goes_on(fresh, trained):
    shutil.copytree(trained.folders.results, fresh.folders.results, dirs_exist_ok=True)
    model = trained.model.relative_to(trained.folders.results)
    record_file = fresh.folders.results / model / "fold_0" / "run.json"
    record = read_json(record_file)
    del record["split_sha256"]
    write_json(record, record_file)
    assert train(fresh) == record_file.parent


def test_a_missing_validation_is_made_up_for(fresh):
    fold = train(fresh)
    summary = fold / "validation" / "summary.json"
    summary.unlink()
    train(fresh)
    assert summary.is_file()


def test_the_same_seed_gives_the_same_losses(fresh):
    first = losses(train(fresh))
    assert losses(train(fresh, overwrite=True)) == first


def test_another_seed_gives_other_losses(fresh, trained):
    assert losses(train(fresh, seed=2)) != losses(trained.model / "fold_0")


def test_a_batch_size_from_the_command_line_is_used(fresh):
    fold = train(fresh, batch_size=3)
    stored = read_json(fold.parent / "plans.json")["configurations"]["2d"]["batch_size"]
    assert stored == 3


def test_the_learning_rate_from_the_command_line_is_used(fresh):
    fold = train(fresh, recipe={**SHORT, "initial_lr": 0.002})
    checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["logging"]["lrs"] == [0.002]


def test_the_official_split_is_the_fold_after_the_five(fresh):
    fold = train(fresh, fold="official")
    splits = read_json(fresh.preprocessed / "splits_final.json")
    validated = {path.stem for path in (fold / "validation").glob("*.png")}
    assert fold.name == "fold_5"
    assert validated == set(splits[5]["val"])


@pytest.mark.parametrize("fold", ["6", "-1", "none"])
def test_a_fold_that_does_not_exist_is_refused(planned, fold):
    with pytest.raises(UserError, match="no fold"):
        train(planned, fold=fold)


@pytest.mark.slow
@pytest.mark.parametrize("plans", ["nnUNetPlans", "RoSPERPlans"])
def test_nnunets_own_trainer_trains_on_our_plans(fresh, plans):
    fold = train(fresh, trainer="nnUNetTrainer", plans=plans)
    assert (fold / "validation" / "summary.json").is_file()


@pytest.mark.slow
def test_a_killed_training_goes_on_where_it_stopped(fresh):
    command = [
        str(Path(sys.executable).parent / "nnmedseg_train"), "2", "2d", "0", "-tr", "RoSPERTrainer",
        "--epochs", "4", "--iterations", "2", "--device", "cpu", "--workspace", str(fresh.root),
    ]  # fmt: skip
    fold = fresh.folders.results / fresh.dataset.name / "RoSPERTrainer__RoSPERPlans__2d" / "fold_0"
    # In a session of its own, so that the data-loading processes die with it.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not (fold / "checkpoint_latest.pth").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Resuming after epoch" in done.stdout
    checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["current_epoch"] == 4
    assert len(checkpoint["logging"]["train_losses"]) == 4
