"""``nnmedseg_plan`` and ``nnmedseg_plan_and_preprocess`` on the command line."""

from pathlib import Path

import pytest

from .running import run_command

DATA = Path(__file__).parents[1] / "data" / "ISIC2018"
SMALL = ("-tr", "RoSPERTrainer", "--working-size", "32")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    for number in (2, 3):
        done = run_command(
            "convert", "ISIC2018", "-i", DATA, "-d", str(number), folder=folder
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def planned(workspace):
    """What planning of two data sets at once has printed."""
    done = run_command(
        "plan_and_preprocess", "-d", "2", "3", "-c", "2d", "2d_paper", *SMALL, folder=workspace
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def preprocessed(workspace):
    return workspace / "nnmedseg_workspace" / "preprocessed"


def test_several_data_sets_are_planned_at_once(workspace, planned):
    plans = sorted(path.parent.name for path in preprocessed(workspace).glob("*/RoSPERPlans.json"))
    assert plans == ["Dataset002_ISIC2018", "Dataset003_ISIC2018"]


def test_the_next_command_is_said(planned):
    assert planned.splitlines()[-1] == "Next: nnmedseg_train 3 2d 0 -tr RoSPERTrainer"


def test_what_was_planned_is_shown_again(workspace, planned):
    shown = run_command("plan", "-d", "2", "--show", folder=workspace)
    table = shown.stdout.splitlines()[1:]
    assert table[0].split() == [
        "TRAINER", "PLANS", "CONFIGURATION", "PATCH", "BATCH", "GIB", "ITERATIONS"
    ]  # fmt: skip
    assert all(line in planned for line in table)


def test_showing_plans_changes_no_file(workspace, planned):
    files = [path for path in preprocessed(workspace).rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    run_command("plan", "-d", "2", "3", "--show", folder=workspace)
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_plans_that_are_not_there_are_a_user_error(workspace):
    done = run_command("plan", "-d", "2", "--show", "--workspace", "empty", folder=workspace)
    assert done.returncode == 2


def test_an_unknown_configuration_is_a_user_error(workspace, planned):
    done = run_command("plan_and_preprocess", "-d", "2", "-c", "3d", *SMALL, folder=workspace)
    assert done.returncode == 2
    assert "2d_native" in done.stderr
