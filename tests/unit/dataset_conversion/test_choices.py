"""What a user may choose about a conversion, and what becomes of copies and broken cases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from nnmedseg.dataset_conversion import convert
from nnmedseg.dataset_conversion.base import Options
from nnmedseg.errors import DataError, NotFoundError, UserError

IMAGES = "ISIC2018_Task1-2_{}_Input"
MASKS = "ISIC2018_Task1_{}_GroundTruth"


def record_of(made: Path) -> dict:
    return json.loads((made / "conversion.json").read_text("utf-8"))


def ids_of(made: Path) -> list[str]:
    return [case["id"] for case in record_of(made)["cases"]]


def folds_of(made: Path) -> list[dict]:
    return json.loads((made / "splits_final.json").read_text("utf-8"))


def image(download: Path, number: int, part: str = "Training") -> Path:
    return download / IMAGES.format(part) / f"ISIC_{number:07d}.jpg"


def mask(download: Path, number: int, part: str = "Training") -> Path:
    return download / MASKS.format(part) / f"ISIC_{number:07d}_segmentation.png"


def test_broken_cases_are_skipped_when_asked_and_recorded(download, folders):
    image(download, 0).write_bytes(b"")
    mask(download, 188).unlink()
    made = convert("ISIC2018", download, folders=folders, skip_broken=True)
    assert len(ids_of(made)) == 9
    broken = {entry["file"]: entry for entry in record_of(made)["skipped"] if entry.get("broken")}
    assert [Path(name).name for name in sorted(broken)] == [
        "ISIC_0000000.jpg",
        "ISIC_0000188.jpg",
        "ISIC_0000000_segmentation.png",
    ]
    assert "the file is empty" in broken[f"{IMAGES.format('Training')}/ISIC_0000000.jpg"]["reason"]
    assert not list(made.rglob("*0000000*"))


def test_the_same_broken_cases_are_known_the_next_time(download, folders):
    image(download, 0).write_bytes(b"")
    mask(download, 188).unlink()
    made = convert("ISIC2018", download, folders=folders, skip_broken=True)
    assert convert("ISIC2018", download, folders=folders, skip_broken=True) == made


def test_skipping_may_not_leave_nothing_to_train_on(download, folders):
    for photo in (download / IMAGES.format("Training")).glob("*.jpg"):
        photo.write_bytes(b"")
    with pytest.raises(DataError, match="no training case is left"):
        convert("ISIC2018", download, folders=folders, skip_broken=True)


def test_a_data_set_of_empty_masks_is_refused(download, folders):
    for path in (download / MASKS.format("Training")).glob("*.png"):
        Image.new("L", Image.open(path).size).save(path)
    with pytest.raises(DataError, match="7 training masks are empty"):
        convert("ISIC2018", download, folders=folders)


def test_a_mask_of_another_size_is_fitted_when_asked(download, folders):
    size = Image.open(image(download, 222)).size
    small = np.zeros((size[1] // 2, size[0] // 2), np.uint8)
    small[:10, :20] = 255
    Image.fromarray(small).save(mask(download, 222))
    made = convert("ISIC2018", download, folders=folders, options=Options(resize_masks=True))
    written = np.asarray(Image.open(made / "labelsTr" / "ISIC_0000222.png"))
    assert written.shape == size[::-1]
    assert written[:20, :40].all()
    assert np.count_nonzero(written) == 20 * 40
    case = next(case for case in record_of(made)["cases"] if case["id"] == "ISIC_0000222")
    assert case["mask_resized_from"] == [size[1] // 2, size[0] // 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(spacing=(1, 1, 1)), "no option --spacing"),
        (Options(include=("normal",)), "no option --include"),
    ],
)
def test_an_option_that_a_data_set_does_not_have_is_refused(download, folders, options, message):
    with pytest.raises(UserError, match=message) as raised:
        convert("ISIC2018", download, folders=folders, options=options)
    assert "--resize-masks" in raised.value.mend


def test_other_choices_are_noticed_and_not_overwritten(download, folders):
    convert("ISIC2018", download, folders=folders)
    with pytest.raises(DataError, match="resize_masks=True") as raised:
        convert("ISIC2018", download, folders=folders, options=Options(resize_masks=True))
    assert "--overwrite" in raised.value.mend


def test_an_unknown_split_names_those_that_there_are(download, folders):
    with pytest.raises(NotFoundError, match="rosper"):
        convert("ISIC2018", download, folders=folders, split="nonsense")


def test_a_papers_split_decides_the_parts_and_says_what_is_wrong_with_it(download, folders):
    made = convert("ISIC2018", download, folders=folders, split="rosper")
    record = record_of(made)
    assert record["split"] == "rosper"
    assert sum(record["counts"].values()) == 7
    assert record["counts"]["test"] >= 1
    assert len(list((made / "imagesTs").iterdir())) == record["counts"]["test"]
    assert record["warnings"]
    left_out = {entry["file"] for entry in record["skipped"]}
    assert f"{IMAGES.format('Test')}/ISIC_0009891.jpg" in left_out


def test_a_training_copy_of_a_test_image_is_in_no_fold(download, folders):
    shutil.copy(image(download, 9891, "Test"), image(download, 222))
    shutil.copy(mask(download, 9891, "Test"), mask(download, 222))
    made = convert("ISIC2018", download, folders=folders)
    record = record_of(made)
    assert record["in_no_fold"] == ["ISIC_0000222"]
    assert {"ISIC_0000222", "ISIC_0009891"} in [set(pair["cases"]) for pair in record["duplicates"]]
    assert any("ISIC_0000222" in warning for warning in record["warnings"])
    for fold in folds_of(made):
        assert "ISIC_0000222" not in fold["train"] + fold["val"]
    assert (made / "imagesTr" / "ISIC_0000222_0000.png").exists()


def test_a_training_copy_of_a_test_image_stays_when_leaks_are_allowed(download, folders):
    shutil.copy(image(download, 9891, "Test"), image(download, 222))
    shutil.copy(mask(download, 9891, "Test"), mask(download, 222))
    made = convert("ISIC2018", download, folders=folders, allow_leaks=True)
    assert record_of(made)["in_no_fold"] == []
    assert any("ISIC_0000222" in fold["train"] for fold in folds_of(made))
    assert any("ISIC_0000222" in warning for warning in record_of(made)["warnings"])


def test_copies_within_the_training_part_share_a_fold(download, folders):
    Image.open(image(download, 254)).save(image(download, 377), quality=60)
    shutil.copy(mask(download, 254), mask(download, 377))
    made = convert("ISIC2018", download, folders=folders)
    pair = {"ISIC_0000254", "ISIC_0000377"}
    assert pair in [set(found["cases"]) for found in record_of(made)["duplicates"]]
    for fold in folds_of(made):
        assert len(pair & set(fold["val"])) in (0, 2)


def test_the_official_fold_does_not_train_on_copies_of_its_validation_images(download, folders):
    shutil.copy(image(download, 510, "Validation"), image(download, 222))
    shutil.copy(mask(download, 510, "Validation"), mask(download, 222))
    made = convert("ISIC2018", download, folders=folders)
    *folds, official = folds_of(made)
    assert "ISIC_0000222" not in official["train"]
    assert any("ISIC_0000222" in fold["train"] for fold in folds)


def test_a_png_that_is_right_shares_its_place_on_the_disk(download, folders):
    photo = image(download, 222)
    Image.open(photo).convert("RGB").save(photo.with_suffix(".png"))
    photo.unlink()
    made = convert("ISIC2018", download, folders=folders)
    assert (made / "imagesTr" / "ISIC_0000222_0000.png").samefile(photo.with_suffix(".png"))


def test_a_symbolic_link_to_a_right_png_becomes_a_file(download, folders, tmp_path):
    photo, elsewhere = image(download, 222), tmp_path / "elsewhere.png"
    Image.open(photo).convert("RGB").save(elsewhere)
    photo.with_suffix(".png").symlink_to(elsewhere)
    photo.unlink()
    made = convert("ISIC2018", download, folders=folders)
    assert not (made / "imagesTr" / "ISIC_0000222_0000.png").is_symlink()


@pytest.mark.parametrize("mode", ["RGBA", "L", "P"])
def test_a_png_that_nnunet_would_read_otherwise_is_written_anew(download, folders, mode):
    photo = image(download, 222)
    Image.open(photo).convert(mode).save(photo.with_suffix(".png"))
    photo.unlink()
    made = convert("ISIC2018", download, folders=folders)
    written = Image.open(made / "imagesTr" / "ISIC_0000222_0000.png")
    assert written.mode == "RGB"
    expected = Image.open(photo.with_suffix(".png")).convert("RGB")
    assert np.array_equal(np.asarray(written), np.asarray(expected))


def test_two_conversions_of_a_data_set_do_not_work_at_once(download, folders):
    with (
        FileLock(folders.raw / ".Dataset002_ISIC2018.lock"),
        pytest.raises(UserError, match="another process"),
    ):
        convert("ISIC2018", download, folders=folders)
