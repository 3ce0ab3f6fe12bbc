"""Channels of a user's own images: their names, and volumes with one file for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnmedseg.errors import DataError, NotFoundError, UserError

from .own_images import NAMES, ids_of, image_of, make, write_pairs
from .stand_ins import picture, save
from .volume_files import (
    boxes,
    conversion_of,
    description_of,
    intensities,
    read,
    write,
    write_with_nibabel,
)

PATTERNS = ("*/{channel}.nii.gz", "*/seg.nii.gz")
MODALITIES = ("t1", "t2", "flair")
CHANNELS = ",".join(MODALITIES)


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


@pytest.fixture
def patients(source) -> Path:
    """Three patients with one file for each of three channels, one of them in capitals."""
    for seed, patient in enumerate(("p1", "p2", "p3"), start=1):
        for n, name in enumerate(MODALITIES):
            file = name.upper() if patient == "p2" else name
            write(source / patient / f"{file}.nii.gz", intensities(10 * seed + n))
        write(source / patient / "seg.nii.gz", boxes(seed))
    return source


def names_of(made: Path) -> list[str]:
    return list(description_of(made)["channel_names"].values())


def notes_of(made: Path) -> str:
    return "\n".join(conversion_of(made)["warnings"])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_files_of_channels_are_written_in_the_order_of_the_names(patients, folders, order):
    channels = [MODALITIES[n] for n in order]
    made = make(patients, folders, *PATTERNS, channels=", ".join(channels))
    assert names_of(made) == channels
    assert ids_of(made) == ["p1", "p2", "p3"]
    for seed in (1, 2, 3):
        for number, n in enumerate(order):
            written = read(made / "imagesTr" / f"p{seed}_{number:04d}.nii.gz")
            assert np.array_equal(written, intensities(10 * seed + n))
        assert np.array_equal(read(made / "labelsTr" / f"p{seed}.nii.gz"), boxes(seed))


def test_names_of_channels_may_begin_alike_and_stand_anywhere(source, folders):
    for n, name in enumerate(("t1", "t1ce", "t1+c")):
        write(source / "images" / f"p_1_{name}.nii.gz", intensities(n))
    write(source / "images" / "p_1_seg.nii.gz", boxes(1))
    made = make(
        source,
        folders,
        "images/*_{channel}.nii.gz",
        "images/*_seg.nii.gz",
        channels="t1,t1ce,t1+c",
    )
    assert ids_of(made) == ["p_1"]
    for n in range(3):
        assert np.array_equal(read(made / "imagesTr" / f"p_1_{n:04d}.nii.gz"), intensities(n))


def test_parts_and_channels_may_be_folders(source, folders):
    for seed, part in enumerate(("train", "test")):
        for n, name in enumerate(MODALITIES):
            write(source / part / name / "p1.nrrd", intensities(10 * seed + n))
        write(source / part / "seg" / "p1.nrrd", boxes(seed))
    made = make(
        source, folders, "{part}/{channel}/*.nrrd", "{part}/seg/*.nrrd", channels="t1,t2,flair"
    )
    assert np.array_equal(read(made / "imagesTs" / "test_p1_0002.nii.gz"), intensities(12))


def test_missing_channels_are_refused_by_case_and_name_all_at_once(patients, folders):
    (patients / "p1" / "t2.nii.gz").unlink()
    for name in ("T1", "FLAIR"):
        (patients / "p2" / f"{name}.nii.gz").unlink()
    with pytest.raises(DataError, match="has 3 problem") as raised:
        make(patients, folders, *PATTERNS, channels=CHANNELS)
    for line in (
        "p1/t1.nii.gz, p1/flair.nii.gz: no file of the channel t2",
        "p2/T2.nii.gz: no file of the channel t1",
        "p2/T2.nii.gz: no file of the channel flair",
    ):
        assert line in str(raised.value)
    made = make(patients, folders, *PATTERNS, channels=CHANNELS, skip_broken=True)
    assert ids_of(made) == ["p3"]


def test_a_channel_that_no_case_has_is_refused_by_name(patients, folders):
    with pytest.raises(NotFoundError, match="matches no file of the channel adc"):
        make(patients, folders, *PATTERNS, channels=f"{CHANNELS},adc")


def test_a_channel_file_with_channels_of_its_own_is_refused(patients, folders):
    write_with_nibabel(patients / "p1" / "t1.nii.gz", np.zeros((12, 14, 8, 2), np.int16))
    with pytest.raises(
        DataError, match=r"p1/t1\.nii\.gz: 4 channel\(s\), 3 expected: t1, t2, flair"
    ):
        make(patients, folders, *PATTERNS, channels=CHANNELS)


@pytest.mark.parametrize("name", ["CT", "ct"])
def test_ct_is_named_for_nnunet_and_that_is_said(patients, folders, name):
    made = make(patients, folders, "*/t1.nii.gz", PATTERNS[1], channels=name)
    assert names_of(made) == [name]
    assert f"The channel {name} will be normalised as CT in Hounsfield units" in notes_of(made)
    assert "deviation 1" not in notes_of(made)


def test_the_normalisation_of_other_names_is_said(patients, folders):
    made = make(patients, folders, *PATTERNS, channels="t1,t2,flair")
    assert "deviation 1, each image alone: the channel(s) t1, t2, flair." in notes_of(made)
    assert "Hounsfield" not in notes_of(made)


def test_channels_of_one_file_can_be_named(source, folders):
    stacked = np.stack([intensities(1).T, intensities(2).T], axis=-1)
    write_with_nibabel(source / "images" / "a.nii.gz", stacked)
    write_with_nibabel(source / "masks" / "a.nii.gz", boxes(1).T)
    patterns = ("images/*.nii.gz", "masks/*.nii.gz")
    made = make(source, folders, *patterns, channels="PET,CT")
    assert names_of(made) == ["PET", "CT"]
    assert np.array_equal(read(made / "imagesTr" / "a_0001.nii.gz"), intensities(2))
    with pytest.raises(UserError, match=r"have 2 channel\(s\), but 1 are named: CT"):
        make(source, folders, *patterns, channels="CT")


def test_colours_can_be_named(source, folders):
    write_pairs(source)
    made = make(source, folders, channels="red,green,blue")
    assert names_of(made) == ["red", "green", "blue"]
    assert np.array_equal(image_of(made, "b"), picture(1))


def test_several_channels_of_grey_2d_images_are_refused(source, folders):
    write_pairs(source)
    with pytest.raises(UserError, match="2D image, and these have one file a case"):
        make(source, folders, "{channel}/*.png", channels="images")
    for n, name in enumerate(NAMES):
        save(source / "images" / f"{name}.png", picture(n)[..., 0])
    with pytest.raises(UserError, match=r"have 1 channel\(s\), but 2 are named: b, c"):
        make(source, folders, channels="b,c")


@pytest.mark.parametrize("channels", ["", "t1,,t2", "t1,T1"])
def test_names_that_cannot_be_used_are_refused(patients, folders, channels):
    with pytest.raises(UserError, match="has an empty name, or one twice"):
        make(patients, folders, *PATTERNS, channels=channels)


@pytest.mark.parametrize(
    ("patterns", "channels", "what"),
    [
        (PATTERNS, None, "but no names that it stands for"),
        (("*/t1.nii.gz", "*/{channel}.nii.gz"), "t1,seg", "but no names that it stands for"),
        (("*/{channel}{channel}.nii.gz", PATTERNS[1]), "t1,t2", "cannot be used"),
        (("p1/{channel}.nii.gz", PATTERNS[1]), "t1,t2", "has no wildcard"),
    ],
)
def test_patterns_with_channels_that_cannot_work_are_refused(
    patients, folders, patterns, channels, what
):
    with pytest.raises(UserError, match=what):
        make(patients, folders, *patterns, channels=channels)
