"""What data sets share is found in plain raw folders and in converted ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from nnmedseg.data.images import read_image, write_png
from nnmedseg.dataset_conversion import convert
from nnmedseg.dataset_conversion.overlap import check_overlap
from nnmedseg.errors import DataError, NotFoundError, UserError

ISIC = Path(__file__).parents[2] / "data" / "ISIC2018"
SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
PHOTOS = sorted(ISIC.rglob("*.jpg"))
IDS = [path.stem for path in PHOTOS]


def make(folders, name: str, train=(), test=(), ending: str = ".png", **description) -> Path:
    """Write a plain raw data set with images ``(case, array)`` in each part."""
    folder = folders.raw / name
    for part, images in (("imagesTr", train), ("imagesTs", test)):
        (folder / part).mkdir(parents=True)
        for case, image in images:
            write(image, folder / part / f"{case}_0000{ending}")
    content = {"channel_names": {"0": "R"}, "labels": {"background": 0}, "file_ending": ending}
    (folder / "dataset.json").write_text(json.dumps(content | description), "utf-8")
    return folder


def write(image: np.ndarray, path: Path) -> None:
    if path.suffix == ".png":
        write_png(image, path)
    else:
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), path)


def photo(number: int) -> np.ndarray:
    return read_image(PHOTOS[number])


def small(number: int) -> np.ndarray:
    return np.asarray(Image.fromarray(photo(number)).resize((128, 128)))


def pairs(report) -> list[tuple]:
    return [
        (pair.kind, pair.first.part, pair.first.case, pair.second.part, pair.second.case)
        for pair in report.shared
    ]


def test_shared_images_are_named_with_their_parts_leaks_first(folders):
    make(folders, "Dataset001_A", [("a0", photo(0)), ("a1", photo(1))], [("a2", photo(2))])
    make(folders, "Dataset002_B", [("b2", small(2)), ("b1", photo(1))], [("b3", photo(3))])
    report = check_overlap([1, "B"], folders=folders)
    assert report.datasets == ("Dataset001_A", "Dataset002_B")
    assert pairs(report) == [
        ("near", "test", "a2", "train", "b2"),
        ("exact", "train", "a1", "train", "b1"),
    ]
    assert [pair.is_leak() for pair in report.shared] == [True, False]
    assert report.shared[0].first.file == "Dataset001_A/imagesTs/a2_0000.png"


def test_the_meaning_says_which_training_spoils_which_test(folders):
    make(folders, "Dataset001_A", [("a0", photo(0))], [("a2", photo(2)), ("a3", photo(3))])
    make(folders, "Dataset002_B", [("b2", photo(2))], [("b3", photo(3))])
    first, leak, tests = check_overlap([1, 2], folders=folders).meaning()
    assert first == (
        "Dataset001_A and Dataset002_B share images: 2 of 3 cases of Dataset001_A, 2 of 2 of "
        "Dataset002_B."
    )
    assert leak == (
        "Training on Dataset002_B leaks into the test part of Dataset001_A: 1 of its 2 test "
        "images are training images there."
    )
    assert tests.startswith("1 test images of Dataset001_A are test images of Dataset002_B too")


def test_shared_training_images_spoil_validation(folders):
    make(folders, "Dataset001_A", [("a", photo(0))])
    make(folders, "Dataset002_B", [("b", photo(0))])
    assert "neither can validate" in check_overlap([1, 2], folders=folders).meaning()[-1]


def test_data_sets_without_shared_images_share_nothing(folders):
    make(folders, "Dataset001_A", [("x", photo(0))], [("y", photo(1))])
    make(folders, "Dataset002_B", [("x", photo(2))], [("y", photo(3))])
    report = check_overlap([1, 2], folders=folders)
    assert report.shared == ()
    assert report.meaning() == ["Dataset001_A and Dataset002_B share no image."]


def test_copies_within_a_data_set_are_not_shared_with_others(folders):
    make(folders, "Dataset001_A", [("x", photo(0)), ("y", photo(0))], [("z", photo(0))])
    make(folders, "Dataset002_B", [("x", photo(1))])
    assert check_overlap([1, 2], folders=folders).shared == ()


def test_each_of_several_copies_is_named(folders):
    make(folders, "Dataset001_A", [("a", photo(0)), ("b", photo(0)), ("c", photo(0))])
    make(folders, "Dataset002_B", [("d", photo(0))], [("e", small(0)), ("f", small(0))])
    make(folders, "Dataset003_C", [("g", photo(0))])
    report = check_overlap([1, 2, 3], folders=folders)
    named = {(pair.first.case, pair.second.case) for pair in report.shared}
    train, near = {("a", "d"), ("b", "d"), ("c", "d")}, {("a", "e"), ("b", "f"), ("c", "f")}
    with_c = {("a", "g"), ("b", "g"), ("c", "g"), ("d", "g"), ("e", "g"), ("f", "g")}
    assert named == train | near | with_c
    both = [("Dataset002_B", "train"), ("Dataset002_B", "test")]
    assert report.count([("Dataset001_A", "train")], both) == 3
    assert report.count(both, [("Dataset001_A", "train")]) == 3


def test_of_one_data_set_the_parts_are_compared(folders):
    train = [("a", photo(0)), ("b", photo(0)), ("c", photo(1)), ("small", small(0))]
    make(folders, "Dataset001_A", train, [("d", photo(1)), ("e", photo(2))])
    report = check_overlap([1], folders=folders)
    assert pairs(report) == [("exact", "train", "c", "test", "d")]
    first, second = report.meaning()
    assert first == "Dataset001_A: 1 of 2 test images are training images too (1 of 4)."
    assert "has seen these test images" in second


def test_training_images_that_the_folds_leave_out_do_not_leak(folders, download):
    test_image = download / "ISIC2018_Task1-2_Test_Input" / "ISIC_0009891.jpg"
    copy = download / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000000.jpg"
    shutil.copyfile(test_image, copy)
    convert("ISIC2018", download, folders=folders)
    report = check_overlap([2], folders=folders)
    assert pairs(report) == [("exact", "train", "ISIC_0000000", "test", "ISIC_0009891")]
    assert report.meaning()[-1].endswith("leave these training images out: nothing leaks.")


def test_the_files_of_the_download_are_named(folders, download):
    convert("ISIC2018", download, folders=folders)
    make(folders, "Dataset005_Mine", [("mine", photo(IDS.index("ISIC_0000188")))])
    (pair,) = check_overlap([2, 5], folders=folders).shared
    assert pair.first.source == "ISIC2018_Task1-2_Training_Input/ISIC_0000188.jpg"
    assert pair.second.source is None
    assert pair.kind == "exact"


def test_recorded_signatures_spare_the_reading(folders, download):
    made = convert("ISIC2018", download, folders=folders)
    for path in made.glob("images*/*.png"):
        path.write_bytes(b"")
    make(folders, "Dataset005_Mine", [("mine", photo(IDS.index("ISIC_0000188")))])
    assert len(check_overlap([2, 5], folders=folders).shared) == 1


def test_validation_images_are_training_images_in_the_raw_folder(folders, download):
    convert("ISIC2018", download, folders=folders)
    make(folders, "Dataset005_Mine", [("mine", photo(IDS.index("ISIC_0000510")))])
    (pair,) = check_overlap([2, 5], folders=folders).shared
    assert pair.first.part == "train"


def test_images_are_found_through_the_dataset_key(folders, monkeypatch):
    other = make(folders, "Dataset001_A", [("a", photo(0)), ("b", photo(1))])
    elsewhere = folders.raw.parent / "elsewhere"
    elsewhere.mkdir()
    write_png(photo(2), elsewhere / "photo.png")
    monkeypatch.setenv("MY_IMAGES", str(elsewhere))
    listed = {
        "x": {"images": ["../Dataset001_A/imagesTr/b_0000.png"], "label": "unused.png"},
        "y": {"images": ["$MY_IMAGES/photo.png"], "label": "unused.png"},
    }
    make(folders, "Dataset002_B", dataset=listed)
    make(folders, "Dataset003_C", [("c", photo(2))])
    report = check_overlap([1, 2, 3], folders=folders)
    assert pairs(report) == [
        ("exact", "train", "b", "train", "x"),
        ("exact", "train", "y", "train", "c"),
    ]
    assert report.shared[0].second.path == other / "imagesTr" / "b_0000.png"
    assert report.shared[1].first.file == str(elsewhere / "photo.png")


def test_volumes_are_compared_by_their_first_channel(folders):
    values = np.random.default_rng(0).normal(size=(2, 6, 8, 5)).repeat(4, 1).repeat(5, 2)
    volume, other = (np.float32(channel) for channel in values)
    folder = make(folders, "Dataset001_A", [("a", volume)], ending=".nii.gz")
    write(other, folder / "imagesTr" / "a_0001.nii.gz")
    scaled = [("b", volume * 3 - 100), ("c", other)]
    make(folders, "Dataset002_B", scaled, ending=".nii.gz")
    assert pairs(check_overlap([1, 2], folders=folders)) == [("near", "train", "a", "train", "b")]


def test_hidden_and_other_files_are_no_cases(folders):
    folder = make(folders, "Dataset001_A", [("a", photo(0))], [("b", photo(1))])
    for name in ("._a_0000.png", "notes.txt", "a_0000.jpg", "a.png"):
        (folder / "imagesTr" / name).write_text("no image")
    report = check_overlap([1], folders=folders)
    assert report.cases == {("Dataset001_A", "train"): 1, ("Dataset001_A", "test"): 1}


def test_all_unreadable_images_are_named(folders):
    folder = make(folders, "Dataset001_A", [("a", photo(0)), ("b", photo(1)), ("c", photo(2))])
    make(folders, "Dataset002_B", [("d", photo(3))])
    (folder / "imagesTr" / "a_0000.png").write_bytes(b"")
    damaged = folder / "imagesTr" / "c_0000.png"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    with pytest.raises(DataError) as raised:
        check_overlap([1, 2], folders=folders)
    message = str(raised.value)
    assert "2 image(s) cannot be read" in message
    assert "Dataset001_A/imagesTr/a_0000.png" in message
    assert "Dataset001_A/imagesTr/c_0000.png" in message


@pytest.mark.parametrize("description", ["{", "[]", "{}", '{"file_ending": ".png", "dataset": 3}'])
def test_a_useless_dataset_json_is_named(folders, description):
    folder = make(folders, "Dataset001_A", [("a", photo(0))])
    (folder / "dataset.json").write_text(description, "utf-8")
    with pytest.raises(DataError, match=r"dataset\.json"):
        check_overlap([1], folders=folders)


def test_a_conversion_json_of_another_program_is_passed_over(folders):
    for number, content in enumerate(('{"cases": 3}', "no JSON", "[]", '{"cases": ["x"]}'), 1):
        folder = make(folders, f"Dataset00{number}_A", [("a", photo(number))])
        (folder / "conversion.json").write_text(content, "utf-8")
    assert check_overlap([1, 2, 3, 4], folders=folders).shared == ()


def test_preprocessed_data_alone_cannot_be_compared(folders):
    (folders.preprocessed / "Dataset001_A").mkdir()
    with pytest.raises(NotFoundError, match=r"no dataset\.json of"):
        check_overlap([1], folders=folders)


@pytest.mark.parametrize(
    ("datasets", "message"),
    [([], "no data set was named"), ([1, "A"], "twice"), ([1], "one part only"), ([2], "no image")],
)
def test_what_cannot_be_compared_is_said(folders, datasets, message):
    make(folders, "Dataset001_A", [("a", photo(0))])
    make(folders, "Dataset002_Empty")
    with pytest.raises(UserError, match=message):
        check_overlap(datasets, folders=folders)


def test_the_report_as_json_has_everything(folders):
    make(folders, "Dataset001_A", [("a", photo(0))], [("t", photo(1))])
    make(folders, "Dataset002_B", [("b", photo(1))])
    content = json.loads(json.dumps(check_overlap([1, 2], folders=folders).to_dict()))
    assert content["datasets"]["Dataset001_A"] == {"train": 1, "test": 1}
    first, second = ["Dataset001_A", "test"], ["Dataset002_B", "train"]
    assert content["shared_cases"] == [
        {"dataset": first[0], "part": first[1], "also_in": second, "cases": 1},
        {"dataset": second[0], "part": second[1], "also_in": first, "cases": 1},
    ]
    (pair,) = content["pairs"]
    assert pair["images"][1] == {
        "dataset": "Dataset002_B", "part": "train", "case": "b",
        "file": "Dataset002_B/imagesTr/b_0000.png", "source": None,
    }  # fmt: skip


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample data are not here")
@pytest.mark.slow
def test_of_the_isic_challenges_exactly_the_shared_ids_are_found(folders):
    ids = {}
    for number, year in enumerate((2016, 2017, 2018), start=1):
        paths = sorted(SAMPLES.glob(f"ISIC{year}/*/ISIC_*.jpg"))
        assert paths
        ids[year] = {path.stem for path in paths}
        images = [(path.stem, read_image(path)) for path in paths]
        # The releases hold most images of an earlier one too, here the first half.
        other = sorted(SAMPLES.glob(f"ISIC{year - 1}/*/ISIC_*.jpg"))[::2]
        images += [(path.stem, read_image(path)) for path in other]
        ids[year] |= {path.stem for path in other}
        make(folders, f"Dataset00{number}_ISIC{year}", images)
    report = check_overlap([1, 2, 3], folders=folders)
    found = {
        (pair.first.dataset[-4:], pair.first.case, pair.second.dataset[-4:], pair.second.case)
        for pair in report.shared
    }
    expected = {
        (str(first), name, str(second), name)
        for first, second in ((2016, 2017), (2016, 2018), (2017, 2018))
        for name in ids[first] & ids[second]
    }
    assert found == expected
    assert expected
