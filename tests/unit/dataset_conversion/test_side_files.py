"""Lists and tables beside the images of a release."""

from __future__ import annotations

import pytest

from nnmedseg.dataset_conversion._side_files import (
    file_stem,
    find_beside,
    read_names,
    read_table,
)
from nnmedseg.errors import DataError


@pytest.mark.parametrize(
    ("name", "expected"),
    [("1.png", "1"), ("PNG/Original/1.TIF", "1"), ("a\\b\\1.jpg", "1"), ("v1.5", "v1.5")],
)
def test_the_stem_of_a_name_lacks_folders_and_endings_of_images(name, expected):
    assert file_stem(name) == expected


def test_a_mark_of_byte_order_is_no_part_of_a_name(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"\xef\xbb\xbffirst\n\n  second  \n")
    assert read_names(path) == ["first", "second"]


def test_columns_are_in_lower_case_and_values_without_blanks_around(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('Name, Patient ID , Grade\ntrain_1, 5 , "poor, very"\n')
    assert read_table(path) == [{"name": "train_1", "patient id": "5", "grade": "poor, very"}]


def test_values_that_a_row_lacks_are_empty_and_empty_rows_are_none(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b,c\n1\n\n1,2,3,4\n")
    assert read_table(path) == [{"a": "1", "b": "", "c": ""}, {"a": "1", "b": "2", "c": "3"}]


def test_an_empty_table_has_no_rows(tmp_path):
    (tmp_path / "table.csv").touch()
    assert read_table(tmp_path / "table.csv") == []


def test_a_list_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.txt"):
        read_names(tmp_path / "absent.txt")


@pytest.mark.parametrize("place", ["images/a.txt", "A.TXT", "images/lists/a.txt", "lists/A.txt"])
def test_a_file_is_found_in_the_folder_or_beside_it(tmp_path, place):
    for folder in ("images/lists", "lists", "other"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "other" / "a.txt").touch()
    (tmp_path / place).touch()
    assert find_beside(tmp_path / "images", "a.txt", ("lists",)) == tmp_path / place


def test_the_file_in_the_folder_comes_before_the_one_beside_it(tmp_path):
    (tmp_path / "images").mkdir()
    for path in (tmp_path / "a.txt", tmp_path / "images" / "a.txt"):
        path.touch()
    assert find_beside(tmp_path / "images", "a.txt") == tmp_path / "images" / "a.txt"


def test_a_file_in_another_folder_is_not_found(tmp_path):
    for folder in ("images", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "other" / "a.txt").touch()
    assert find_beside(tmp_path / "images", "a.txt") is None
