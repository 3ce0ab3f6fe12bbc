"""The command ``nnmedseg_convert`` as a user runs it."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from .running import run_command

ISIC = Path(__file__).parents[1] / "data" / "ISIC2018"
run = partial(run_command, "convert")


def test_a_conversion_says_where_how_many_and_what_is_next(tmp_path):
    done = run("isic2018", "-i", ISIC, "-d", "7", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    workspace = tmp_path / "nnmedseg_workspace"
    assert lines[0].startswith(f"Using raw: {workspace / 'raw'} | ")
    assert "Dataset007_ISIC2018: 7 train, 2 validation, 2 test" in lines
    assert f"It lies in {workspace / 'raw' / 'Dataset007_ISIC2018'}" in lines
    assert lines[-1] == "Next: nnmedseg_plan_and_preprocess -d 7"


def test_the_workspace_is_part_of_the_next_command(tmp_path):
    done = run("ISIC2018", "-i", ISIC, "--workspace", "my data", folder=tmp_path)
    assert done.stdout.splitlines()[-1] == (
        "Next: nnmedseg_plan_and_preprocess -d 2 --workspace 'my data'"
    )
    assert (tmp_path / "my data" / "raw" / "Dataset002_ISIC2018" / "dataset.json").exists()


def test_the_list_shows_name_number_and_page(tmp_path):
    done = run("--list", folder=tmp_path)
    assert done.returncode == 0
    (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("ISIC2018")]
    assert row == ["ISIC2018", "2", "https://challenge.isic-archive.com/data/#2018"]
    assert not list(tmp_path.iterdir())


def test_the_list_of_one_data_set_shows_its_splits_and_licence(tmp_path):
    done = run("--list", "isic2018", folder=tmp_path)
    assert done.returncode == 0
    assert "CC0" in done.stdout
    assert "--split rosper" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_conversion_names_what_it_left_out_and_what_is_empty(tmp_path):
    download = shutil.copytree(ISIC, tmp_path / "ISIC2018")
    images, masks = (next(download.glob(name)) for name in ("*Training_Input", "*1_Training_Gr*"))
    (images / "ISIC_0000000.jpg").write_bytes(b"")
    empty = masks / "ISIC_0000222_segmentation.png"
    Image.new("L", Image.open(empty).size).save(empty)
    done = run("ISIC2018", "-i", download, "--skip-broken", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Empty masks (1): ISIC_0000222" in done.stdout
    assert "something is wrong with their cases (2):" in done.stdout
    assert f"{images.name}/ISIC_0000000.jpg" in done.stdout


@pytest.mark.parametrize("option", ["--help", "--list"])
def test_help_and_list_import_nothing_heavy(tmp_path, option):
    code = (
        "import sys\nfrom nnmedseg.cli.convert import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'nnunetv2', 'numpy', 'sklearn', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = run(option, folder=tmp_path, code=code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no data set was named"),
        (["ISIC2081"], "did you mean ISIC2018?"),
        (["ISIC2018"], "https://challenge.isic-archive.com/data/#2018"),
        (["ISIC2018", "-i", "empty"], "ISIC2018_Task1-2_Training_Input"),
        (["ISIC2018", "-i", ISIC, "-d", "1000"], "between 1 and 999"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr
