"""Volumes of any format: the same values on the same grid, or a refusal that names the file."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnmedseg.dataset_conversion import convert
from nnmedseg.dataset_conversion.base import Options
from nnmedseg.errors import DataError

from .volume_files import (
    boxes,
    conversion_of,
    grid_of,
    intensities,
    read,
    write,
    write_with_nibabel,
)


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "volumes"
    folder.mkdir()
    return folder


def convert_volumes(source: Path, folders, ending: str = ".nii.gz", **choices) -> Path:
    options = Options(
        images=f"images/*{ending}", masks=f"labels/*{ending}", name="Volumes", **choices
    )
    return convert("Folder", source, dataset_id=77, folders=folders, options=options)


def problems_of(source: Path, folders, **choices) -> str:
    with pytest.raises(DataError) as raised:
        convert_volumes(source, folders, **choices)
    return str(raised.value)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_values_and_grid_stay_whatever_the_format(source, folders, ending):
    for seed in (1, 2):
        write(source / "images" / f"case{seed}{ending}", intensities(seed))
        write(source / "labels" / f"case{seed}{ending}", boxes(seed))
    made = convert_volumes(source, folders, ending)
    for seed in (1, 2):
        image = made / "imagesTr" / f"case{seed}_0000.nii.gz"
        mask = made / "labelsTr" / f"case{seed}.nii.gz"
        assert np.array_equal(read(image), intensities(seed))
        assert np.array_equal(read(mask), boxes(seed))
        original = grid_of(source / "images" / f"case{seed}{ending}")
        assert np.allclose(grid_of(image), original, atol=1e-5)
        assert np.allclose(grid_of(mask), original, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_nnunet_accepts_the_result(source, folders, ending):
    for seed in (1, 2):
        write(source / "images" / f"case{seed}{ending}", intensities(seed))
        write(source / "labels" / f"case{seed}{ending}", boxes(seed, labels=3))
    verify_dataset_integrity(str(convert_volumes(source, folders, ending)), num_processes=1)


def test_files_that_are_right_are_not_written_again(source, folders):
    image = write(source / "images" / "a.nii.gz", intensities(1))
    mask = write(source / "labels" / "a.nii.gz", boxes(1).astype(np.int16))
    made = convert_volumes(source, folders)
    assert (made / "imagesTr" / "a_0000.nii.gz").samefile(image)
    assert (made / "labelsTr" / "a.nii.gz").samefile(mask)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (boxes(1) * np.uint8(255), None),
        (boxes(1, labels=2), "2=tumour,1=organ"),
        (boxes(1) * np.float32(0.99995), None),
    ],
    ids=["0 and 255", "another order", "float"],
)
def test_masks_whose_numbers_change_are_written_as_labels(source, folders, values, labels):
    write(source / "images" / "a.nii.gz", intensities(1))
    mask = write(source / "labels" / "a.nii.gz", values)
    before = mask.read_bytes()
    made = convert_volumes(source, folders, labels=labels)
    written = read(made / "labelsTr" / "a.nii.gz")
    expected = np.rint(values) > 0 if labels is None else np.array([0, 2, 1])[values]
    assert written.dtype == np.uint8
    assert np.array_equal(written, expected)
    assert mask.read_bytes() == before


def test_a_volume_with_a_scale_in_its_header_keeps_its_meaning(source, folders):
    stored = intensities(1).T
    path = source / "images" / "a.nii.gz"
    path.parent.mkdir()
    scaled = nibabel.Nifti1Image(stored, np.eye(4))
    scaled.header.set_slope_inter(0.5, -100)
    nibabel.save(scaled, path)
    write_with_nibabel(source / "labels" / "a.nii.gz", boxes(1).T, (1, 1, 1))
    made = convert_volumes(source, folders)
    written = SimpleITK.GetArrayFromImage(
        SimpleITK.ReadImage(str(made / "imagesTr" / "a_0000.nii.gz"))
    )
    assert np.allclose(written, np.asarray(nibabel.load(path).dataobj).T)
    low, high = conversion_of(made)["cases"][0]["value_range"]
    assert (low, high) == (written.min(), written.max())


@pytest.mark.parametrize(
    ("grid", "what"),
    [
        ({"spacing": (2.5, 0.75, 0.51)}, "spacing"),
        ({"origin": (0.0, 0.0, 0.0)}, "origin"),
        ({"direction": (1.0, 0, 0, 0, 1, 0, 0, 0, 1)}, "direction"),
    ],
)
def test_another_grid_of_the_mask_is_refused_with_both_names(source, folders, grid, what):
    write(source / "images" / "a.nii.gz", intensities(1))
    write(source / "labels" / "a.nii.gz", boxes(1), **grid)
    message = problems_of(source, folders)
    assert f"images/a.nii.gz and labels/a.nii.gz: the {what}" in message


def test_a_mask_whose_header_is_rounded_takes_the_grid_of_its_image(source, folders):
    write(source / "images" / "a.nii.gz", intensities(1))
    write(source / "labels" / "a.nii.gz", boxes(1), origin=(11.01, -7.5, 30.25))
    made = convert_volumes(source, folders)
    mask, image = made / "labelsTr" / "a.nii.gz", made / "imagesTr" / "a_0000.nii.gz"
    assert np.allclose(grid_of(mask), grid_of(image), atol=1e-5)
    assert np.array_equal(read(mask), boxes(1))


def test_another_size_of_the_mask_is_refused_with_both_names(source, folders):
    write(source / "images" / "a.nii.gz", intensities(1))
    write(source / "labels" / "a.nii.gz", boxes(1, shape=(8, 14, 11)))
    assert "images/a.nii.gz and labels/a.nii.gz: the sizes differ" in problems_of(source, folders)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_intensities_that_are_no_numbers_are_refused(source, folders, value):
    values = intensities(1).astype(np.float32)
    values[2, 3, 4] = value
    write(source / "images" / "a.nii.gz", values)
    write(source / "labels" / "a.nii.gz", boxes(1))
    message = problems_of(source, folders)
    assert "images/a.nii.gz: 1 of 1,344 values are NaN or infinite" in message


def test_labels_between_whole_numbers_are_refused(source, folders):
    write(source / "images" / "a.nii.gz", intensities(1))
    write(source / "labels" / "a.nii.gz", boxes(1) * np.float32(0.5))
    assert "labels/a.nii.gz" in problems_of(source, folders, labels="organ")


def test_values_without_a_name_are_refused(source, folders):
    write(source / "images" / "a.nii.gz", intensities(1))
    write(source / "labels" / "a.nii.gz", boxes(1, labels=3))
    message = problems_of(source, folders, labels="liver,spleen")
    assert "labels/a.nii.gz: values that are no label: 3 (labels: 0, 1, 2" in message


def test_a_truncated_volume_is_refused_and_skipped_on_request(source, folders):
    for seed in (1, 2):
        write(source / "images" / f"{seed}.nii.gz", intensities(seed))
        write(source / "labels" / f"{seed}.nii.gz", boxes(seed))
    damaged = source / "images" / "1.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-300])
    assert "images/1.nii.gz" in problems_of(source, folders)
    options = Options(images="images/*.nii.gz", masks="labels/*.nii.gz", name="Volumes")
    made = convert(
        "Folder", source, dataset_id=77, folders=folders, options=options, skip_broken=True
    )
    assert [case["id"] for case in conversion_of(made)["cases"]] == ["2"]
    assert np.array_equal(read(made / "imagesTr" / "2_0000.nii.gz"), intensities(2))


def test_channels_of_one_file_become_files(source, folders):
    channels = np.stack([intensities(seed).T for seed in (1, 2, 3)], axis=-1)
    write_with_nibabel(source / "images" / "a.nii.gz", channels)
    write_with_nibabel(source / "labels" / "a.nii.gz", boxes(1).T)
    made = convert_volumes(source, folders)
    for n in range(3):
        written = nibabel.load(made / "imagesTr" / f"a_{n:04d}.nii.gz")
        assert np.array_equal(np.asarray(written.dataobj), channels[..., n])
        assert np.allclose(written.affine, nibabel.load(source / "images" / "a.nii.gz").affine)


def test_a_single_slice_becomes_a_volume(source, folders):
    write_with_nibabel(source / "images" / "a.nii.gz", intensities(1)[0].T, (0.5, 0.75, 1))
    write_with_nibabel(source / "labels" / "a.nii.gz", boxes(1)[2].T, (0.5, 0.75, 1))
    made = convert_volumes(source, folders)
    assert np.array_equal(read(made / "imagesTr" / "a_0000.nii.gz"), intensities(1)[:1])


def test_images_with_different_numbers_of_channels_are_refused(source, folders):
    write_with_nibabel(source / "images" / "a.nii.gz", intensities(1).T)
    write_with_nibabel(source / "labels" / "a.nii.gz", boxes(1).T)
    two = np.stack([intensities(2).T, intensities(3).T], axis=-1)
    write_with_nibabel(source / "images" / "b.nii.gz", two)
    write_with_nibabel(source / "labels" / "b.nii.gz", boxes(2).T)
    assert "images/b.nii.gz: 2 channel(s), 1 expected: image" in problems_of(source, folders)


def test_a_mask_with_channels_is_refused(source, folders):
    write_with_nibabel(source / "images" / "a.nii.gz", intensities(1).T)
    two = np.stack([boxes(1).T, boxes(2).T], axis=-1)
    write_with_nibabel(source / "labels" / "a.nii.gz", two)
    assert "labels/a.nii.gz: a mask has one channel, this has 2" in problems_of(source, folders)
