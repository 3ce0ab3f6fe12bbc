"""Files are written whole or not at all."""

import pytest

from nnmedseg.files import atomic_path, read_json, write_json


def test_the_file_appears_under_its_name(tmp_path):
    write_json({"a": 1}, tmp_path / "new" / "file.json")
    assert read_json(tmp_path / "new" / "file.json") == {"a": 1}


def write_half(target):
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError


def test_a_failed_write_keeps_the_previous_file(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("before")
    with pytest.raises(RuntimeError):
        write_half(target)
    assert target.read_text() == "before"


def test_a_failed_write_leaves_no_temporary_file(tmp_path):
    with pytest.raises(RuntimeError):
        write_half(tmp_path / "file.txt")
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_name_keeps_a_double_ending(tmp_path):
    with atomic_path(tmp_path / "mask.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"x")
