"""What users get wrong: one message that says how to mend it, exit code 2, nothing left."""

import re
import shutil
from pathlib import Path

import pytest

from nnmedseg.cli import (
    check_overlap,
    convert,
    evaluate,
    plan_and_preprocess,
    predict,
    train,
    verify,
)

DATA = Path(__file__).parents[1] / "data" / "ISIC2018"
COMMANDS = {
    "convert": convert.main,
    "verify": verify.main,
    "check_overlap": check_overlap.main,
    "plan": plan_and_preprocess.main,
    "train": train.main,
    "predict": predict.main,
    "evaluate": evaluate.main,
}


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch, tmp_path):
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_extTrainer"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def run(text: str) -> int:
    command, *arguments = text.split()
    return COMMANDS[command](arguments)


def written(folder: Path) -> list[str]:
    """Every file, and every folder but the empty ones of a new workspace."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() or path.name.startswith(("Dataset", ".Dataset"))
    )


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("convert ISIC2081", "ISIC2018"),
        ("convert ISIC2018", "challenge.isic-archive.com"),
        ("convert ISIC2018 -i nowhere", "nowhere"),
        ("convert ISIC2018 -i . -d 1000", "999"),
        ("convert BUSI --spacing 1 1 1", "--include"),
        ("convert BUSI --include nothing", "normal"),
        ("convert Folder -i . -d 7 -n Mine", "--images"),
        ("convert ISIC2018 -i . --split nothing", "rosper"),
        ("verify -d 7", "no data set 7"),
        ("check_overlap -d 7 8", "no data set 7"),
        ("plan -d 7", "no data set 7"),
        ("plan -d 7 -tr RosperTrainer", "RoSPERTrainer"),
        ("train 7 2d 0 -tr RoSPERTrainer", "no data set 7"),
        ("predict -i nowhere -o masks -m nowhere", "no trained model"),
        ("predict -i nowhere -o masks", "-m"),
        ("predict -i nowhere -o masks -d 7 -tr RoSPERTrainer", "no data set 7"),
        ("evaluate nowhere nowhere", "nowhere"),
    ],
)
def test_one_message_and_exit_code_2(command, message, capsys, tmp_path):
    assert run(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert re.search(r"^  (where|to mend it): ", error, re.MULTILINE)
    assert written(tmp_path) == []


@pytest.fixture
def converted(tmp_path):
    shutil.copytree(DATA, tmp_path / "data" / "ISIC2018")
    assert run("convert ISIC2018") == 0
    return tmp_path / "nnmedseg_workspace"


def test_training_before_planning_says_so(converted, capsys):
    assert run("train 2 2d 0 -tr RoSPERTrainer") == 2
    assert "nnmedseg_plan_and_preprocess -d 2" in capsys.readouterr().err


def test_a_misspelt_trainer_names_the_nearest(converted, capsys):
    assert run("train 2 2d 0 -tr RosperTrainer") == 2
    assert "did you mean RoSPERTrainer?" in capsys.readouterr().err


def test_a_damaged_raw_image_is_named_in_planning(converted, capsys):
    image = next((converted / "raw" / "Dataset002_ISIC2018" / "imagesTr").iterdir())
    image.write_bytes(image.read_bytes()[:100])
    assert run("plan -d 2") == 2
    error = capsys.readouterr().err
    assert image.stem.removesuffix("_0000") in error


def test_a_removed_mask_is_named_in_planning(converted, capsys):
    mask = next((converted / "raw" / "Dataset002_ISIC2018" / "labelsTr").iterdir())
    mask.unlink()
    assert run("plan -d 2") == 2
    assert mask.name in capsys.readouterr().err


def test_a_missing_gpu_is_said(converted, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert run("plan -d 2 --working-size 32 -tr RoSPERTrainer") == 0
    assert run("train 2 2d 0 -tr RoSPERTrainer --device cuda") == 2
    assert "no cuda device" in capsys.readouterr().err


@pytest.mark.parametrize("options", ["--epochs 0", "--lr -1", "--batch-size two"])
def test_impossible_numbers_are_refused_by_name(options, capsys):
    with pytest.raises(SystemExit) as exit_info:
        run(f"train 2 2d 0 {options}")
    assert exit_info.value.code == 2
    assert options.split()[0] in capsys.readouterr().err


def test_an_unknown_configuration_names_the_known_ones(converted, capsys):
    assert run("plan -d 2 --working-size 32 -tr RoSPERTrainer") == 0
    assert run("train 2 3d_fullres 0 -tr RoSPERTrainer") == 2
    assert "2d" in capsys.readouterr().err


def test_a_workspace_that_cannot_be_made_is_named(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert run("plan -d 2 --workspace file") == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
