"""Synapse: volumes from slices, the official test part, and doubts about the organs' names."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.preprocessing.normalization.default_normalization_schemes import (
    CTNormalization,
    NoNormalization,
)
from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import (
    get_normalization_scheme,
)

from nnmedseg.data.synapse import ORGANS
from nnmedseg.dataset_conversion import convert
from nnmedseg.dataset_conversion.base import Options
from nnmedseg.errors import DataError, NotFoundError, UserError

from .volume_files import (
    boxes,
    conversion_of,
    description_of,
    grid_of,
    intensities,
    left_out_of,
    read,
    write,
)

SAMPLE = Path(__file__).parents[3] / ".." / "shared" / "data" / "Synapse_layout_sample"
SHAPE = (11, 40, 44)
# Voxels of the labels 1 to 8, in the ratios of the organs of the order "transunet".
VOXELS = (95, 27, 170, 165, 1550, 80, 230, 380)
BTCV = "spleen,right kidney,left kidney,gallbladder,liver,stomach,aorta,pancreas"


def scaled(seed: int) -> np.ndarray:
    """Intensities from 0 to 1, float32."""
    values = intensities(seed, SHAPE).astype(np.float32)
    values -= values.min()
    return values / values.max()


def organs(voxels=VOXELS) -> np.ndarray:
    """Labels with so many voxels each, float32."""
    values = np.zeros(np.prod(SHAPE), np.float32)
    values[1000 : 1000 + sum(voxels)] = np.repeat(np.arange(1, len(voxels) + 1), voxels)
    return values.reshape(SHAPE)


def write_slices(folder: Path, case: int, seed: int, labels: np.ndarray | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image, labels = scaled(seed), organs() if labels is None else labels
    for n in range(SHAPE[0]):
        name = f"case{case:04d}_slice{n:03d}.npz"
        np.savez_compressed(folder / name, image=image[n], label=labels[n])


def write_test_volume(folder: Path, case: int, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / f"case{case:04d}.npy.h5", "w") as file:
        file["image"], file["label"] = scaled(seed), organs()


@pytest.fixture
def prepared(tmp_path) -> Path:
    """Two training cases as slices and one test case, in TransUNet's folders, with lists."""
    root = tmp_path / "Synapse"
    write_slices(root / "data" / "Synapse" / "train_npz", 5, 1)
    write_slices(root / "data" / "Synapse" / "train_npz", 40, 2)
    write_test_volume(root / "data" / "Synapse" / "test_vol_h5", 8, 3)
    (root / "lists" / "lists_Synapse").mkdir(parents=True)
    (root / "lists" / "lists_Synapse" / "all.lst").write_text("case0005.npy.h5\n")
    return root


@pytest.fixture
def slices(prepared) -> Path:
    return prepared / "data" / "Synapse" / "train_npz"


@pytest.fixture
def raw(tmp_path) -> Path:
    """Three cases of BTCV's own files, one of the test part, and an image without labels."""
    root = tmp_path / "BTCV" / "Abdomen" / "RawData"
    for number in (5, 8, 40):
        write(root / "Training" / "img" / f"img{number:04d}.nii.gz", intensities(number))
        write(root / "Training" / "label" / f"label{number:04d}.nii.gz", boxes(number, labels=13))
    write(root / "Testing" / "img" / "img0061.nii.gz", intensities(61))
    return root.parent.parent


def warnings_of(made: Path) -> str:
    return "\n".join(conversion_of(made)["warnings"])


def test_slices_become_volumes_in_the_order_of_their_numbers(prepared, folders):
    made = convert("Synapse", prepared, folders=folders)
    assert made.name == "Dataset001_Synapse"
    for case, seed in ((5, 1), (40, 2)):
        assert np.array_equal(read(made / "imagesTr" / f"case{case:04d}_0000.nii.gz"), scaled(seed))
        labels = read(made / "labelsTr" / f"case{case:04d}.nii.gz")
        assert labels.dtype == np.uint8
        assert np.array_equal(labels, organs())
    assert np.array_equal(read(made / "imagesTs" / "case0008_0000.nii.gz"), scaled(3))
    assert conversion_of(made)["counts"] == {"train": 2, "validation": 0, "test": 1}


