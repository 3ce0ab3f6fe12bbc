"""The three folders and the data sets in them."""

import os
from pathlib import Path

import pytest

from nnmedseg.errors import NotFoundError, UserError
from nnmedseg.paths import VARIABLES, parse_dataset_id, resolve, use


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    # setenv first, so that what resolve() writes is undone after the test
    for variable in VARIABLES.values():
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def test_unset_variables_give_the_default_workspace(tmp_path):
    assert resolve().raw == tmp_path / "nnmedseg_workspace" / "raw"


def test_a_set_variable_is_honoured(monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "mine"))
    assert resolve().results == tmp_path / "mine"


def test_a_variable_that_is_unset_falls_back_beside_one_that_is_set(monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "mine"))
    assert resolve().raw == tmp_path / "nnmedseg_workspace" / "raw"


def test_an_explicit_workspace_wins_over_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "mine"))
    assert resolve(tmp_path / "other").results == tmp_path / "other" / "results"


def test_nnunet_sees_the_same_folders(tmp_path):
    folders = resolve(tmp_path / "w")
    assert os.environ["nnUNet_preprocessed"] == str(folders.preprocessed)


def test_folders_that_a_caller_gives_are_nnunets_too(tmp_path):
    given = resolve(tmp_path / "w")
    resolve(tmp_path / "other")
    assert use(given) == given
    assert os.environ["nnUNet_preprocessed"] == str(given.preprocessed)


def test_without_folders_those_of_the_variables_are_used(monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "mine"))
    assert use(None).results == tmp_path / "mine"


def test_folders_are_created(tmp_path):
    assert resolve(tmp_path / "w").results.is_dir()


def test_a_workspace_that_is_a_file_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be created"):
        resolve(tmp_path / "file")


@pytest.mark.parametrize("text", ["2", 2, "002", "Skin", "Dataset002_Skin"])
def test_a_data_set_is_found_by_number_and_by_name(tmp_path, text):
    folders = resolve(tmp_path / "w")
    (folders.raw / "Dataset002_Skin").mkdir()
    assert folders.dataset_name(text) == "Dataset002_Skin"


def test_a_data_set_that_is_only_preprocessed_is_found(tmp_path):
    folders = resolve(tmp_path / "w")
    (folders.preprocessed / "Dataset002_Skin").mkdir()
    assert folders.dataset_name(2) == "Dataset002_Skin"


def test_an_unknown_data_set_names_the_known_ones(tmp_path):
    folders = resolve(tmp_path / "w")
    (folders.raw / "Dataset002_Skin").mkdir()
    with pytest.raises(NotFoundError, match="Dataset002_Skin"):
        folders.dataset_name(3)


def test_two_data_sets_with_one_number_are_refused(tmp_path):
    folders = resolve(tmp_path / "w")
    for name in ("Dataset002_Skin", "Dataset002_Other"):
        (folders.raw / name).mkdir()
    with pytest.raises(UserError, match="ambiguous"):
        folders.dataset_name(2)


@pytest.mark.parametrize("number", [0, 1000, -1])
def test_a_number_outside_three_digits_is_refused(number):
    with pytest.raises(UserError, match="between 1 and 999"):
        parse_dataset_id(number)


def test_the_message_says_what_where_and_how():
    error = UserError("it broke", where=Path("/some/file"), mend="do this")
    assert str(error).splitlines() == ["it broke", "  where: /some/file", "  to mend it: do this"]
