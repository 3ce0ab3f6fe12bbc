"""Preprocessed photographs beside nnU-Net's, and preprocessing that was interrupted or changed."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from PIL import Image

from nnmedseg.data.store import StoredCase
from nnmedseg.errors import DataError, NotFoundError
from nnmedseg.nnunet.listing import list_training_cases
from nnmedseg.nnunet.preprocessor import MedSegPreprocessor
from nnmedseg.nnunet.registration import register
from nnmedseg.paths import Folders
from nnmedseg.planners.preprocessing import preprocess

from .photograph_sets import NAME, PLANS, SIZES, make_data_set, make_plans, write_plans

BYTES = {"store": "uint8"}
SMALLER = {"store": "uint8", "input": {"shorter_side": 64}}
PAPER = {
    "store": "uint8",
    "input": {"size": [64, 96], "resize": "bilinear", "intensity": "min_max_255"},
}
KVASIR = Path(__file__).parents[4] / "shared" / "data" / "Kvasir-SEG"


def run(folders: Folders, plans=None, name: str = NAME) -> Path:
    if plans is not None:
        write_plans(folders, plans)
    return preprocess(name, PLANS, "2d", folders=folders, num_workers=2)


def run_with_nnunet(folders: Folders, plans, target: Path, preprocessor=DefaultPreprocessor):
    target.mkdir(exist_ok=True)
    manager = PlansManager(plans)
    raw = folders.raw / NAME
    description = json.loads((raw / "dataset.json").read_text())
    for name, case in list_training_cases(raw, description).items():
        preprocessor(verbose=False).run_case_save(
            str(target / name),
            case["images"],
            case["label"],
            manager,
            manager.get_configuration("2d"),
            description,
        )
    return target


def batches(folder: Path, plans, description, count: int = 6):
    """Return what nnU-Net's own loader draws from a folder, always with the same seed."""
    register()
    labels = PlansManager(plans).get_label_manager(description)
    dataset = infer_dataset_class(str(folder))(str(folder))
    loader = nnUNetDataLoader(dataset, 4, (96, 128), (96, 128), labels, 0.5, None, None)
    np.random.seed(3)  # noqa: NPY002 - the loader draws from NumPy's global generator
    return [next(loader) for _ in range(count)]


def assert_same_training_input(ours, theirs, atol):
    for our, their in zip(ours, theirs, strict=True):
        assert list(our["keys"]) == list(their["keys"])
        assert (our["target"] == their["target"]).all()
        np.testing.assert_allclose(our["data"], their["data"], atol=atol, rtol=1e-5)


@pytest.mark.parametrize(
    "scheme",
    [
        "ZScoreNormalization",
        "RGBTo01Normalization",
        "RescaleTo01Normalization",
        "NoNormalization",
    ],
)
def test_without_resizing_training_sees_what_nnunets_store_gives(tmp_path, scheme):
    folders = make_data_set(tmp_path)
    plans = make_plans(details=BYTES, normalization_schemes=[scheme] * 3)
    description = json.loads((folders.raw / NAME / "dataset.json").read_text())
    theirs = batches(run_with_nnunet(folders, plans, tmp_path / "stock"), plans, description)
    ours = batches(run(folders, plans), plans, description)
    assert_same_training_input(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 5])
def test_any_number_of_channels(tmp_path, channels):
    folders = make_data_set(tmp_path, channels=channels)
    plans = make_plans(channels=channels, details=BYTES)
    description = json.loads((folders.raw / NAME / "dataset.json").read_text())
    theirs = batches(run_with_nnunet(folders, plans, tmp_path / "stock"), plans, description)
    assert_same_training_input(batches(run(folders, plans), plans, description), theirs, atol=1e-5)


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "whole": [1, 2], "core": [2]},
        {"background": 0, "rim": 1, "ignore": 2},
        {"background": 0, "whole": [1, 2], "third": [1, 3], "ignore": 4},
    ],
    ids=["regions", "ignore", "both"],
)
def test_patches_are_centred_on_the_same_pixels_of_regions_and_annotated_parts(tmp_path, labels):
    folders = make_data_set(tmp_path, labels=labels)
    plans = make_plans(details=BYTES)
    description = json.loads((folders.raw / NAME / "dataset.json").read_text())
    theirs = batches(run_with_nnunet(folders, plans, tmp_path / "stock"), plans, description)
    assert_same_training_input(batches(run(folders, plans), plans, description), theirs, atol=1e-5)


@pytest.mark.parametrize("details", [SMALLER, PAPER], ids=["smaller", "paper"])
def test_resized_images_are_half_a_grey_level_from_those_in_floats(tmp_path, details):
    folders = make_data_set(tmp_path)
    plans = make_plans(details=details)
    exact = run_with_nnunet(folders, plans, tmp_path / "floats", MedSegPreprocessor)
    ours = run(folders, plans)
    register()
    expected, found = (infer_dataset_class(str(folder))(str(folder)) for folder in (exact, ours))
    assert found.identifiers == sorted(SIZES)
    for name in SIZES:
        image, mask, _, properties = expected.load_case(name)
        data, seg, _, given = found.load_case(name)
        half_a_level = StoredCase(ours / f"{name}.uint8").scale.reshape(-1, 1, 1, 1) / 2
        assert (np.abs(data[:] - image[:]) <= half_a_level * 1.001 + 1e-5).all()
        assert np.array_equal(seg[:], mask[:])
        for key, pixels in properties.pop("class_locations").items():
            assert np.array_equal(np.asarray(given["class_locations"][key]), pixels)
        for key, value in properties.items():
            assert np.array_equal(given[key], value), key