def test_numbers_without_zeros_are_in_their_order_too(prepared, slices, folders):
    for path in slices.glob("case0005_*"):
        path.rename(slices / f"case0005_slice{int(path.stem[-3:])}.npz")
    made = convert("Synapse", prepared, folders=folders)
    assert np.array_equal(read(made / "imagesTr" / "case0005_0000.nii.gz"), scaled(1))


@pytest.mark.slow
def test_nnunet_accepts_the_result(prepared, folders):
    verify_dataset_integrity(str(convert("Synapse", prepared, folders=folders)), num_processes=1)


def test_a_folder_around_everything_changes_nothing(prepared, folders, tmp_path):
    (tmp_path / "unpacked").mkdir()
    prepared.rename(tmp_path / "unpacked" / "Synapse")
    made = convert("Synapse", tmp_path / "unpacked", folders=folders)
    assert conversion_of(made)["counts"]["train"] == 2


def test_stray_files_change_nothing(prepared, slices, folders):
    (slices / "._case0005_slice000.npz").write_bytes(b"stray")
    (slices / "case0005_slice000.txt").write_bytes(b"stray")
    made = convert("Synapse", prepared, folders=folders)
    assert np.array_equal(read(made / "imagesTr" / "case0005_0000.nii.gz"), scaled(1))


def test_scaled_intensities_are_not_normalised_again(prepared, folders):
    names = description_of(convert("Synapse", prepared, folders=folders))["channel_names"]
    assert get_normalization_scheme(names["0"]) is NoNormalization


def test_intensities_that_are_not_scaled_are_said(prepared, slices, folders):
    file = slices / "case0005_slice000.npz"
    np.savez(file, image=scaled(1)[0] * 300, label=organs()[0])
    made = convert("Synapse", prepared, folders=folders)
    assert "not in case0005." in warnings_of(made)


def test_a_spacing_that_is_not_known_is_said_and_can_be_given(prepared, folders):
    made = convert("Synapse", prepared, folders=folders)
    assert "do not tell the spacing: 1 mm" in warnings_of(made)
    given = Options(spacing=(3.0, 0.8, 0.7))
    made = convert("Synapse", prepared, folders=folders, options=given, dataset_id=7)
    assert "spacing" not in warnings_of(made)
    assert np.allclose(grid_of(made / "imagesTr" / "case0005_0000.nii.gz")[:3], (0.7, 0.8, 3.0))
    assert np.allclose(grid_of(made / "labelsTr" / "case0005.nii.gz")[:3], (0.7, 0.8, 3.0))


def test_missing_slices_are_named(prepared, slices, folders):
    for number in (0, 4, 5):
        (slices / f"case0040_slice{number:03d}.npz").unlink()
    made = convert("Synapse", prepared, folders=folders)
    assert "case0040: of 195 slices, 000, 004-005, 011-194 missing." in warnings_of(made)
    kept = [1, 2, 3, *range(6, SHAPE[0])]
    assert np.array_equal(read(made / "imagesTr" / "case0040_0000.nii.gz"), scaled(2)[kept])


def test_double_slices_are_named(prepared, slices, folders):
    content = (slices / "case0005_slice004.npz").read_bytes()
    (slices / "case0005_slice04.npz").write_bytes(content)
    made = convert("Synapse", prepared, folders=folders)
    assert "twice were left out: case0005_slice04.npz." in warnings_of(made)
    (left_out,) = left_out_of(made).items()
    assert left_out == (
        "data/Synapse/train_npz/case0005_slice04.npz",
        "a slice that is there twice",
    )
    assert np.array_equal(read(made / "imagesTr" / "case0005_0000.nii.gz"), scaled(1))


def test_missing_cases_are_named(prepared, folders):
    said = warnings_of(convert("Synapse", prepared, folders=folders))
    assert "16 of the 18 training cases are missing: case0006, " in said
    assert "11 of the 12 test cases are missing: case0001, case0002" in said


def test_a_case_of_both_parts_is_refused(prepared, folders):
    write_test_volume(prepared / "data" / "Synapse" / "test_vol_h5", 5, 4)
    with pytest.raises(DataError, match="the same id, case0005, in train and test"):
        convert("Synapse", prepared, folders=folders)


