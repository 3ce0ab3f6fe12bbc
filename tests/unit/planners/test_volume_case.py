"""Preprocessed volumes are those of nnU-Net's own preprocessor, to the last bit."""

from __future__ import annotations

import gzip
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import blosc2
import nibabel
import numpy as np
import pytest
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnmedseg.errors import DataError
from nnmedseg.nnunet import _nonzero_region
from nnmedseg.nnunet.volume_preprocessor import FastPreprocessor
from nnmedseg.planners._volume_case import write_volume_case

SAMPLES = Path(__file__).parents[4] / "shared" / "data"
SLOPE_OFFSET = 112  # of scl_slope in the header of NIfTI-1
CT = {"mean": 40.0, "std": 90.0, "percentile_00_5": -150.0, "percentile_99_5": 300.0}
LABELS = {"background": 0, "liver": 1, "tumour": 2, "vessel": 3}
CONFIGURATION = {
    "data_identifier": "volumes",
    "preprocessor_name": "DefaultPreprocessor",
    "batch_size": 2,
    "patch_size": [12, 16, 16],
    "spacing": [1.0, 1.0, 1.0],
    "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
    "use_mask_for_norm": [False, True],
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {
        "is_seg": False,
        "order": 3,
        "order_z": 0,
        "force_separate_z": None,
    },
    "resampling_fn_seg": "resample_data_or_seg_to_shape",
    "resampling_fn_seg_kwargs": {
        "is_seg": True,
        "order": 1,
        "order_z": 0,
        "force_separate_z": None,
    },
    "architecture": {},
}


def plans(transpose: tuple[int, ...] = (0, 1, 2), **changes: Any) -> PlansManager:
    """A plan with one configuration, ``c``."""
    return PlansManager(
        {
            "dataset_name": "Dataset001_Volumes",
            "plans_name": "plans",
            "image_reader_writer": "SimpleITKIO",
            "label_manager": "LabelManager",
            "transpose_forward": list(transpose),
            "transpose_backward": np.argsort(transpose).tolist(),
            "foreground_intensity_properties_per_channel": {"0": CT, "1": CT},
            "configurations": {"c": {**CONFIGURATION, **changes}},
        }
    )


