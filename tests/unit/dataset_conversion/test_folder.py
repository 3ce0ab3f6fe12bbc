"""A user's own images: patterns, pairs, colours, parts and groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from PIL import Image

from nnmedseg.dataset_conversion import convert
from nnmedseg.dataset_conversion.base import Options
from nnmedseg.errors import DataError, NotFoundError, UserError
from nnmedseg.files import read_json

from .own_images import NAMES, ids_of, image_of, label_map, label_of, make, write_pairs
from .stand_ins import blob, grey, picture, save
from .volume_files import boxes, conversion_of, description_of, intensities, read, write

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def test_images_and_masks_are_paired_and_kept(source, folders):
    write_pairs(source)
    made = make(source, folders)
    assert made.name == "Dataset500_Mine"
    assert ids_of(made) == list(NAMES)
    for n, name in enumerate(NAMES):
        assert np.array_equal(image_of(made, name), picture(n))
        assert np.array_equal(label_of(made, name), blob(n))
    assert description_of(made)["labels"] == {"background": 0, "foreground": 1}


@pytest.mark.slow
def test_nnunet_accepts_the_result(source, folders):
    write_pairs(source, [label_map(n, (0, 1, 2)) for n in range(3)])
    verify_dataset_integrity(str(make(source, folders)), num_processes=1)


@pytest.mark.parametrize(
    ("files", "patterns", "case"),
    [
        (("p1/image.png", "p1/label.png"), ("*/image.png", "*/label.png"), "p1"),
        (("x/y/p 1.png", "m/x/y/p 1_gt.png"), ("x/**/*.png", "m/x/**/*_gt.png"), "y_p_1"),
        (("p1.png", "p1_mask.png"), ("*.png", "*_mask.png"), "p1"),
        (("deep/er/p1.png", "deep/er/p1_mask.png"), ("**/*.png", "**/*_mask.png"), "deep_er_p1"),
        (("p1.png", "p1_mask.png"), ("**/*.png", "**/*_mask.png"), "p1"),
        (("[1] p (a).png", "[1] m (a).png"), ("[1] p (?).png", "[1] m (?).png"), "a"),
        (("p1.PNG", "p1.MASK.png"), ("./*.png", "*.mask.png"), "p1"),
        (("s1/t2.png", "s1_t2_m.png"), ("*/t*.png", "*_t*_m.png"), "s1_2"),
    ],
)
def test_patterns_pair_by_what_the_wildcards_stand_for(source, folders, files, patterns, case):
    image, mask = files
    save(source / image, picture(1))
    save(source / mask, grey(blob(1)))
    made = make(source, folders, *patterns)
    assert ids_of(made) == [case]
    assert np.array_equal(label_of(made, case), blob(1))


def test_hidden_files_and_those_of_systems_are_passed_over(source, folders):
    write_pairs(source)
    for name in ("._a.png", "Thumbs.db"):
        (source / "images" / name).write_bytes(b"stray")
    (source / "__MACOSX" / "images").mkdir(parents=True)
    (source / "__MACOSX" / "images" / "d.png").write_bytes(b"stray")
    (source / "images" / "notes.txt").write_bytes(b"stray")
    assert ids_of(make(source, folders, "images/**/*.png", "masks/**/*.png")) == list(NAMES)


def test_one_star_stays_within_one_folder(source, folders):
    write_pairs(source)
    save(source / "images" / "deeper" / "d.png", picture(7))
    assert ids_of(make(source, folders)) == list(NAMES)


def test_nothing_found_is_refused_with_names_that_are_there(source, folders):
    write_pairs(source)
    with pytest.raises(NotFoundError, match=r"'pictures/\*.png' matches none of 6 files") as raised:
        make(source, folders, "pictures/*.png")
    assert "images/a.png" in str(raised.value)


def test_masks_that_belong_to_no_image_are_refused_with_an_example(source, folders):
    save(source / "images" / "a.png", picture(1))
    save(source / "masks" / "a_seg.png", grey(blob(1)))
    with pytest.raises(DataError, match=r"stand for 'a' in a\.png and 'a_seg' in a_seg\.png"):
        make(source, folders)


def test_an_image_without_a_mask_is_refused_by_name(source, folders):
    write_pairs(source)
    (source / "masks" / "b.png").unlink()
    with pytest.raises(DataError, match=r"images/b\.png: an image without a mask"):
        make(source, folders)


def test_two_images_of_one_mask_are_refused_by_name(source, folders):
    write_pairs(source)
    save(source / "images" / "A.png", picture(7))
    with pytest.raises(DataError, match=r"images/A\.png, images/a\.png: 2 images of one case"):
        make(source, folders)


def test_names_that_become_the_same_id_are_refused(source, folders):
    write_pairs(source)
    save(source / "images" / "a(.png", picture(7))
    save(source / "masks" / "a(.png", grey(blob(7)))
    with pytest.raises(DataError, match="the same id, a, in train"):
        make(source, folders)


def test_a_damaged_file_is_refused_by_name_and_skipped_on_request(source, folders):
    write_pairs(source)
    for file in (source / "masks" / "a.png", source / "images" / "b.png"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match="has 2 problem") as raised:
        make(source, folders)
    assert "masks/a.png" in str(raised.value)
    assert "images/b.png" in str(raised.value)
    assert ids_of(make(source, folders, skip_broken=True)) == ["c"]


@pytest.mark.parametrize(
    ("images", "masks", "what"),
    [
        (None, "masks/*.png", "--images is missing"),
        ("images/*.png", None, "--masks is missing"),
        ("images/a.png", "masks/*.png", "has no wildcard"),
        ("/images/*.png", "masks/*.png", "cannot be used"),
        ("{part}/{part}/*.png", "masks/*.png", "cannot be used"),
        ("*/*.png", "masks/*.png", "do not have the same wildcards"),
        ("{part}/*.png", "masks/*.png", "do not have the same wildcards"),
        ("images/*.png", "images/*.png", "both patterns match images/a.png"),
    ],
)
def test_patterns_that_cannot_work_are_refused(source, folders, images, masks, what):
    write_pairs(source)
    with pytest.raises(UserError) as raised:
        make(source, folders, images, masks)
    assert what in str(raised.value)


@pytest.mark.parametrize("name", [None, "a b", "-x", ""])
def test_a_name_is_needed_and_must_suit_folders(source, folders, name):
    write_pairs(source)
    options = Options(images="images/*.png", masks="masks/*.png", name=name)
    with pytest.raises(UserError, match=r"the data set needs a name|cannot be a folder's name"):
        convert("Folder", source, dataset_id=500, folders=folders, options=options)


def test_grey_images_are_written_with_one_channel(source, folders):
    write_pairs(source)
    for n, name in enumerate(NAMES):
        save(source / "images" / f"{name}.png", picture(n)[..., 0])
    made = make(source, folders)
    assert description_of(made)["channel_names"] == {"0": "grey"}
    assert np.array_equal(image_of(made, "b"), picture(1)[..., 0])


def test_one_image_in_colours_makes_all_of_them_rgb(source, folders):
    write_pairs(source)
    save(source / "images" / "b.png", picture(1)[..., 0])
    made = make(source, folders)
    assert description_of(made)["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert np.array_equal(image_of(made, "b"), np.repeat(picture(1)[..., :1], 3, axis=2))


def test_parts_come_from_the_pattern(source, folders):
    for seed, part in enumerate(("train", "train", "val", "test")):
        save(source / part / "images" / f"ISIC_{seed}.png", picture(seed))
        save(source / part / "masks" / f"ISIC_{seed}_segmentation.png", grey(blob(seed)))
    made = make(source, folders, "{part}/images/*.png", "{part}/masks/*_segmentation.png")
    parts = {case["id"]: case["part"] for case in conversion_of(made)["cases"]}
    assert parts == {
        "ISIC_0": "train",
        "ISIC_1": "train",
        "ISIC_2": "validation",
        "ISIC_3": "test",
    }
    assert np.array_equal(label_of(made, "ISIC_3", "Ts"), blob(3))


def test_the_same_names_in_two_parts_are_kept_apart(source, folders):
    for seed, part in enumerate(("train", "test")):
        save(source / part / "images" / "1.png", picture(seed))
        save(source / part / "masks" / "1.png", grey(blob(seed)))
    made = make(source, folders, "{part}/images/*.png", "{part}/masks/*.png")
    assert ids_of(made) == ["test_1", "train_1"]


def test_folders_called_train_are_no_part_by_themselves(source, folders):
    for seed, part in enumerate(("train", "test")):
        save(source / part / f"{seed}.png", picture(seed))
        save(source / part / f"{seed}_m.png", grey(blob(seed)))
    made = make(source, folders, "*/*.png", "*/*_m.png")
    assert conversion_of(made)["counts"] == {"train": 2, "validation": 0, "test": 0}


def test_groups_are_found_in_the_names(source, folders):
    for seed in range(12):
        name = f"Image_{seed // 2 + 1:02d}{'LR'[seed % 2]}"
        save(source / f"{name}.png", picture(seed))
        save(source / f"{name}_1stHO.png", blob(seed))
    made = make(source, folders, "*.png", "*_1stHO.png", groups=r"(\d+)")
    groups = {case["id"]: case["group"] for case in conversion_of(made)["cases"]}
    assert groups["Image_03L"] == groups["Image_03R"] == "03"
    for fold in read_json(made / "splits_final.json"):
        assert {case[:-1] for case in fold["train"]}.isdisjoint(case[:-1] for case in fold["val"])


@pytest.mark.parametrize(
    ("groups", "what"), [("(", "is not a regular expression"), (r"(\d+)", "3 case(s): a, b, c")]
)
def test_groups_that_cannot_be_found_are_refused(source, folders, groups, what):
    write_pairs(source)
    with pytest.raises(UserError) as raised:
        make(source, folders, groups=groups)
    assert what in str(raised.value)


def test_volumes_and_images_together_are_refused(source, folders):
    write_pairs(source)
    write(source / "images" / "d.nii.gz", intensities(1))
    with pytest.raises(DataError, match=r"image: a\.png; volume: d\.nii\.gz"):
        make(source, folders, images="images/*.*", masks="masks/*.*")


def test_files_of_other_kinds_are_refused(source, folders):
    write_pairs(source)
    (source / "images" / "d.dcm").write_bytes(b"DICM")
    with pytest.raises(DataError, match=r"other: d\.dcm"):
        make(source, folders, images="images/*.*", masks="masks/*.*")


def test_volumes_with_label_maps_are_converted(source, folders):
    for seed in (1, 2):
        write(source / f"p{seed}" / "image.nrrd", intensities(seed))
        write(source / f"p{seed}" / "label.nrrd", boxes(seed, labels=3))
    made = make(source, folders, "*/image.nrrd", "*/label.nrrd", labels="a,b,c")
    assert description_of(made)["labels"] == {"background": 0, "a": 1, "b": 2, "c": 3}
    assert np.array_equal(read(made / "labelsTr" / "p2.nii.gz"), boxes(2, labels=3))
    assert any("--channels CT" in note for note in conversion_of(made)["warnings"])


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real samples are not here")
def test_the_retinas_are_read_as_by_pillow(folders):
    root = SAMPLES / "CHASE_DB1"
    made = make(root, folders, "*.jpg", "*_1stHO.png", groups=r"(\d+)")
    assert len(ids_of(made)) == 10
    for case in conversion_of(made)["cases"]:
        assert case["group"] == case["id"][6:8]
        original = np.asarray(Image.open(root / f"{case['id']}_1stHO.png"))
        assert np.array_equal(label_of(made, case["id"]), original.astype(np.uint8))
