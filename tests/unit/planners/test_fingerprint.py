"""The fingerprint, against nnU-Net's on the same files."""

import gzip
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
    DatasetFingerprintExtractor,
)
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from PIL import Image

from nnmedseg.errors import DataError
from nnmedseg.nnunet.listing import list_training_cases
from nnmedseg.paths import Folders
from nnmedseg.planners.case_fingerprint import nonzero_box
from nnmedseg.planners.facts import DatasetFacts
from nnmedseg.planners.fingerprint import FINGERPRINT_FILE, _in_order, extract_fingerprint

NAME = "Dataset007_Measured"
SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"


class RawDataSet:
    """A data set of a few small cases, written by libraries that are not under test."""

    def __init__(self, folder, channels=("R", "G", "B"), ending=".png", labels=None):
        self.folder = folder
        self.ending = ending
        (folder / "imagesTr").mkdir(parents=True)
        (folder / "labelsTr").mkdir()
        self.describe(
            channel_names={str(number): name for number, name in enumerate(channels)},
            labels=labels or {"background": 0, "lesion": 1, "vessel": 2},
            numTraining=0,
            file_ending=ending,
        )

    def describe(self, **content):
        self.description = content
        (self.folder / "dataset.json").write_text(json.dumps(content))

    def add(self, case, images, label, spacing=(1.0, 1.0, 1.0)):
        for channel, image in enumerate(images):
            self._save(image, self.folder / "imagesTr" / f"{case}_{channel:04d}", spacing)
        self._save(label, self.folder / "labelsTr" / case, spacing)

    def _save(self, values, stem, spacing):
        path = f"{stem}{self.ending}"
        if self.ending == ".png":
            Image.fromarray(values).save(path)
            return
        image = SimpleITK.GetImageFromArray(values)
        image.SetSpacing(spacing[: values.ndim])
        SimpleITK.WriteImage(image, path)

    def cases(self):
        return list_training_cases(self.folder, self.description)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    return tmp_path


def new_data_set(folders, **options):
    return RawDataSet(folders / "raw" / NAME, **options)


def extract(workers=2, **changes):
    kinds = ("raw", "preprocessed", "results")
    folders = Folders(*(Path(os.environ[f"nnUNet_{kind}"]) for kind in kinds))
    return extract_fingerprint(NAME, workers, folders=folders, **changes)


def facts():
    return DatasetFacts.from_fingerprint(extract())


def photograph(seed, *shape, black=0):
    """Random colours with a black border."""
    values = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    border = np.zeros(shape, np.uint8)
    inside = np.s_[black : shape[0] - black, black : shape[1] - black]
    border[inside] = values[inside]
    return border


def square(height, width, side, label=1):
    values = np.zeros((height, width), np.uint8)
    values[8 : 8 + side, 8 : 8 + side] = label
    return values


def photographs(folders):
    data_set = new_data_set(folders)
    for seed, (height, width) in enumerate([(60, 80), (80, 60), (64, 64), (40, 200)]):
        image = photograph(seed, height, width, 3, black=seed)
        data_set.add(f"case_{seed}", [image], square(height, width, 10 + seed))
    return data_set


def volumes(folders, dtype=np.float32, channels=("T1", "T2")):
    data_set = new_data_set(folders, channels=channels, ending=".nii.gz")
    for seed in range(3):
        rng = np.random.default_rng(seed)
        images = [np.zeros((6, 20, 24), dtype) for _ in channels]
        for image in images:
            image[1:5, seed : 18 + seed, 3:] = rng.normal(100, 40, (4, 18 - max(0, seed - 2), 21))
        label = np.zeros((6, 20, 24), np.uint8)
        label[2:4, 5:15, 6:14] = 1
        data_set.add(f"case_{seed}", images, label, spacing=(0.7, 0.8, 2.5))
    return data_set


