"""Plans as a table."""

import pytest

from nnmedseg.errors import NotFoundError
from nnmedseg.files import write_json
from nnmedseg.paths import Folders
from nnmedseg.planners.table import describe_plans, read_configurations, show_plans

DATA_SET = "Dataset002_ISIC2018"
WORKING = {
    "patch_size": [512, 768],
    "batch_size": 4,
    "data_identifier": "nnmedseg_2d",
    "nnmedseg": {
        "trainer": "RoSPERTrainer",
        "predicted_memory_gib": 7.14,
        "iterations_to_see_data_once": 649,
        "resolution": {"reason": "images are large"},
        "patch": "a patch sees the whole median image",
    },
}


@pytest.fixture
def folders(tmp_path):
    folders = Folders(*(tmp_path / name for name in ("raw", "preprocessed", "results")))
    plans = {"configurations": {"2d": WORKING, "2d_native": {"inherits_from": "2d"}}}
    write_json(plans, folders.preprocessed / DATA_SET / "RoSPERPlans.json")
    write_json({"labels": {}}, folders.preprocessed / DATA_SET / "dataset.json")
    return folders


@pytest.fixture
def plans_file(folders):
    return folders.preprocessed / DATA_SET / "RoSPERPlans.json"


def test_a_row_says_trainer_patch_batch_memory_and_iterations(plans_file):
    row = describe_plans([plans_file])[1].split()
    assert row == ["RoSPERTrainer", "RoSPERPlans", "2d", "512x768", "4", "7.1", "649"]


def test_the_columns_stand_under_their_headings(plans_file):
    heading, row = describe_plans([plans_file])[:2]
    assert heading.index("PATCH") == row.index("512x768")
    assert heading.rindex("ITERATIONS") + len("ITERATIONS") == len(row)


def test_the_reasons_follow_the_table(plans_file):
    lines = describe_plans([plans_file])
    assert lines[2:] == [
        "2d: images are large",
        "RoSPERTrainer: a patch sees the whole median image",
    ]


def test_a_configuration_has_what_it_inherits(plans_file):
    assert read_configurations(plans_file)["2d_native"]["patch_size"] == [512, 768]


def test_files_that_are_no_plans_are_passed_over(folders):
    assert "RoSPERTrainer" in show_plans(folders, DATA_SET)[1]


def test_a_data_set_without_plans_is_an_error_that_says_what_to_run(folders):
    with pytest.raises(NotFoundError, match="nnmedseg_plan_and_preprocess -d 4"):
        show_plans(folders, "Dataset004_ISIC2016")


def test_another_name_for_a_configuration_is_no_row(plans_file):
    assert not any("2d_native" in line for line in describe_plans([plans_file]))


def test_what_is_asked_for_is_shown(plans_file):
    assert "2d_native" in describe_plans([plans_file], ["2d_native"])[1]


def test_what_a_paper_asks_for_is_explained_by_trainer(plans_file):
    paper = {**WORKING, "nnmedseg": {**WORKING["nnmedseg"], "protocol": "the paper's loss"}}
    write_json({"configurations": {"2d": WORKING, "2d_paper": paper}}, plans_file)
    assert describe_plans([plans_file])[-1] == (
        "RoSPERTrainer, 2d_paper: a patch sees the whole median image; the paper's loss"
    )
