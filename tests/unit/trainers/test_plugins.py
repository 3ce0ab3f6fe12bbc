"""Trainers that live outside the package."""

import subprocess
import sys

import pytest

from nnmedseg.cli.train import main
from nnmedseg.errors import NotFoundError, UserError
from nnmedseg.trainers import available_trainers, find_trainer, papers_trainers
from nnmedseg.trainers.plugins import VARIABLE, add_plugin

OWN = """
from nnmedseg.trainers.rosper import RoSPERTrainer

class SlowRoSPERTrainer(RoSPERTrainer):
    \"\"\"RoSPER-Net that learns slowly.\"\"\"

    plans_name = "SlowRoSPERPlans"
    recipe = RoSPERTrainer.recipe.changed({"initial_lr": 1e-5})
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)

    def write(text):
        path = tmp_path / "own_trainers.py"
        path.write_text(text)
        return path

    return write


def test_a_trainer_of_a_file_is_found_beside_the_papers(plugin):
    add_plugin(plugin(OWN))
    assert find_trainer("SlowRoSPERTrainer").recipe.initial_lr == 1e-5
    assert {trainer.__name__ for trainer in papers_trainers()} < {
        trainer.__name__ for trainer in available_trainers()
    }


def test_what_the_file_imports_is_not_taken_for_its_own(plugin):
    add_plugin(plugin(OWN))
    names = [trainer.__name__ for trainer in available_trainers()]
    assert names.count("RoSPERTrainer") == 1


def test_a_process_that_is_started_knows_the_file_too(plugin):
    add_plugin(plugin(OWN))
    code = "from nnmedseg.trainers import find_trainer; find_trainer('SlowRoSPERTrainer')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_trainer_of_nnunet_needs_nothing_of_ours(plugin):
    text = (
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "class Mine(nnUNetTrainer):\n    pass\n"
    )
    add_plugin(plugin(text))
    assert find_trainer("Mine").__name__ == "Mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import torch\n\n1 / 0\n", "ZeroDivisionError"),
        ("class Mine(:\n", "SyntaxError"),
        ("x = 1\n", "defines no trainer"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(plugin, text, message):
    path = plugin(text)
    with pytest.raises(UserError, match=message) as caught:
        add_plugin(path)
    assert str(path) in str(caught.value)


def test_the_line_of_a_mistake_is_given(plugin):
    with pytest.raises(UserError, match="line 3"):
        add_plugin(plugin("import torch\n\n1 / 0\n"))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(NotFoundError, match="no such plugin"):
        add_plugin(tmp_path / "absent.py")


def test_a_name_that_is_taken_is_refused(plugin):
    add_plugin(plugin(OWN.replace("class SlowRoSPERTrainer", "class RoSPERTrainer")))
    with pytest.raises(UserError, match="two trainers are called RoSPERTrainer"):
        available_trainers()


def test_another_recipe_in_the_same_plans_is_refused(plugin):
    add_plugin(plugin(OWN.replace('plans_name = "SlowRoSPERPlans"', "")))
    with pytest.raises(UserError, match="one plans file and different recipes"):
        available_trainers()


def test_the_list_shows_the_papers_trainers_nnunets_and_a_plugins(plugin, capsys):
    assert main(["--list", "--plugin", str(plugin(OWN))]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names[0] == "TRAINER"
    assert {"RoSPERTrainer", "ASCSegTrainer", "nnUNetTrainer", "SlowRoSPERTrainer"} < set(names)
    assert "learns slowly" in next(line for line in lines if line.startswith("Slow"))


def test_what_to_train_must_be_said(capsys):
    assert main(["2"]) == 2
    assert "configuration, fold" in capsys.readouterr().err
