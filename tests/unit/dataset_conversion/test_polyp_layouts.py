"""Polyp sets that go round in several layouts: each is read, and of several one is taken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnmedseg.dataset_conversion import convert
from nnmedseg.dataset_conversion.registry import find_converter
from nnmedseg.errors import DataError

from .stand_ins import (
    CASES,
    blob,
    clinicdb,
    colondb,
    etis,
    grey,
    images_and_masks,
    picture,
    save,
    save_tiff,
)

TEST_SETS = ("CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB")


def record_of(made: Path) -> dict:
    return json.loads((made / "conversion.json").read_text("utf-8"))


def folders_of_images(record: dict) -> set[str]:
    return {str(Path(case["images"][0]["file"]).parent) for case in record["cases"]}


def assert_all_cases(made: Path, count: int = CASES) -> None:
    assert len(list((made / "imagesTr").iterdir())) == count
    for number in range(1, count + 1):
        image = np.asarray(Image.open(made / "imagesTr" / f"{number}_0000.png"))
        label = np.asarray(Image.open(made / "labelsTr" / f"{number}.png"))
        assert np.array_equal(image, picture(number))
        assert np.array_equal(label, blob(number))


def png_release(root: Path, images: str = "PNG/Original", masks: str = "PNG/Ground Truth") -> None:
    for number in range(1, CASES + 1):
        save(root / images / f"{number}.png", picture(number))
        save(root / masks / f"{number}.png", grey(blob(number)))


@pytest.mark.parametrize("name", TEST_SETS)
@pytest.mark.parametrize("names", [("images", "masks"), ("image", "mask"), ("IMAGES", "Masks")])
def test_every_polyp_set_is_read_as_images_and_masks(tmp_path, folders, name, names):
    png_release(tmp_path / "download", *names)
    assert_all_cases(convert(name, tmp_path / "download", folders=folders))


@pytest.mark.parametrize("name", TEST_SETS)
def test_each_test_set_is_found_among_the_others_by_its_name(tmp_path, folders, name):
    for number, other in enumerate([*TEST_SETS, "Kvasir"]):
        images_and_masks(f"TestDataset/{other}", start=1 + 20 * number)(tmp_path / "download")
    images_and_masks("TrainDataset", start=300)(tmp_path / "download")
    record = record_of(convert(name, tmp_path / "download", folders=folders))
    assert folders_of_images(record) == {f"TestDataset/{name}/images"}


@pytest.mark.parametrize("name", TEST_SETS)
def test_places_that_nothing_tells_apart_are_refused(tmp_path, folders, name):
    for place in ("a", "b"):
        images_and_masks(place)(tmp_path / "download")
    with pytest.raises(DataError, match=r"a/images \(6 cases\), b/images \(6 cases\)"):
        convert(name, tmp_path / "download", folders=folders)


@pytest.mark.parametrize("given", ["Original", "Ground Truth"])
def test_the_folder_of_images_or_masks_may_be_given(tmp_path, folders, given):
    png_release(tmp_path / "download")
    assert_all_cases(
        convert("CVC-ClinicDB", tmp_path / "download" / "PNG" / given, folders=folders)
    )


def test_masks_of_other_names_are_listed_as_problems(tmp_path, folders):
    png_release(tmp_path / "download", "images", "masks")
    for path in sorted((tmp_path / "download" / "masks").iterdir()):
        path.rename(path.with_name(f"{path.stem}_gt.png"))
    with pytest.raises(DataError, match=r"images/1\.png: an image without a mask"):
        convert("CVC-300", tmp_path / "download", folders=folders)


def test_clinicdb_is_read_as_png_and_as_tiff_under_the_name_png(tmp_path, folders):
    png_release(tmp_path / "download")
    odd = tmp_path / "download" / "PNG" / "Original" / "1.png"
    save_tiff(odd, picture(1))
    assert_all_cases(convert("CVC-ClinicDB", tmp_path / "download", folders=folders))


@pytest.mark.parametrize("tiff", ["CVC-ClinicDB", "TIF"])
def test_of_two_forms_of_clinicdb_one_is_taken_and_said(tmp_path, folders, tiff):
    root = tmp_path / "download"
    clinicdb(root)
    (root / "CVC-ClinicDB").rename(root / tiff)
    png_release(root)
    record = record_of(convert("CVC-ClinicDB", root, folders=folders))
    assert folders_of_images(record) in ({f"{tiff}/Original"}, {"PNG/Original"})
    (taken,) = folders_of_images(record)
    assert f"at 2 places: {taken} (6 cases) is converted" in record["warnings"][0]


def test_of_two_forms_the_one_with_more_cases_is_taken(tmp_path, folders):
    root = tmp_path / "download"
    clinicdb(root)
    (root / "CVC-ClinicDB" / "Original" / "3.tif").unlink()
    png_release(root)
    record = record_of(convert("CVC-ClinicDB", root, folders=folders))
    assert folders_of_images(record) == {"PNG/Original"}


@pytest.mark.parametrize("ending", [".bmp", ".tiff"])
def test_colondb_is_read_in_one_folder_without_its_other_masks(tmp_path, folders, ending):
    root = tmp_path / "download"
    for number in range(1, CASES + 1):
        save(root / f"{number}{ending}", picture(number))
        save(root / f"p{number}{ending}", grey(blob(number)))
        for other in ("c", "s", "cp"):
            save(root / f"{other}{number}{ending}", grey(~blob(number)))
    assert_all_cases(convert("CVC-ColonDB", root, folders=folders))


def test_an_image_of_colondb_that_is_a_mask_is_warned_of(tmp_path, folders):
    root = tmp_path / "download"
    colondb(root)
    save(root / "CVC-ColonDB" / "CVC-ColonDB" / "380.tiff", grey(blob(9)))
    save(root / "CVC-ColonDB" / "CVC-ColonDB" / "p380.tiff", grey(blob(8)))
    record = record_of(convert("CVC-ColonDB", root, folders=folders))
    assert any("two values" in text and "380" in text for text in record["warnings"])


def test_cvc_300_is_read_as_a_part_of_endoscene(tmp_path, folders):
    root = tmp_path / "download" / "CVC-EndoSceneStill"
    for part, count in (("CVC-300", 6), ("CVC-612", 9)):
        for number in range(1, count + 1):
            save(root / part / "bbdd" / f"{number}.bmp", picture(number))
            save(root / part / "gtpolyp" / f"{number}.bmp", grey(blob(number)))
            save(root / part / "gtlumen" / f"{number}.bmp", grey(~blob(number)))
    assert_all_cases(convert("CVC-300", root.parent, folders=folders))


def test_of_equal_forms_the_original_is_taken_though_the_other_is_nearer(tmp_path, folders):
    etis(tmp_path / "download" / "TIF")
    images_and_masks("ETIS")(tmp_path / "download")
    made = convert("ETIS-LaribPolypDB", tmp_path / "download", folders=folders)
    assert_all_cases(made)
    assert folders_of_images(record_of(made)) == {"TIF/ETIS-LaribPolypDB/ETIS-LaribPolypDB"}


def test_masks_with_p_tell_etis_from_others_in_folders_of_any_name(tmp_path, folders):
    root = tmp_path / "download"
    images_and_masks("a", start=60)(root)
    for number in range(1, CASES + 1):
        save_tiff(root / "b" / "Original" / f"{number}.tif", picture(number))
        save_tiff(root / "b" / "Ground Truth" / f"p{number}.tif", grey(blob(number)))
    assert_all_cases(convert("ETIS-LaribPolypDB", root, folders=folders))


@pytest.mark.parametrize("name", ["CVC-ColonDB", "CVC-300"])
def test_colondb_and_cvc_300_are_said_to_share_sequences(tmp_path, folders, name):
    png_release(tmp_path / "download", "images", "masks")
    warnings = record_of(convert(name, tmp_path / "download", folders=folders))["warnings"]
    assert any("do not train on one and test on the other" in text for text in warnings)


def write_table(root: Path, header: str, sequences: dict[int, object]) -> None:
    rows = [
        f"{number},{sequence},{number % 3},PNG/Original/{number}.png,PNG/Ground Truth/{number}.png"
        for number, sequence in sequences.items()
    ]
    (root / "metadata.csv").write_text("\n".join([header, *rows]))


HEADERS = [
    "frame_id,sequence_id,frame_number,png_image_path,png_mask_path",
    "row,sequence_id,frame_number,png_image_path,png_mask_path",
    "Frame_ID, Sequence, Frame_Number, Path, Mask",
]


@pytest.mark.parametrize("header", HEADERS)
def test_frames_of_one_sequence_of_clinicdb_stay_together(tmp_path, folders, header):
    root = tmp_path / "download"
    png_release(root)
    write_table(root, header, {1: 7, 2: 7, 3: 8, 4: 8, 5: 9, 6: 9})
    made = convert("CVC-ClinicDB", root, folders=folders)
    folds = json.loads((made / "splits_final.json").read_text("utf-8"))
    assert sorted(fold["val"] for fold in folds) == [["1", "2"], ["3", "4"], ["5", "6"]]
    assert not any("different folds" in text for text in record_of(made)["warnings"])


@pytest.mark.parametrize(
    ("sequences", "said"),
    [({1: 7, 2: 7, 3: ""}, "4 of 6 frames"), ({90: 7, 91: 7}, "all frames"), ({}, "all frames")],
)
def test_frames_without_a_sequence_are_said(tmp_path, folders, sequences, said):
    root = tmp_path / "download"
    png_release(root)
    write_table(root, HEADERS[0], sequences)
    record = record_of(convert("CVC-ClinicDB", root, folders=folders))
    assert any(f"the sequence of {said}" in text for text in record["warnings"])


def test_without_a_table_of_sequences_that_is_said(tmp_path, folders):
    clinicdb(tmp_path / "download")
    record = record_of(convert("CVC-ClinicDB", tmp_path / "download", folders=folders))
    assert any("No metadata.csv" in text for text in record["warnings"])


def test_a_doubled_folder_of_images_is_entered(tmp_path):
    root = tmp_path / "download"
    png_release(root, "images/images", "masks/masks")
    cases = find_converter("CVC-300").find_cases(root)
    assert all(case.images and case.masks for case in cases)
    assert len(cases) == CASES