def test_the_assumed_order_of_the_organs_is_said(prepared, folders):
    made = convert("Synapse", prepared, folders=folders)
    assert "the order of --labels transunet was assumed (aorta, " in warnings_of(made)
    assert list(description_of(made)["labels"]) == ["background", *ORGANS]
    assert "better" not in warnings_of(made)


@pytest.mark.parametrize("labels", ["btcv", BTCV])
def test_an_order_that_the_volumes_contradict_is_said(prepared, folders, labels):
    made = convert("Synapse", prepared, folders=folders, options=Options(labels=labels))
    assert list(description_of(made)["labels"]) == ["background", *BTCV.split(",")]
    assert "fit the order --labels transunet" in warnings_of(made)


def test_an_order_that_the_volumes_confirm_raises_no_doubt(prepared, slices, folders):
    order = (230, 165, 170, 27, 1550, 380, 95, 80)
    write_slices(slices, 5, 1, organs(order))
    write_slices(slices, 40, 2, organs(order))
    volumes = prepared / "data" / "Synapse" / "test_vol_h5" / "case0008.npy.h5"
    volumes.unlink()
    made = convert("Synapse", prepared, folders=folders, options=Options(labels="btcv"))
    assert "fit" not in warnings_of(made)
    assert "liver" not in warnings_of(made)


def test_a_liver_that_is_not_the_largest_is_said(prepared, folders):
    names = "liver,gallbladder,left kidney,right kidney,aorta,pancreas,spleen,stomach"
    made = convert("Synapse", prepared, folders=folders, options=Options(labels=names))
    assert "should be the liver, label 1, but it is label 5 (aorta)" in warnings_of(made)


def test_thirteen_organs_need_names(prepared, slices, folders):
    labels = organs()
    labels[0, 0, :5] = (9, 10, 11, 12, 13)
    write_slices(slices, 5, 1, labels)
    with pytest.raises(DataError, match=r"no label: 9, 10, 11, 12, 13 .*--labels can name them"):
        convert("Synapse", prepared, folders=folders)
    names = ",".join([*ORGANS, "a", "b", "c", "d", "e"])
    made = convert("Synapse", prepared, folders=folders, options=Options(labels=names))
    assert read(made / "labelsTr" / "case0005.nii.gz").max() == 13
    assert description_of(made)["labels"]["e"] == 13


def test_an_unknown_order_is_refused(prepared, folders):
    with pytest.raises(UserError, match="'cascade' is not an order"):
        convert("Synapse", prepared, folders=folders, options=Options(labels="cascade"))