@pytest.mark.skipif(not KVASIR.is_dir(), reason="needs the sample of Kvasir-SEG")
def test_real_photographs_give_the_same_training_input(tmp_path):
    folders = make_data_set(tmp_path)
    raw = folders.raw / NAME
    for name, image in zip(SIZES, sorted(KVASIR.rglob("images/*.jpg")), strict=False):
        Image.open(image).save(raw / "imagesTr" / f"{name}_0000.png")
        mask = np.asarray(Image.open(image.parents[1] / "masks" / image.name).convert("L")) > 127
        Image.fromarray(mask.astype(np.uint8)).save(raw / "labelsTr" / f"{name}.png")
    plans = make_plans(details=BYTES)
    description = json.loads((raw / "dataset.json").read_text())
    theirs = batches(run_with_nnunet(folders, plans, tmp_path / "stock"), plans, description)
    assert_same_training_input(batches(run(folders, plans), plans, description), theirs, atol=1e-5)


def test_all_that_is_left_of_a_case_is_one_file(tmp_path):
    target = run(make_data_set(tmp_path), make_plans(details=BYTES))
    assert sorted(path.name for path in target.iterdir()) == sorted(f"{x}.uint8" for x in SIZES)


def test_masks_are_copied_for_validation(tmp_path):
    folders = make_data_set(tmp_path)
    run(folders, make_plans(details=BYTES))
    for copy in (folders.preprocessed / NAME / "gt_segmentations").iterdir():
        assert copy.read_bytes() == (folders.raw / NAME / "labelsTr" / copy.name).read_bytes()


def contents(target: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in target.iterdir()}


@pytest.mark.parametrize("details", [BYTES, {}], ids=["bytes", "floats"])
def test_interrupted_and_damaged_cases_are_made_again_and_only_they(tmp_path, details):
    folders = make_data_set(tmp_path)
    target = run(folders, make_plans(details=details))
    before = contents(target)
    square, portrait = (min(target.glob(f"{name}*"), key=lambda x: len(x.name)) for name in
                        ("square", "portrait"))  # fmt: skip
    if details:
        square.unlink()
        portrait.write_bytes(portrait.read_bytes()[:-1])
    else:
        (target / "square.pkl").unlink()
        (target / "portrait.pkl").unlink()
    (target / ".writing-1-landscape.uint8").write_bytes(b"half")
    run(folders)
    after = contents(target)
    assert after.keys() == before.keys()
    for name, (time, content) in before.items():
        assert after[name][1] == content or name.endswith(".b2nd")
        assert (after[name][0] == time) == (name.startswith(("landscape", "framed")))


@pytest.mark.parametrize(
    ("changed", "anew"),
    [
        ({"patch_size": [64, 64]}, False),
        ({"batch_size": 7}, False),
        ({"normalization_schemes": ["RGBTo01Normalization"] * 3}, True),
        ({"details": SMALLER}, True),
        ({"details": {**BYTES, "predicted_memory_gib": 3}}, False),
        ({"details": {}}, True),
    ],
)
def test_cases_are_made_anew_when_what_they_depend_on_has_changed(tmp_path, changed, anew):
    folders = make_data_set(tmp_path)
    target = run(folders, make_plans(details=BYTES))
    before = contents(target)
    run(folders, make_plans(**{"details": BYTES, **changed}))
    assert (contents(target) != before) == anew


def test_another_size_is_another_content(tmp_path):
    folders = make_data_set(tmp_path)
    target = run(folders, make_plans(details=SMALLER))
    run(folders, make_plans(details={**SMALLER, "input": {"shorter_side": 65}}))
    assert StoredCase(target / "square.uint8").image.shape == (3, 1, 65, 65)