def by_nnunet(data_set, reader):
    """nnU-Net's shapes, spacings and relative sizes, and all of its foreground intensities."""
    shapes, spacings, sizes, intensities = [], [], [], []
    for case in data_set.cases().values():
        found = DatasetFingerprintExtractor.analyze_case(case["images"], case["label"], reader, 10)
        shapes.append(list(found[0]))
        spacings.append([float(side) for side in found[1]])
        sizes.append(float(found[4]))
        image, label = reader().read_images(case["images"])[0], reader().read_seg(case["label"])[0]
        image, label, _ = crop_to_nonzero(image, label)
        intensities.append([channel[label[0] > 0] for channel in image])
    return shapes, spacings, float(np.median(sizes)), intensities


@pytest.mark.parametrize(
    ("make", "reader"),
    [
        (photographs, NaturalImage2DIO),
        (volumes, SimpleITKIO),
        (lambda folders: volumes(folders, np.int16, ("CT",)), SimpleITKIO),
    ],
)
def test_the_fingerprint_is_nnunets(make, reader, folders):
    shapes, spacings, size, intensities = by_nnunet(make(folders), reader)
    found = extract()
    assert found["shapes_after_crop"] == shapes
    assert found["spacings"] == spacings
    assert found["median_relative_size_after_cropping"] == size
    for channel, statistics in found["foreground_intensity_properties_per_channel"].items():
        pixels = [case[int(channel)] for case in intensities]
        drawn = np.concatenate([np.repeat(case, 10**6 // len(case)) for case in pixels])
        drawn = drawn.astype(np.float64)
        low, middle, high = np.percentile(drawn, (0.5, 50, 99.5), method="inverted_cdf")
        for name, expected in (
            ("mean", drawn.mean()),
            ("std", drawn.std()),
            ("min", drawn.min()),
            ("max", drawn.max()),
            ("median", middle),
            ("percentile_00_5", low),
            ("percentile_99_5", high),
        ):
            assert statistics[name] == pytest.approx(expected, rel=1e-3), (channel, name)


@pytest.mark.slow
def test_the_file_is_nnunets_with_one_more_key(folders):
    photographs(folders)
    extract()
    file = folders / "preprocessed" / NAME / FINGERPRINT_FILE
    ours = json.loads(file.read_text())
    DatasetFingerprintExtractor(NAME, 1).run(overwrite_existing=True)
    theirs = json.loads(file.read_text())
    assert set(ours) == {*theirs, "nnmedseg"}
    name = "foreground_intensity_properties_per_channel"
    for channel, statistics in theirs.pop(name).items():
        assert ours[name][channel] == pytest.approx(statistics, rel=1e-2)
    assert {key: ours[key] for key in theirs} == theirs


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((5, 6, 7)),
        np.ones((5, 6, 7)),
        np.pad(np.ones((1, 1, 1)), ((2, 2), (0, 5), (6, 0))),
        np.pad(np.pad(np.zeros((3, 3, 3)), 1, constant_values=1), ((1, 0), (2, 2), (0, 0))),
        (np.random.default_rng(0).random((5, 6, 7)) > 0.97).astype(float),
        np.full((5, 6, 7), -1024.0),
    ],
)
def test_cropping_is_nnunets(image):
    channels = np.stack([image, np.roll(image, 1, axis=2)])
    _, _, box = crop_to_nonzero(channels.copy())
    ours = nonzero_box(list(channels), axes=3)
    extent = [[*part.indices(side)[:2]] for part, side in zip(ours, image.shape, strict=True)]
    assert extent == [list(sides) for sides in box]


def test_facts_of_photographs(folders):
    photographs(folders)
    found = facts()
    assert found.natural
    assert found.eight_bit
    assert (found.cases, found.channels) == (4, 3)
    assert found.image_sizes == ((60, 80), (80, 60), (64, 64), (40, 200))
    assert found.cropped_sizes == ((60, 80), (78, 58), (60, 60), (34, 194))
    assert found.spans == {"lesion": ((10.0,), (11.0,), (12.0,), (13.0,))}
    assert found.foreground_shares == pytest.approx(
        [100 / 4800, 121 / 4800, 144 / 4096, 169 / 8000]
    )


def test_the_colours_of_each_photograph_weigh_the_same(folders):
    data_set = new_data_set(folders)
    data_set.add("small", [np.full((8, 8, 3), (10, 20, 30), np.uint8)], square(8, 8, 0))
    data_set.add("large", [np.full((80, 80, 3), (30, 40, 70), np.uint8)], square(80, 80, 4))
    found = facts()
    assert found.colour_mean == pytest.approx((20, 30, 50))
    assert found.colour_std == pytest.approx((10, 10, 20))


@pytest.mark.parametrize(("top", "eight_bit"), [(255, True), (256, False)])
def test_16_bit_files_may_hold_8_bits(top, eight_bit, folders):
    data_set = new_data_set(folders, channels=("grey",))
    image = np.random.default_rng(0).integers(0, 256, (30, 40)).astype(np.uint16)
    image[20, 20] = top
    data_set.add("case", [image], square(30, 40, 5))
    assert facts().eight_bit is eight_bit


def test_five_grey_channels(folders):
    data_set = new_data_set(folders, channels=tuple("abcde"))
    images = [np.full((30, 40), value, np.uint8) for value in (5, 4, 3, 2, 1)]
    data_set.add("case", images, square(30, 40, 5))
    found = extract()["foreground_intensity_properties_per_channel"]
    assert [statistics["mean"] for statistics in found.values()] == [5, 4, 3, 2, 1]


def test_no_foreground_in_any_mask(folders):
    data_set = new_data_set(folders)
    data_set.add("case", [photograph(0, 30, 40, 3)], square(30, 40, 0))
    found = facts()
    assert found.foreground_share is None
    assert found.spans == {}


def test_a_black_image_is_not_cropped(folders):
    data_set = new_data_set(folders)
    data_set.add("case", [np.zeros((30, 40, 3), np.uint8)], square(30, 40, 5))
    assert facts().cropped_sizes == ((30, 40),)


def test_of_several_labels_each_is_measured(folders):
    data_set = new_data_set(folders)
    both = square(60, 80, 20) + np.roll(square(60, 80, 4, label=2), 40, axis=1)
    data_set.add("case_0", [photograph(0, 60, 80, 3)], both)
    data_set.add("case_1", [photograph(1, 60, 80, 3)], square(60, 80, 10))
    assert facts().spans == {"lesion": ((20.0,), (10.0,)), "vessel": ((4.0,), ())}


def test_what_is_not_annotated_is_no_foreground(folders):
    data_set = new_data_set(folders, labels={"background": 0, "lesion": 1, "ignore": 2})
    both = square(60, 80, 20) + np.roll(square(60, 80, 4, label=2), 40, axis=1)
    data_set.add("case", [photograph(0, 60, 80, 3)], both)
    found = facts()
    assert found.spans == {"lesion": ((20.0,),)}
    assert found.foreground_share == 400 / 4800


def test_regions_of_several_labels_are_measured_label_by_label(folders):
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    data_set = new_data_set(folders, labels=labels)
    data_set.add("case", [photograph(0, 60, 80, 3)], square(60, 80, 20, label=2))
    assert facts().spans == {"label 2": ((20.0,),)}


def test_of_many_regions_quantiles_are_kept(folders):
    data_set = new_data_set(folders)
    dots = np.zeros((200, 200), np.uint8)
    dots[::4, ::4] = 1
    data_set.add("case", [photograph(0, 200, 200, 3)], dots)
    assert facts().spans == {"lesion": ((1.0,) * 32,)}


def test_volumes_have_a_spacing_and_no_spans(folders):
    volumes(folders)
    found = facts()
    assert not found.natural
    assert not found.eight_bit
    assert found.spans == {}
    assert found.foreground_share == 160 / 2880


def test_slices_with_and_without_millimetres_are_told_apart(folders):
    data_set = new_data_set(folders, channels=("grey",), ending=".nii.gz")
    for case, spacing in (("with", (0.5, 0.5)), ("without", (1.0, 1.0))):
        data_set.add(case, [photograph(0, 30, 40)], square(30, 40, 5), spacing)
    found = facts()
    assert found.without_spacing == 1
    assert not found.natural


def test_nothing_is_read_again_while_the_data_are_the_same(folders):
    photographs(folders)
    extract()
    file = folders / "preprocessed" / NAME / FINGERPRINT_FILE
    before = file.stat().st_mtime_ns
    extract()
    assert file.stat().st_mtime_ns == before


def test_a_changed_mask_is_noticed(folders):
    data_set = photographs(folders)
    extract()
    Image.fromarray(square(60, 80, 30)).save(data_set.folder / "labelsTr" / "case_0.png")
    assert facts().spans["lesion"][0] == (30.0,)


def test_nnunets_own_file_is_replaced(folders):
    photographs(folders)
    expected = extract()
    file = folders / "preprocessed" / NAME / FINGERPRINT_FILE
    theirs = {key: value for key, value in expected.items() if key != "nnmedseg"}
    file.write_text(json.dumps(theirs))
    with pytest.raises(DataError, match="lacks"):
        DatasetFacts.from_fingerprint(theirs)
    assert extract() == expected


def test_the_result_does_not_depend_on_the_number_of_threads(folders):
    photographs(folders)
    assert extract(workers=4, overwrite=True) == extract(workers=1)


def test_few_cases_are_under_way_at_a_time():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        for done, result in enumerate(_in_order(pool, lambda item: item, items(), 2)):
            assert result == done
            assert len(taken) - done <= 2 * 2 + 1


def test_a_damaged_image_is_named(folders):
    image = photographs(folders).folder / "imagesTr" / "case_2_0000.png"
    image.write_bytes(image.read_bytes()[:300])
    with pytest.raises(DataError, match=r"case_2_0000\.png"):
        extract()


def test_a_damaged_volume_is_named(folders):
    label = volumes(folders).folder / "labelsTr" / "case_1.nii.gz"
    label.write_bytes(b"no volume")
    with pytest.raises(DataError, match="case_1"):
        extract()


def test_a_truncated_volume_is_not_filled_with_zeros(folders):
    """As SimpleITK does, by which nnU-Net reads."""
    label = volumes(folders).folder / "labelsTr" / "case_1.nii.gz"
    content = gzip.decompress(label.read_bytes())
    label.write_bytes(gzip.compress(content[: len(content) // 2]))
    with pytest.raises(DataError, match="truncated"):
        extract()


def test_a_mask_of_another_size_is_named(folders):
    data_set = photographs(folders)
    Image.fromarray(square(61, 80, 30)).save(data_set.folder / "labelsTr" / "case_0.png")
    with pytest.raises(DataError, match=r"60x80 pixels and its label 61x80[^$]*case_0\.png"):
        extract()


def test_another_number_of_channels_is_named(folders):
    data_set = photographs(folders)
    data_set.add("grey", [photograph(0, 30, 40)], square(30, 40, 5))
    with pytest.raises(DataError, match="case grey has 1 channels"):
        extract()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(value, folders):
    # NRRD, because SimpleITK reads such values of NIfTI files as zeros
    data_set = new_data_set(folders, channels=("T1",), ending=".nrrd")
    broken = np.ones((6, 20, 24), np.float32)
    broken[3, 10, 10] = value
    data_set.add("broken", [broken], np.ones((6, 20, 24), np.uint8))
    with pytest.raises(DataError, match="broken"):
        extract()


def test_a_data_set_without_images_is_refused(folders):
    new_data_set(folders)
    with pytest.raises(DataError, match="no training images"):
        extract()
