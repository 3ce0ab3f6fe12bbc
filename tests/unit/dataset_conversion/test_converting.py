"""Whole conversions of real files."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from PIL import Image

from nnmedseg.dataset_conversion import convert
from nnmedseg.errors import DataError, NotFoundError

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
IMAGES = "ISIC2018_Task1-2_{}_Input"
MASKS = "ISIC2018_Task1_{}_GroundTruth"
TRAIN_IDS = [f"ISIC_{number:07d}" for number in (0, 188, 222, 254, 325, 327, 377)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read_json(path: Path):
    return json.loads(path.read_text("utf-8"))


def problems_of(download: Path, folders) -> str:
    with pytest.raises(DataError) as raised:
        convert("ISIC2018", download, folders=folders)
    assert [name for name in names(folders.raw) if not name.startswith(".")] == []
    return str(raised.value)


def test_the_layout_is_nnunets(download, folders):
    made = convert("ISIC2018", download, folders=folders)
    assert made == folders.raw / "Dataset002_ISIC2018"
    assert names(folders.raw) == ["Dataset002_ISIC2018"]
    both = [*TRAIN_IDS, "ISIC_0000510", "ISIC_0000540"]
    assert names(made / "imagesTr") == [f"{case}_0000.png" for case in both]
    assert names(made / "labelsTr") == [f"{case}.png" for case in both]
    assert names(made / "imagesTs") == ["ISIC_0009891_0000.png", "ISIC_0010175_0000.png"]
    assert names(made / "labelsTs") == ["ISIC_0009891.png", "ISIC_0010175.png"]
    assert [path.name for path in made.iterdir() if path.is_file()].count("journal.jsonl") == 0


def test_pixels_are_those_of_the_download(download, folders):
    made = convert("ISIC2018", download, folders=folders)
    for part, kind in (("Training", "Tr"), ("Validation", "Tr"), ("Test", "Ts")):
        for photo in (download / IMAGES.format(part)).glob("*.jpg"):
            written = imagecodecs.png_decode(
                (made / f"images{kind}" / f"{photo.stem}_0000.png").read_bytes()
            )
            assert np.array_equal(written, imagecodecs.jpeg_decode(photo.read_bytes()))
            mask = download / MASKS.format(part) / f"{photo.stem}_segmentation.png"
            label = imagecodecs.png_decode(
                (made / f"labels{kind}" / f"{photo.stem}.png").read_bytes()
            )
            assert label.dtype == np.uint8
            assert np.array_equal(label, imagecodecs.png_decode(mask.read_bytes()) // 255)


def test_nnunet_accepts_the_result(download, folders):
    made = convert("ISIC2018", download, folders=folders)
    verify_dataset_integrity(str(made), num_processes=1)
    description = read_json(made / "dataset.json")
    assert description["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert description["labels"] == {"background": 0, "lesion": 1}
    assert description["numTraining"] == 9
    assert description["overwrite_image_reader_writer"] == "NaturalImage2DIO"


def test_splits_are_five_folds_and_the_official_one(download, folders):
    splits = read_json(convert("ISIC2018", download, folders=folders) / "splits_final.json")
    assert sorted(case for fold in splits[:5] for case in fold["val"]) == TRAIN_IDS
    assert splits[5:] == [{"train": TRAIN_IDS, "val": ["ISIC_0000510", "ISIC_0000540"]}]


def test_the_record_says_what_was_made_from_which_files(download, folders):
    record = read_json(convert("ISIC2018", download, folders=folders) / "conversion.json")
    assert record["counts"] == {"train": 7, "validation": 2, "test": 2}
    assert record["source"] == "ISIC2018"
    case = record["cases"][0]
    assert case["id"] == "ISIC_0000000"
    assert case["part"] == "train"
    photo = download / case["images"][0]["file"]
    assert case["images"][0]["sha256"] == hashlib.sha256(photo.read_bytes()).hexdigest()
    assert case["image_size"] == list(Image.open(photo).size[::-1])
    mask = np.asarray(Image.open(download / case["masks"][0]["file"]))
    assert case["foreground_pixels"] == np.count_nonzero(mask)


def test_no_path_of_the_machine_is_written(download, folders, tmp_path):
    made = convert("ISIC2018", download, folders=folders)
    for file in made.glob("*.json"):
        assert str(tmp_path) not in file.read_text("utf-8")


def test_one_more_folder_around_everything_changes_nothing(download, folders):
    made = convert("ISIC2018", download.parent, folders=folders)
    assert len(names(made / "imagesTr")) == 9


def test_each_folder_doubled_changes_nothing(download, folders):
    for folder in list(download.glob("ISIC*")):
        moved = folder.rename(download / "moved")
        folder.mkdir()
        moved.rename(folder / folder.name)
    made = convert("ISIC2018", download, folders=folders)
    assert len(names(made / "imagesTr")) == 9


def test_the_folder_of_the_images_may_be_given(download, folders):
    made = convert("ISIC2018", download / IMAGES.format("Training"), folders=folders)
    record = read_json(made / "conversion.json")
    assert record["counts"]["train"] == 7
    assert record["source"] == "ISIC2018"


def test_stray_files_change_nothing_and_unexpected_ones_are_recorded(download, folders):
    images = download / IMAGES.format("Training")
    for name in ("._ISIC_0000000.jpg", ".DS_Store", "Thumbs.db", "ISIC-metadata.csv"):
        (images / name).write_bytes(b"stray")
    (images / "ISIC_0000000_superpixels.png").write_bytes(b"not read")
    (images / "notes.docx").write_bytes(b"not read")
    made = convert("ISIC2018", download, folders=folders)
    assert len(names(made / "imagesTr")) == 9
    skipped = read_json(made / "conversion.json")["skipped"]
    assert [entry["file"] for entry in skipped] == [
        f"{images.name}/ISIC_0000000_superpixels.png",
        f"{images.name}/notes.docx",
    ]


def test_endings_and_suffixes_match_in_any_letter_case(download, folders):
    for mask in (download / MASKS.format("Training")).glob("*.png"):
        mask.rename(mask.with_name(mask.name.replace("_segmentation.png", "_Segmentation.PNG")))
    for photo in (download / IMAGES.format("Training")).glob("*.jpg"):
        photo.rename(photo.with_suffix(".JPG"))
    made = convert("ISIC2018", download, folders=folders)
    assert read_json(made / "conversion.json")["counts"]["train"] == 7


def test_a_validation_part_without_masks_is_left_out_and_recorded(download, folders):
    shutil.rmtree(download / MASKS.format("Validation"))
    made = convert("ISIC2018", download, folders=folders)
    assert len(names(made / "imagesTr")) == 7
    assert len(read_json(made / "splits_final.json")) == 5
    skipped = read_json(made / "conversion.json")["skipped"]
    assert [Path(entry["file"]).stem for entry in skipped] == ["ISIC_0000510", "ISIC_0000540"]


def test_a_test_part_without_masks_keeps_its_images(download, folders):
    shutil.rmtree(download / MASKS.format("Test"))
    made = convert("ISIC2018", download, folders=folders)
    assert len(names(made / "imagesTs")) == 2
    assert not (made / "labelsTs").exists()


@pytest.mark.parametrize("kind", [IMAGES, MASKS])
def test_a_missing_training_folder_is_named(download, folders, kind):
    shutil.rmtree(download / kind.format("Training"))
    with pytest.raises(NotFoundError, match=kind.format("Training")):
        convert("ISIC2018", download, folders=folders)


def test_masks_whose_images_were_not_unpacked_are_an_error(download, folders):
    shutil.rmtree(download / IMAGES.format("Test"))
    with pytest.raises(NotFoundError, match=IMAGES.format("Test")):
        convert("ISIC2018", download, folders=folders)


def test_all_problems_are_listed_at_once(download, folders):
    images, masks = download / IMAGES.format("Training"), download / MASKS.format("Training")
    photo = images / "ISIC_0000000.jpg"
    photo.write_bytes(photo.read_bytes()[:2000])
    (images / "ISIC_0000188.jpg").write_bytes(b"")
    (masks / "ISIC_0000222_segmentation.png").unlink()
    (images / "ISIC_0000254.jpg").unlink()
    Image.new("L", (64, 48)).save(masks / "ISIC_0000325_segmentation.png")
    shutil.copy(images / "ISIC_0000327.jpg", images / "ISIC_0000327.jpeg")
    shutil.copy(images / "ISIC_0000377.jpg", download / IMAGES.format("Validation"))
    message = problems_of(download, folders)
    for part in (
        "ISIC_0000000.jpg: the image is damaged",
        "ISIC_0000188.jpg: the file is empty",
        "ISIC_0000222.jpg: an image without a mask",
        "ISIC_0000254_segmentation.png: a mask without an image",
        "ISIC_0000325.jpg is 192 x 144 (width x height) but its mask",
        "ISIC_0000325_segmentation.png is 64 x 48",
        "ISIC_0000327.jpg: 2 images of one case",
        "the same id, ISIC_0000377, in train and validation",
    ):
        assert part in message, message


def test_two_masks_of_one_lesion_are_an_error(download, folders):
    mask = download / MASKS.format("Training") / "ISIC_0000000_segmentation.png"
    shutil.copy(mask, mask.with_name("ISIC_0000000_Segmentation.bmp"))
    assert "2 masks of one case" in problems_of(download, folders)


def test_a_mended_download_converts_only_what_is_left(download, folders, caplog):
    photo = download / IMAGES.format("Training") / "ISIC_0000000.jpg"
    content = photo.read_bytes()
    photo.write_bytes(content[:2000])
    assert "1 problem" in problems_of(download, folders)
    photo.write_bytes(content)
    partial = folders.raw / ".Dataset002_ISIC2018.partial"
    times = {path.name: path.stat().st_mtime_ns for path in partial.glob("images*/*.png")}
    assert len(times) == 10
    made = convert("ISIC2018", download, folders=folders)
    after = {path.name: path.stat().st_mtime_ns for path in made.glob("images*/*.png")}
    assert len(after) == 11
    assert {name: after[name] for name in times} == times
    assert names(folders.raw) == ["Dataset002_ISIC2018"]
    assert "problems.txt" not in names(made)


def test_an_interrupted_conversion_goes_on(download, folders, monkeypatch):
    from nnmedseg.dataset_conversion import _writing

    def stop_after_four(futures, description, total):
        for count, future in enumerate(futures):
            if count == 4:
                raise KeyboardInterrupt
            yield future

    monkeypatch.setattr(_writing, "track", stop_after_four)
    with pytest.raises(KeyboardInterrupt):
        convert("ISIC2018", download, folders=folders, num_processes=1)
    monkeypatch.undo()
    partial = folders.raw / ".Dataset002_ISIC2018.partial"
    with (partial / "journal.jsonl").open("a") as journal:
        journal.write('{"id": "ISIC_00')  # as a killed process leaves it
    written = []
    original = _writing.write_image_case

    def count_writes(*arguments):
        written.append(arguments)
        return original(*arguments)

    monkeypatch.setitem(_writing.WRITERS, "rgb", count_writes)
    made = convert("ISIC2018", download, folders=folders)
    assert len(written) == 11 - 4
    assert len(names(made / "imagesTr")) == 9
    assert len(read_json(made / "conversion.json")["cases"]) == 11


def test_a_file_that_a_power_failure_left_empty_is_written_again(download, folders):
    photo = download / IMAGES.format("Training") / "ISIC_0000000.jpg"
    content = photo.read_bytes()
    photo.write_bytes(b"")
    problems_of(download, folders)
    photo.write_bytes(content)
    partial = folders.raw / ".Dataset002_ISIC2018.partial"
    (partial / "labelsTr" / "ISIC_0000222.png").write_bytes(b"")
    made = convert("ISIC2018", download, folders=folders)
    assert np.asarray(Image.open(made / "labelsTr" / "ISIC_0000222.png")).any()


def test_a_case_whose_source_changed_is_converted_again(download, folders):
    photo = download / IMAGES.format("Training") / "ISIC_0000222.jpg"
    (download / IMAGES.format("Training") / "ISIC_0000000.jpg").write_bytes(b"")
    problems_of(download, folders)
    for folder, name in ((IMAGES, "ISIC_0000000.jpg"), (MASKS, "ISIC_0000000_segmentation.png")):
        (download / folder.format("Training") / name).unlink()
    pixels = imagecodecs.jpeg_decode(photo.read_bytes())[::-1]
    photo.write_bytes(imagecodecs.jpeg_encode(np.ascontiguousarray(pixels), level=95))
    made = convert("ISIC2018", download, folders=folders)
    written = np.asarray(Image.open(made / "imagesTr" / "ISIC_0000222_0000.png"))
    assert np.array_equal(written, imagecodecs.jpeg_decode(photo.read_bytes()))


def test_cases_that_left_the_download_leave_the_data_set(download, folders):
    photo = download / IMAGES.format("Training") / "ISIC_0000000.jpg"
    content = photo.read_bytes()
    photo.write_bytes(b"")
    problems_of(download, folders)
    photo.write_bytes(content)
    (download / IMAGES.format("Training") / "ISIC_0000377.jpg").unlink()
    (download / MASKS.format("Training") / "ISIC_0000377_segmentation.png").unlink()
    made = convert("ISIC2018", download, folders=folders)
    assert not [name for name in names(made / "imagesTr") if "0000377" in name]
    verify_dataset_integrity(str(made), num_processes=1)


def state(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_complete_data_set_is_returned_as_it_is(download, folders):
    made = convert("ISIC2018", download, folders=folders)
    before = state(folders.raw)
    (download / IMAGES.format("Test") / "ISIC_0010175.jpg").touch()
    assert convert("ISIC2018", download, folders=folders) == made
    assert state(folders.raw) == before


def test_other_content_of_the_same_size_is_noticed_and_not_overwritten(download, folders):
    convert("ISIC2018", download, folders=folders)
    before = state(folders.raw)
    photo = download / IMAGES.format("Training") / "ISIC_0000222.jpg"
    content = bytearray(photo.read_bytes())
    content[-3] ^= 1
    photo.write_bytes(content)
    with pytest.raises(DataError, match="ISIC_0000222 has changed") as raised:
        convert("ISIC2018", download, folders=folders)
    assert "--overwrite" in raised.value.mend
    assert state(folders.raw) == before


def test_overwriting_replaces_everything(download, folders):
    convert("ISIC2018", download, folders=folders)
    shutil.rmtree(download / MASKS.format("Validation"))
    made = convert("ISIC2018", download, folders=folders, overwrite=True)
    assert len(names(made / "imagesTr")) == 7
    assert names(folders.raw) == ["Dataset002_ISIC2018"]


def test_a_failed_overwrite_keeps_what_was_there(download, folders):
    convert("ISIC2018", download, folders=folders)
    before = state(folders.raw / "Dataset002_ISIC2018")
    (download / IMAGES.format("Training") / "ISIC_0000222.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        convert("ISIC2018", download, folders=folders, overwrite=True)
    assert state(folders.raw / "Dataset002_ISIC2018") == before


def test_lost_files_of_a_complete_data_set_are_noticed(download, folders):
    made = convert("ISIC2018", download, folders=folders)
    (made / "labelsTr" / "ISIC_0000222.png").unlink()
    with pytest.raises(DataError, match="files of case ISIC_0000222 are missing"):
        convert("ISIC2018", download, folders=folders)


def test_a_folder_that_was_made_otherwise_is_not_touched(download, folders):
    (folders.raw / "Dataset002_ISIC2018").mkdir()
    with pytest.raises(DataError, match=r"no readable conversion\.json"):
        convert("ISIC2018", download, folders=folders)


@pytest.mark.parametrize("kind", ["raw", "preprocessed", "results"])
def test_a_taken_number_is_refused(download, folders, kind):
    (getattr(folders, kind) / "Dataset002_Other").mkdir()
    with pytest.raises(DataError, match="taken by Dataset002_Other") as raised:
        convert("ISIC2018", download, folders=folders)
    assert "-d" in raised.value.mend


def test_another_number_can_be_chosen(download, folders):
    made = convert("ISIC2018", download, folders=folders, dataset_id=42)
    assert made.name == "Dataset042_ISIC2018"


def test_the_default_folder_is_named_with_the_page_when_it_is_missing(
    folders, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError, match=r"challenge\.isic-archive\.com/data") as raised:
        convert("ISIC2018", folders=folders)
    assert raised.value.where == tmp_path / "data" / "ISIC2018"
    assert "-i" in raised.value.mend


def test_an_archive_in_place_of_a_folder_is_refused(folders, tmp_path):
    (tmp_path / "ISIC2018.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="must be a folder"):
        convert("ISIC2018", tmp_path / "ISIC2018.zip", folders=folders)


def test_an_unexpected_error_is_not_swallowed(download, folders, monkeypatch):
    from nnmedseg.dataset_conversion import _writing

    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setitem(_writing.WRITERS, "rgb", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        convert("ISIC2018", download, folders=folders)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="sample data sets are not here")
def test_the_unreduced_sample_is_converted_exactly(folders):
    source = SAMPLES / "ISIC2018"
    made = convert("ISIC2018", source, folders=folders)
    photos = sorted((source / IMAGES.format("Training")).glob("*.jpg"))
    assert names(made / "imagesTr") == [f"{photo.stem}_0000.png" for photo in photos]
    for photo in photos:
        written = (made / "imagesTr" / f"{photo.stem}_0000.png").read_bytes()
        expected = imagecodecs.jpeg_decode(photo.read_bytes())
        assert np.array_equal(imagecodecs.png_decode(written), expected)