def test_a_changed_image_is_noticed(tmp_path):
    folders = make_data_set(tmp_path)
    target = run(folders, make_plans(details=BYTES))
    before = contents(target)
    image = folders.raw / NAME / "imagesTr" / "square_0000.png"
    Image.fromarray(np.asarray(Image.open(image)) // 2).save(image)
    run(folders)
    assert contents(target)["square.uint8"][1] != before["square.uint8"][1]


@pytest.mark.parametrize(
    ("scheme", "anew"), [("CTNormalization", True), ("ZScoreNormalization", False)]
)
def test_statistics_of_the_data_set_matter_to_its_normalisation_only(tmp_path, scheme, anew):
    folders = make_data_set(tmp_path)
    plans = make_plans(normalization_schemes=[scheme] * 3)
    target = run(folders, plans)
    before = contents(target)
    plans["foreground_intensity_properties_per_channel"]["1"] = {
        "mean": 3.0, "std": 20.0, "percentile_00_5": 0.0, "percentile_99_5": 180.0,
    }  # fmt: skip
    run(folders, plans)
    assert (contents(target) != before) == anew


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"use_mask_for_norm": [True] * 3}, "within a mask"),
        ({"normalization_schemes": ["CTNormalization"] * 3}, "CTNormalization"),
        ({"spacing": [2.0, 2.0]}, "spacing"),
    ],
)
def test_what_bytes_cannot_hold_goes_to_nnunets_store(tmp_path, caplog, changed, reason):
    folders = make_data_set(tmp_path)
    plans = make_plans(details=BYTES, **changed)
    with caplog.at_level(logging.INFO):
        target = run(folders, plans)
    assert reason in caplog.text
    stock = run_with_nnunet(folders, plans, tmp_path / "stock")
    description = json.loads((folders.raw / NAME / "dataset.json").read_text())
    theirs = batches(stock, plans, description, count=2)
    assert_same_training_input(batches(target, plans, description, count=2), theirs, atol=1e-5)


def spoil(folders: Folders, part: str, pixels) -> None:
    folder, name = part.split("/")
    Image.fromarray(pixels).save(folders.raw / NAME / folder / name)


@pytest.mark.parametrize(
    ("part", "pixels", "words"),
    [
        ("imagesTr/square_0000.png", np.zeros((150, 150), np.uint8), "1 channels.*names 3"),
        ("imagesTr/square_0000.png", np.zeros((151, 150, 3), np.uint8), "does not fit"),
        ("labelsTr/square.png", np.zeros((150, 150, 3), np.uint8), "does not fit"),
    ],
)
def test_a_case_that_does_not_fit_is_named(tmp_path, part, pixels, words):
    folders = make_data_set(tmp_path)
    spoil(folders, part, pixels)
    with pytest.raises(DataError, match=f"(?s){words}.*square"):
        run(folders, make_plans(details=BYTES))


def test_an_image_of_more_bits_than_planned_for_is_named(tmp_path):
    folders = make_data_set(tmp_path, channels=1)
    spoil(folders, "imagesTr/square_0000.png", np.full((150, 150), 3000, np.uint16))
    with pytest.raises(DataError, match=r"(?s)8 bits.*square_0000\.png"):
        run(folders, make_plans(channels=1, details=BYTES))


def test_a_truncated_image_is_named_and_nothing_is_left_of_the_case(tmp_path):
    folders = make_data_set(tmp_path)
    image = folders.raw / NAME / "imagesTr" / "square_0000.png"
    image.write_bytes(image.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"square_0000\.png"):
        run(folders, make_plans(details=BYTES))
    target = folders.preprocessed / NAME / "stored"
    assert not list(target.glob("*square*"))


def test_a_file_that_was_deleted_is_named(tmp_path):
    folders = make_data_set(tmp_path)
    (folders.raw / NAME / "labelsTr" / "square.png").unlink()
    with pytest.raises(DataError, match=r"square\.png"):
        run(folders, make_plans(details=BYTES))


def test_an_image_without_foreground_and_a_black_one_are_stored(tmp_path):
    folders = make_data_set(tmp_path)
    spoil(folders, "imagesTr/square_0000.png", np.zeros((150, 150, 3), np.uint8))
    spoil(folders, "labelsTr/square.png", np.zeros((150, 150), np.uint8))
    plans = make_plans(details=BYTES)
    description = json.loads((folders.raw / NAME / "dataset.json").read_text())
    theirs = batches(run_with_nnunet(folders, plans, tmp_path / "stock"), plans, description)
    assert_same_training_input(batches(run(folders, plans), plans, description), theirs, atol=1e-5)


def test_configurations_inherit(tmp_path):
    folders = make_data_set(tmp_path)
    plans = make_plans(details=BYTES)
    plans["configurations"]["base"] = plans["configurations"]["2d"]
    plans["configurations"]["2d"] = {"inherits_from": "base", "data_identifier": "inherited"}
    assert run(folders, plans).name == "inherited"


def test_an_unknown_configuration_is_named_with_those_that_there_are(tmp_path):
    folders = make_data_set(tmp_path)
    write_plans(folders, make_plans())
    with pytest.raises(NotFoundError, match="3d_fullres; there are: 2d"):
        preprocess(NAME, PLANS, "3d_fullres", folders=folders, num_workers=1)


def test_photographs_are_preprocessed_without_pytorch(tmp_path):
    folders = make_data_set(tmp_path)
    write_plans(folders, make_plans(details=SMALLER))
    script = (
        "import sys; from pathlib import Path; from nnmedseg.paths import Folders;"
        "from nnmedseg.planners.preprocessing import preprocess;"
        f"folders = Folders(*(Path({str(tmp_path)!r}) / x for x in ('raw', 'preprocessed', 'x')));"
        f"preprocess({NAME!r}, {PLANS!r}, '2d', folders=folders, num_workers=1);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert len(list((folders.preprocessed / NAME / "stored").iterdir())) == len(SIZES)
