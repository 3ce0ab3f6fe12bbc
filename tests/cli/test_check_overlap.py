"""The command ``nnmedseg_check_overlap`` as a user runs it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from nnmedseg.data.images import read_image, write_png

from .running import run_command

PHOTOS = sorted((Path(__file__).parents[1] / "data" / "ISIC2018").rglob("*.jpg"))
run = partial(run_command, "check_overlap")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Three plain data sets: 2 and 3 share two images, 4 shares none."""
    cases = {
        "Dataset002_Two": ({"a": 0, "b": 1}, {"c": 2}),
        "Dataset003_Three": ({"d": 2, "e": 1}, {}),
        "Dataset004_Four": ({"f": 3}, {"g": 4}),
    }
    for name, parts in cases.items():
        folder = tmp_path / "nnmedseg_workspace" / "raw" / name
        for part, images in zip(("imagesTr", "imagesTs"), parts, strict=True):
            (folder / part).mkdir(parents=True)
            for case, number in images.items():
                write_png(read_image(PHOTOS[number]), folder / part / f"{case}_0000.png")
        (folder / "dataset.json").write_text('{"file_ending": ".png"}', "utf-8")
    return tmp_path


def test_shared_images_are_shown_and_give_exit_code_1(workspace):
    done = run("-d", "2", "3", folder=workspace)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[2:6] == [
        "exact  test   Dataset002_Two/imagesTs/c_0000.png",
        "       train  Dataset003_Three/imagesTr/d_0000.png",
        "exact  train  Dataset002_Two/imagesTr/b_0000.png",
        "       train  Dataset003_Three/imagesTr/e_0000.png",
    ]
    assert lines[6].startswith("Dataset002_Two and Dataset003_Three share images: 2 of 3 cases")
    assert lines[7].startswith("Training on Dataset003_Three leaks into the test part")


@pytest.mark.parametrize("datasets", [("2", "4"), ("4",), ("Two", "Dataset004_Four")])
def test_nothing_shared_gives_exit_code_0(workspace, datasets):
    done = run("-d", *datasets, folder=workspace)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(
        ("share no image.", "in both the training and the test part.")
    )


def test_all_pairs_are_in_the_json_file(workspace):
    done = run("-d", "2", "3", "4", "--json", "out/overlap.json", folder=workspace)
    assert done.returncode == 1, done.stderr
    content = json.loads((workspace / "out" / "overlap.json").read_text("utf-8"))
    assert [pair["kind"] for pair in content["pairs"]] == ["exact", "exact"]
    assert len(content["meaning"]) == 5


def test_of_many_pairs_some_are_shown(workspace):
    raw = workspace / "nnmedseg_workspace" / "raw"
    for case in range(24):
        for name in ("Dataset002_Two", "Dataset003_Three"):
            image = read_image(PHOTOS[5]).copy()
            image[0, 0] = case
            write_png(image, raw / name / "imagesTr" / f"many{case:02d}_0000.png")
    done = run("-d", "2", "3", "--json", "overlap.json", folder=workspace)
    total = len(json.loads((workspace / "overlap.json").read_text("utf-8"))["pairs"])
    shown = [line for line in done.stdout.splitlines() if line.startswith(("exact", "near"))]
    assert len(shown) == 10
    assert f"and {total - 10} more pairs" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-d", "2", "9"], "there is no data set 9"),
        (["-d", "2", "Two"], "named twice"),
        (["-d", "3"], "one part only"),
        (["-d", "2", "3", "--json", "nnmedseg_workspace"], "cannot be written"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(workspace, arguments, message):
    done = run(*arguments, folder=workspace)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr


def test_help_explains_exit_codes_and_imports_nothing_heavy(tmp_path):
    code = (
        "import sys\nfrom nnmedseg.cli.check_overlap import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'nnunetv2', 'numpy', 'sklearn', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = run("--help", folder=tmp_path, code=code)
    assert done.returncode == 0, done.stderr
    assert "Exit code 0" in done.stdout
