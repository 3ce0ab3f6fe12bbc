"""Finding folders, pairing names, and finding converters."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.dataset_conversion.finding import (
    find_folders,
    find_images,
    find_images_by_name,
    innermost,
    is_ignorable,
    pair_by_name,
    safe_id,
)
from nnmedseg.dataset_conversion.registry import find_converter, list_converters, register
from nnmedseg.errors import DataError, NotFoundError


def make(root: Path, *folders: str) -> Path:
    for folder in folders:
        (root / folder).mkdir(parents=True)
    return root


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (["Images", "Masks"], {"Images": "Images", "Masks": "Masks"}),
        (["x/Images", "x/Masks"], {"Images": "x/Images", "Masks": "x/Masks"}),
        (["Images/Images", "Masks"], {"Images": "Images/Images", "Masks": "Masks"}),
        (["x/Images/Images"], {"Images": "x/Images/Images"}),
        (["IMAGES", "masks"], {"Images": "IMAGES", "Masks": "masks"}),
        (["Images", "x/Images"], {"Images": "Images"}),
        (["__MACOSX/Images", ".hidden/Masks"], {}),
        (["u/v/x/y/z/Images"], {"Images": "u/v/x/y/z/Images"}),
        (["t/u/v/x/y/z/Images"], {}),
    ],
)
def test_folders_are_found_where_unpacking_puts_them(tmp_path, present, expected):
    make(tmp_path, *present)
    found = find_folders(tmp_path, ["Images", "Masks"])
    assert found == {name: tmp_path / place for name, place in expected.items()}


def test_folders_are_found_beside_the_one_that_was_given(tmp_path):
    make(tmp_path, "Images", "Masks")
    assert find_folders(tmp_path / "Images", ["Images", "Masks"]) == {
        "Images": tmp_path / "Images",
        "Masks": tmp_path / "Masks",
    }


def test_folders_beside_another_one_are_not_taken(tmp_path):
    make(tmp_path, "Images", "Masks", "Other")
    assert find_folders(tmp_path / "Other", ["Images", "Masks"]) == {}


def test_a_folder_at_two_places_is_refused_with_both(tmp_path):
    make(tmp_path, "a/Images", "b/Images")
    with pytest.raises(DataError, match="a/Images, b/Images"):
        find_folders(tmp_path, ["Images"])


@pytest.mark.parametrize(
    "name",
    ["._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "list.CSV", "LICENSE", "ATTRIBUTION.txt"],
)
def test_files_of_systems_and_notes_are_ignored(name):
    assert is_ignorable(Path(name))


def test_images_are_found_by_their_ending_in_any_letter_case(tmp_path):
    for name in ("b.JPG", "a.png", "c.Tiff", "d.doc", "._a.png"):
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path)] == ["a.png", "b.JPG", "c.Tiff"]


@pytest.mark.parametrize("place", ["", "a", "a/b/c/d/e/f"])
def test_images_are_found_by_their_names_in_any_folder(tmp_path, place):
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    for name in (
        "case_1.PNG",
        "Case_2.jpg",
        "case_3.txt",
        "._case_4.png",
        "xcase_5.png",
        "case_66.png",
    ):
        (folder / name).touch()
    found = find_images_by_name(tmp_path, r"case_\d")
    assert sorted(path.name for path in found) == ["Case_2.jpg", "case_1.PNG"]


def test_of_images_of_one_name_the_nearest_count(tmp_path):
    make(tmp_path, "a", "b", "b/c")
    for place in ("a/1.png", "b/1.png", "b/c/1.png", "b/c/2.png"):
        (tmp_path / place).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images_by_name(tmp_path, r"\d")]
    assert found == ["a/1.png", "b/1.png", "b/c/2.png"]


def test_the_inner_of_two_folders_of_one_name_is_meant(tmp_path):
    make(tmp_path, "images/Images", "masks/other")
    assert innermost(tmp_path / "images") == tmp_path / "images" / "Images"
    assert innermost(tmp_path / "masks") == tmp_path / "masks"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("benign (1)", "benign_1"), ("a b", "a_b"), ("ISIC_0000001", "ISIC_0000001"), ("é.1", "1")],
)
def test_ids_are_safe_in_file_names(name, expected):
    assert safe_id(name) == expected


def test_pairs_are_made_by_name_and_not_by_position():
    images = [Path("ISIC_1.jpg"), Path("ISIC_2.jpg"), Path("ISIC-metadata.png")]
    masks = [Path("ISIC_2_Segmentation.PNG"), Path("isic_1_segmentation.png")]
    cases = pair_by_name(
        images,
        masks,
        part="test",
        image_name=r"(?P<id>ISIC_\d+)",
        mask_name=r"(?P<id>ISIC_\d+)_segmentation",
    )
    assert cases == [
        Case("ISIC_1", (images[0],), (masks[1],), "test"),
        Case("ISIC_2", (images[1],), (masks[0],), "test"),
    ]


def test_several_masks_of_an_image_stay_together():
    masks = [Path("benign (1)_mask.png"), Path("benign (1)_mask_1.png")]
    (case,) = pair_by_name(
        [Path("benign (1).png")], masks, part="train", mask_name=r"(?P<id>.+)_mask(_\d+)?"
    )
    assert case.id == "benign_1"
    assert case.masks == tuple(masks)


def test_unpaired_files_are_cases_that_lack_something():
    cases = pair_by_name([Path("a.png")], [Path("b.png")], part="train")
    assert [(case.images, case.masks) for case in cases] == [
        ((Path("a.png"),), ()),
        ((), (Path("b.png"),)),
    ]


@pytest.mark.parametrize("name", ["ISIC2018", "isic2018", "ISIC-2018", "isic 2018"])
def test_converters_are_found_in_any_spelling(name):
    assert find_converter(name).name == "ISIC2018"


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(NotFoundError, match="did you mean ISIC2018"):
        find_converter("ISIC2081")


def test_a_name_without_a_neighbour_gets_none():
    with pytest.raises(NotFoundError) as raised:
        find_converter("zzzz")
    assert "did you mean" not in str(raised.value)


@pytest.mark.parametrize(
    "converter",
    [converter for converter in list_converters() if converter.number is not None],
    ids=lambda converter: converter.name,
)
def test_every_data_set_with_a_number_says_what_it_is(converter):
    assert 1 <= converter.number <= 999
    assert converter.page.startswith("https://")
    assert converter.title
    assert converter.licence
    assert converter.citation
    assert next(iter(converter.labels.items())) == ("background", 0)
    assert list(converter.labels.values()) == list(range(len(converter.labels)))


def test_names_and_numbers_are_unique():
    class Again(DatasetConverter):
        name = "again"
        number = find_converter("ISIC2018").number

        def find_cases(self, root: Path) -> list[Case]:
            return []

    with pytest.raises(ValueError, match="clashes with ISIC2018"):
        register(Again)