def damage_a_slice(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def make_a_slice_smaller(path: Path) -> None:
    np.savez(path, image=np.zeros((40, 40), np.float32), label=np.zeros((40, 40)))


def make_a_slice_deep(path: Path) -> None:
    np.savez(path, image=np.zeros((1, 40, 44), np.float32), label=np.zeros((1, 40, 44)))


def make_labels_fractional(path: Path) -> None:
    np.savez(path, image=scaled(1)[0], label=organs()[0] + 0.4)


def make_a_voxel_nan(path: Path) -> None:
    np.savez(path, image=scaled(1)[0] * np.nan, label=organs()[0])


def leave_out_the_labels(path: Path) -> None:
    np.savez(path, image=scaled(1)[0])


@pytest.mark.parametrize(
    "damage",
    [
        damage_a_slice,
        make_a_slice_smaller,
        make_a_slice_deep,
        make_labels_fractional,
        make_a_voxel_nan,
        leave_out_the_labels,
    ],
)
def test_a_wrong_slice_is_refused_by_name_and_its_case_skipped(prepared, slices, folders, damage):
    damage(slices / "case0040_slice006.npz")
    with pytest.raises(DataError, match=r"train_npz/case0040_slice006\.npz"):
        convert("Synapse", prepared, folders=folders)
    made = convert("Synapse", prepared, folders=folders, skip_broken=True)
    assert [case["id"] for case in conversion_of(made)["cases"]] == ["case0005", "case0008"]


def test_a_test_volume_of_four_dimensions_is_refused_by_name(prepared, folders):
    file = prepared / "data" / "Synapse" / "test_vol_h5" / "case0008.npy.h5"
    with h5py.File(file, "w") as arrays:
        arrays["image"], arrays["label"] = scaled(3)[..., None], organs()[..., None]
    with pytest.raises(DataError, match=r"case0008\.npy\.h5: an array of shape \(11, 40, 44, 1\)"):
        convert("Synapse", prepared, folders=folders)


def test_the_original_labels_become_the_eight_organs_of_the_tables(raw, folders):
    made = convert("Synapse", raw, folders=folders)
    table = np.zeros(14, np.uint8)
    for original, label in {8: 1, 4: 2, 3: 3, 2: 4, 6: 5, 11: 6, 1: 7, 7: 8}.items():
        table[original] = label
    written = read(made / "labelsTr" / "case0005.nii.gz")
    assert np.array_equal(written, table[boxes(5, labels=13)])
    assert list(description_of(made)["labels"]) == ["background", *ORGANS]
    assert "assumed" not in warnings_of(made)


def test_hounsfield_units_and_the_grid_stay(raw, folders):
    made = convert("Synapse", raw, folders=folders)
    image = made / "imagesTr" / "case0040_0000.nii.gz"
    assert np.array_equal(read(image), intensities(40))
    assert np.allclose(grid_of(image), grid_of(next(raw.rglob("img0040.nii.gz"))))
    assert get_normalization_scheme(description_of(made)["channel_names"]["0"]) is CTNormalization


def test_the_official_test_cases_are_the_test_part_of_the_original_files(raw, folders):
    record = conversion_of(convert("Synapse", raw, folders=folders))
    assert {case["id"]: case["part"] for case in record["cases"]} == {
        "case0005": "train",
        "case0008": "test",
        "case0040": "train",
    }
    assert "1 images of BTCV's own test part were left out" in "\n".join(record["warnings"])


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        ("all", {n: n for n in range(1, 14)}),
        ("btcv", {1: 1, 2: 2, 3: 3, 4: 4, 6: 5, 7: 6, 8: 7, 11: 8}),
        ("liver,spleen", {6: 1, 1: 2}),
    ],
)
def test_other_organs_can_be_chosen_of_the_original_labels(raw, folders, labels, kept):
    made = convert("Synapse", raw, folders=folders, options=Options(labels=labels))
    table = np.array([kept.get(n, 0) for n in range(14)])
    written = read(made / "labelsTr" / "case0005.nii.gz")
    assert np.array_equal(written, table[boxes(5, labels=13)])
    assert len(description_of(made)["labels"]) == len(kept) + 1


def test_choices_that_do_not_suit_the_original_files_are_refused(raw, folders):
    with pytest.raises(UserError, match="tell their spacing"):
        convert("Synapse", raw, folders=folders, options=Options(spacing=(1, 1, 1)))
    with pytest.raises(UserError, match="BTCV has no organ 'brain'"):
        convert("Synapse", raw, folders=folders, options=Options(labels="liver,brain"))


def test_both_forms_at_once_are_refused(prepared, raw, folders):
    with pytest.raises(DataError, match="are both here"):
        convert("Synapse", prepared.parent, folders=folders)


def test_neither_form_is_refused_with_what_is_missing(tmp_path, folders):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="train_npz, test_vol_h5"):
        convert("Synapse", tmp_path / "empty", folders=folders)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the real samples are not here")
def test_the_sample_is_read_as_by_numpy(folders):
    made = convert("Synapse", SAMPLE, folders=folders)
    files = sorted((SAMPLE / "data" / "Synapse" / "train_npz").glob("*.npz"))
    image = np.stack([np.load(file)["image"] for file in files])
    label = np.stack([np.load(file)["label"] for file in files])
    assert np.array_equal(read(made / "imagesTr" / "case0005_0000.nii.gz"), image)
    assert np.array_equal(read(made / "labelsTr" / "case0005.nii.gz"), label)
    with h5py.File(SAMPLE / "data" / "Synapse" / "test_vol_h5" / "case0001.npy.h5") as file:
        assert np.array_equal(read(made / "labelsTs" / "case0001.nii.gz"), file["label"])
    assert "better" not in warnings_of(made)