def dataset_json(labels: dict[str, Any] | None = None, order: list[int] | None = None) -> Any:
    described: dict[str, Any] = {
        "channel_names": {"0": "CT", "1": "T1"},
        "labels": labels or LABELS,
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    return described | ({"regions_class_order": order} if order else {})


def volume(shape: tuple[int, ...] = (14, 17, 19), channels: int = 2, seed: int = 0) -> np.ndarray:
    """Smooth values in Hounsfield units, with noise; whole numbers, some of them 0."""
    random = np.random.default_rng(seed)
    grid = sum(axis.astype(np.float32) for axis in np.ogrid[tuple(map(slice, shape))])
    data = 100 * np.sin(grid / 5) + random.normal(0, 40, (channels, *shape))
    return np.rint(data).astype(np.float32)


def labelled(shape: tuple[int, ...] = (14, 17, 19), seed: int = 0) -> np.ndarray:
    """Blocks of labels 0 to 3 and single voxels of others among them, (1, Z, Y, X)."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 4, [size // 4 + 1 for size in shape])
    labels = np.kron(coarse, np.ones((4, 4, 4)))[tuple(map(slice, shape))]
    flips = random.random(shape) < 0.01
    return np.where(flips, 3, labels)[None].astype(np.float32)


def assert_same(ours: Any, theirs: Any, where: str = "") -> None:
    """Compare values, types of arrays, and order of keys, at any depth."""
    assert type(ours) is type(theirs), where
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs), where
        for key in theirs:
            assert_same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
        # SciPy's splines differ between versions in the last bit, by how rows are given to them.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14, err_msg=where, strict=True)
    else:
        assert ours == theirs, where


def assert_equal_arrays(
    data: np.ndarray,
    seg: np.ndarray | None,
    plan: PlansManager,
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    description: Any = None,
) -> None:
    """Preprocess with both classes, compare all that they return, and see the input unchanged."""
    results = []
    for kind in (FastPreprocessor, DefaultPreprocessor):
        given = [data.copy(order="K"), None if seg is None else seg.copy(order="K")]
        results.append(
            kind(verbose=False).run_case_npy(
                *given,
                {"spacing": list(spacing)},
                plan,
                plan.get_configuration("c"),
                description or dataset_json(),
            )
        )
        np.testing.assert_array_equal(given[0], data)
        if seg is not None:
            np.testing.assert_array_equal(given[1], seg)
    for name, ours, theirs in zip(("data", "seg", "properties"), *results, strict=True):
        assert_same(ours, theirs, name)


@pytest.mark.parametrize(
    ("spacing", "new_spacing"),
    [
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
        ((1.0, 1.0, 1.0), (0.7, 0.8, 1.3)),
        ((2.0, 1.0, 1.0), (1.0, 1.0, 0.5)),
        ((5.0, 1.0, 1.0), (2.0, 0.8, 0.8)),
        ((5.0, 1.0, 1.0), (7.0, 1.0, 1.0)),
        ((1.0, 5.0, 1.0), (1.0, 2.0, 0.9)),
        ((1.0, 0.8, 6.0), (1.0, 1.0, 3.0)),
        ((1.0, 1.0, 1.0), (5.0, 0.9, 0.9)),
        ((1.0, 5.0, 5.0), (1.0, 2.0, 2.0)),
        ((3.0, 0.8, 0.8), (1.0, 1.0)),
        ((5.0, 0.8, 0.8), (1.1, 0.7)),
    ],
)
def test_any_spacing_is_resampled_as_by_nnunet(
    spacing: tuple[float, ...], new_spacing: tuple[float, ...]
) -> None:
    plan = plans(spacing=list(new_spacing))
    assert_equal_arrays(volume(), labelled(), plan, spacing)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 8), (2, 1, 7), (3, 3, 3), (6, 40, 2)])
def test_very_small_volumes(shape: tuple[int, ...]) -> None:
    plan = plans(spacing=[0.4, 0.7, 0.6])
    assert_equal_arrays(volume(shape), labelled(shape), plan)


def test_volumes_of_random_sizes_and_spacings() -> None:
    random = np.random.default_rng(1)
    for seed in range(25):
        shape = tuple(random.integers(2, 22, 3).tolist())
        plan = plans(spacing=random.uniform(0.5, 4, 3).tolist())
        spacing = tuple(random.uniform(0.5, 4, 3).tolist())
        assert_equal_arrays(volume(shape, seed=seed), labelled(shape, seed), plan, spacing)


def test_long_axis_with_zeros() -> None:
    data = volume((3, 4, 700), channels=1)
    data[..., :500] = 0
    data[..., 0] = 7
    plan = plans(spacing=[1.0, 1.0, 1.1], normalization_schemes=["NoNormalization"])
    assert_equal_arrays(data, labelled((3, 4, 700)), plan)


@pytest.mark.parametrize("worth_compiling", [0, 2**22])
def test_region_around_object_and_holes_in_it(
    worth_compiling: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_nonzero_region, "WORTH_COMPILING", worth_compiling)
    data = volume((16, 18, 20))
    data[:, :3], data[:, :, 15:], data[..., :2] = 0, 0, 0
    data[:, 6:9, 5:8, 6:9] = 0  # a hole
    data[:, 3:7, 12, 12] = 0  # a channel from the border
    data[0, 10] = 0  # empty in one of the channels only
    for spacing in ([1.0, 1.0, 1.0], [0.8, 0.9, 1.2]):
        assert_equal_arrays(data, labelled((16, 18, 20)), plans(spacing=spacing))


def test_volume_of_zeros_and_no_foreground() -> None:
    assert_equal_arrays(np.zeros((2, 6, 7, 8)), labelled((6, 7, 8)), plans())
    assert_equal_arrays(volume(), np.zeros((1, 14, 17, 19)), plans(spacing=[0.5, 1.0, 1.0]))


def test_labels_above_127_and_of_one_voxel() -> None:
    labels = labelled()
    labels[labels == 2] = 200
    labels[0, 3, 3, 3] = 1000
    description = dataset_json({"background": 0, "a": 1, "b": 200, "c": 1000, "absent": 1001})
    assert_equal_arrays(volume(), labels, plans(spacing=[0.7, 0.8, 0.9]), description=description)


def test_ignore_label() -> None:
    description = dataset_json({"background": 0, "liver": 1, "tumour": 2, "ignore": 3})
    data = volume()
    data[:, :, :5] = 0
    assert_equal_arrays(data, labelled(), plans(spacing=[1.0, 0.8, 1.0]), description=description)


def test_regions() -> None:
    regions = {"background": 0, "organ": [2, 1, 3], "tumour": [3]}
    assert_equal_arrays(
        volume(), labelled(), plans(), description=dataset_json(regions, order=[1, 3])
    )


def test_more_than_ten_thousand_voxels_of_a_label() -> None:
    shape = (20, 110, 120)
    assert_equal_arrays(volume(shape, 1), labelled(shape), plans())
    assert_equal_arrays(volume(shape, 1), np.ones((1, *shape)), plans())


def test_volume_without_labels() -> None:
    data = volume()
    data[:, :4] = 0
    for spacing in ([1.0, 1.0, 1.0], [0.8, 0.9, 1.2]):
        assert_equal_arrays(data, None, plans(spacing=spacing))


def test_transposed_axes_and_strided_input() -> None:
    data = np.asfortranarray(volume().astype(np.float64))[:, ::2]
    labels = labelled()[:, ::2].astype(np.int32)
    plan = plans((2, 0, 1), spacing=[0.8, 1.0, 2.0])
    assert_equal_arrays(data, labels, plan, (1.0, 1.5, 4.0))


@pytest.mark.filterwarnings("ignore:All-NaN slice")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 1.0, 1.0)])
def test_values_that_are_not_finite(value: float, spacing: tuple[float, ...]) -> None:
    data = volume()
    data[0, 3, 3, 3] = value
    plan = plans(spacing=[0.8, 1.2, 0.9], normalization_schemes=["NoNormalization"] * 2)
    with np.errstate(invalid="ignore"):
        assert_equal_arrays(data, labelled(), plan, spacing)


def test_labels_that_are_no_whole_numbers_are_left_to_nnunet() -> None:
    labels = labelled() + np.float32(0.25)
    assert_equal_arrays(volume(), labels, plans())


@pytest.mark.parametrize(
    "changes",
    [
        {"order": 1},
        {"order_z": 1, "force_separate_z": True},
        {"force_separate_z": False},
        {"force_separate_z": True},
    ],
)
def test_other_settings_of_resampling(changes: dict[str, Any]) -> None:
    settings: Any = {
        f"resampling_fn_{kind}_kwargs": CONFIGURATION[f"resampling_fn_{kind}_kwargs"] | changes  # type: ignore[operator]
        for kind in ("data", "seg")
    }
    plan = plans(spacing=[1.0, 0.8, 0.9], **settings)
    assert_equal_arrays(volume(), labelled(), plan, (4.0, 1.0, 1.0))


def test_other_resampling_function() -> None:
    own = {"device": "cpu", "memefficient_seg_resampling": False, "force_separate_z": False}
    plan = plans(
        spacing=[1.0, 0.8, 0.9],
        resampling_fn_data="resample_torch_fornnunet",
        resampling_fn_data_kwargs={"is_seg": False, **own},
        resampling_fn_seg="resample_torch_fornnunet",
        resampling_fn_seg_kwargs={"is_seg": True, **own},
    )
    assert_equal_arrays(volume(), labelled(), plan)


def save_nifti(
    path: Path, values: np.ndarray, dtype: Any, scale: tuple[float, float] = (1, 0)
) -> str:
    """Write (Z, Y, X) as NIfTI on an oblique grid, with slope and intercept in the header."""
    affine = np.array([[-0.8, 0.1, 0, 5], [0.1, 0.8, 0, -7.5], [0, 0, 2.5, 100], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(np.ascontiguousarray(values.T).astype(dtype), affine)
    content = bytearray(image.to_bytes())
    struct.pack_into("<2f", content, SLOPE_OFFSET, *scale)
    path.write_bytes(gzip.compress(bytes(content), 1))
    return str(path)


def assert_equal_files(folder: Path, case: dict[str, Any], plan: PlansManager) -> None:
    """Write with both, and compare what nnU-Net reads from the files."""
    ours, theirs = folder / "ours", folder / "theirs"
    configuration = plan.get_configuration("c")
    write_volume_case(ours, case, plan, configuration, dataset_json())
    DefaultPreprocessor(verbose=False).run_case_save(
        str(theirs), case["images"], case["label"], plan, configuration, dataset_json()
    )
    for ending in (".b2nd", "_seg.b2nd"):
        a, b = (
            blosc2.open(urlpath=f"{path}{ending}", mode="r", mmap_mode="r")
            for path in (ours, theirs)
        )
        assert (a.chunks, a.blocks) == (b.chunks, b.blocks)
        assert_same(a[:], b[:], ending)
    a, b = (pickle.loads(Path(f"{path}.pkl").read_bytes()) for path in (ours, theirs))  # noqa: S301
    assert_same(a, b)
    assert len(list(folder.glob("ours*"))) == len((".b2nd", "_seg.b2nd", ".pkl"))


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (np.int16, (1, 0)),
        (np.float32, (1, 0)),
        (np.float64, (0, 0)),
        (np.int16, (0.3, -10)),
        (np.float32, (0.3, 1)),
    ],
)
@pytest.mark.parametrize("patch", [[12, 16, 16], [6, 7, 5], [16, 16]])
def test_files_are_those_of_nnunet(
    tmp_path: Path, dtype: Any, scale: tuple[float, float], patch: list[int]
) -> None:
    shape = (20, 33, 30)
    images = [
        save_nifti(tmp_path / f"case_000{number}.nii.gz", channel, dtype, scale)
        for number, channel in enumerate(volume(shape))
    ]
    label = save_nifti(tmp_path / "case.nii.gz", labelled(shape)[0], np.uint8)
    plan = plans(patch_size=patch, spacing=[2.5, 0.8, 0.8][3 - len(patch) :])
    assert_equal_files(tmp_path, {"images": images, "label": label}, plan)


def test_file_of_many_chunks(tmp_path: Path) -> None:
    shape = (20, 120, 200)
    image = save_nifti(tmp_path / "case_0000.nii.gz", volume(shape, 1)[0], np.int16)
    label = save_nifti(tmp_path / "case.nii.gz", labelled(shape)[0], np.uint8)
    plan = plans(patch_size=[9, 50, 70], spacing=[2.5, 0.8062257, 0.8062257])
    assert_equal_files(tmp_path, {"images": [image], "label": label}, plan)


def test_damaged_file_is_named(tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "case_0000.nii.gz", volume()[0], np.int16)
    label = save_nifti(tmp_path / "case.nii.gz", labelled()[0], np.uint8)
    content = Path(image).read_bytes()
    Path(image).write_bytes(content[: len(content) // 2])
    plan = plans(normalization_schemes=["CTNormalization"])
    case = {"images": [image], "label": label}
    with pytest.raises(DataError, match=r"case_0000\.nii\.gz"):
        write_volume_case(tmp_path / "out", case, plan, plan.get_configuration("c"), dataset_json())


@pytest.mark.parametrize("spacing", [[1.0, 1.0, 1.0], [1.1, 0.9, 1.0]])
def test_less_than_half_of_nnunets_memory(spacing: list[float]) -> None:
    data, labels, plan = volume((60, 80, 80), 1), labelled((60, 80, 80)), plans(spacing=spacing)
    peaks = []
    for kind in (FastPreprocessor, FastPreprocessor, DefaultPreprocessor):  # first of all: compile
        tracemalloc.start()
        kind(verbose=False).run_case_npy(
            data,
            labels,
            {"spacing": [1.0, 1.0, 1.0]},
            plan,
            plan.get_configuration("c"),
            dataset_json(),
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[2] / 2


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not there")
@pytest.mark.parametrize("spacing", [None, [2.8, 3.2, 2.9], [9.5, 3.1, 3.0]])
def test_real_volumes(tmp_path: Path, spacing: list[float] | None) -> None:
    found = [
        (path, path.parents[1] / "labelsTr" / path.name)
        for path in sorted((SAMPLES / "MSD_Hippocampus").glob("*/imagesTr/[!.]*.nii.gz"))[:3]
    ]
    for folder in sorted((SAMPLES / "CT_abdomen_sample").iterdir())[: 1 if spacing else 2]:
        found.append((folder / "ct.nii.gz", folder / "seg_multilabel.nii.gz"))
    for number, (image, label) in enumerate(found):
        folder = tmp_path / str(number)
        folder.mkdir()
        plan = plans(spacing=spacing or nibabel.load(image).header.get_zooms()[::-1])
        assert_equal_files(folder, {"images": [str(image)], "label": str(label)}, plan)
