"""What is written of a prediction, beside its mask."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from nnmedseg.cli.predict import main
from nnmedseg.errors import DataError, UserError
from nnmedseg.evaluation.overlay import label_colours
from nnmedseg.inference.inputs.cases import InputCase, find_cases
from nnmedseg.inference.inputs.loading import load_natural
from nnmedseg.inference.label_definition import LabelDefinition
from nnmedseg.inference.outputs.chosen import Outputs
from nnmedseg.inference.outputs.overlays import LARGEST_SIDE, choose_slices, draw_overlay
from nnmedseg.inference.outputs.probabilities import read_probabilities
from nnmedseg.inference.prediction import Prediction
from nnmedseg.inference.predictor import MedSegPredictor

from ..data.dicom_files import oblique_image
from .plain_model import plain_model

ALL = Outputs(png=True, overlay=True, probabilities="uint8", uncertainty=True)
THREE = {"a": 1, "b": 2, "c": 3}
DEFINITION = LabelDefinition({"background": 0, **THREE})


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """A model of three classes and pictures."""
    return MedSegPredictor.from_folder(plain_model(tmp_path_factory.mktemp("model"), labels=THREE))


def picture(folder, size=(40, 30)):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "case.png")
    (case,) = find_cases(folder / "case.png", 3, pictures=True)
    return case, load_natural(case, 3)


def squares(shape=(1, 30, 40)):
    """Return a label map with a square of each label in every slice."""
    labels = np.zeros(shape, np.uint8)
    for label in (1, 2, 3):
        labels[:, 5:15, 10 * label - 5 : 10 * label + 2] = label
    return labels


def prediction_of(labels):
    probabilities = np.stack([labels == label for label in range(4)]).astype(np.float16)
    return Prediction(labels, probabilities, np.full(labels.shape, 0.25, np.float16))


def test_names_are_those_of_the_files_written(tmp_path):
    case, loaded = picture(tmp_path)
    (tmp_path / "out").mkdir()
    ALL.write(prediction_of(squares()), loaded, case, tmp_path / "out", DEFINITION)
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(ALL.names(case))
    assert len(ALL.names(case)) == 5


def test_only_the_mask_is_written_unless_more_is_asked_for(tmp_path):
    case, loaded = picture(tmp_path)
    Outputs().write(prediction_of(squares()), loaded, case, tmp_path / "out", DEFINITION)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["case.nii.gz"]


def test_the_command_writes_what_it_is_asked_for(tmp_path, predictor, monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path))
    case, _ = picture(tmp_path)
    (tmp_path / "list.txt").write_text("case.png")
    wanted = ["--png", "--overlay", "--probabilities", "--uncertainty", "--device", "cpu"]
    for source, output in (("list.txt", "one"), ("case.png", "two")):
        paths = ["-i", str(tmp_path / source), "-o", str(tmp_path / output)]
        assert main([*paths, "-m", str(predictor.model), *wanted]) == 0
        written = {path.name for path in (tmp_path / output).iterdir()}
        assert written == {*ALL.names(case), "predictions.json"}


def test_png_masks_of_several_classes_hold_their_labels(tmp_path):
    case, loaded = picture(tmp_path)
    ALL.write(prediction_of(squares()), loaded, case, tmp_path / "out", DEFINITION)
    assert np.array_equal(np.array(Image.open(tmp_path / "out" / "case.png")), squares()[0])


def test_png_masks_of_one_class_hold_0_and_255(tmp_path):
    definition = LabelDefinition({"background": 0, "a": 1})
    case, loaded = picture(tmp_path)
    labels = (squares() == 1).astype(np.uint8)
    Outputs(png=True).write(Prediction(labels), loaded, case, tmp_path / "out", definition)
    assert np.array_equal(np.array(Image.open(tmp_path / "out" / "case.png")), labels[0] * 255)


def test_labels_above_255_get_png_masks_of_16_bits(tmp_path):
    many = {f"class {label}": label for label in range(1, 301)}
    definition = LabelDefinition({"background": 0, **many})
    case, loaded = picture(tmp_path)
    labels = squares().astype(np.uint16) * 100
    Outputs(png=True).write(Prediction(labels), loaded, case, tmp_path / "out", definition)
    stored = imagecodecs.png_decode((tmp_path / "out" / "case.png").read_bytes())
    assert stored.dtype == np.uint16
    assert np.array_equal(stored, labels[0])
    mask = SimpleITK.ReadImage(str(tmp_path / "out" / "case.nii.gz"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(mask), labels)


@pytest.mark.parametrize(("kind", "error"), [("float16", 2**-11), ("uint8", 0.5 / 255 + 2**-11)])
def test_probabilities_come_back(tmp_path, kind, error):
    case, loaded = picture(tmp_path)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), (1, 30, 40))
    probabilities = np.moveaxis(probabilities, -1, 0).astype(np.float16)
    prediction = Prediction(squares(), probabilities)
    Outputs(probabilities=kind).write(prediction, loaded, case, tmp_path, DEFINITION)
    stored = read_probabilities(tmp_path / "case_probabilities.npz")
    assert stored.probabilities.shape == (4, 1, 30, 40)
    assert np.abs(stored.probabilities.astype(float) - probabilities).max() <= error
    assert stored.labels == ("background", "a", "b", "c")
    assert stored.spacing == (1, 1, 1)


def test_uncertainty_lies_on_the_grid_of_the_mask(tmp_path):
    SimpleITK.WriteImage(oblique_image((2, 30, 40)), str(tmp_path / "case.nrrd"))
    (case,) = find_cases(tmp_path / "case.nrrd", 3, pictures=True)
    prediction = prediction_of(squares((2, 30, 40)))
    Outputs(uncertainty=True).write(
        prediction, load_natural(case, 3), case, tmp_path / "out", DEFINITION
    )
    mask = nibabel.load(tmp_path / "out" / "case.nii.gz")
    uncertainty = nibabel.load(tmp_path / "out" / "case_uncertainty.nii.gz")
    assert uncertainty.get_data_dtype() == np.float32
    assert np.array_equal(uncertainty.affine, mask.affine)
    assert np.array_equal(uncertainty.get_fdata(), np.full((40, 30, 2), 0.25))


def test_regions_are_named_without_the_background():
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    assert LabelDefinition(labels).channel_names == ["whole", "core"]


def test_classes_are_named_in_the_order_of_their_labels():
    labels = {"background": 0, "b": 2, "a": 1, "ignore": 3}
    assert LabelDefinition(labels).channel_names == ["background", "a", "b"]


def test_a_volume_cannot_be_written_as_png(tmp_path):
    SimpleITK.WriteImage(oblique_image(), str(tmp_path / "case.nrrd"))
    (case,) = find_cases(tmp_path, 3, pictures=True)
    with pytest.raises(DataError, match="cannot be written as PNG"):
        Outputs(png=True).check(load_natural(case, 3))


def test_an_unknown_type_of_probabilities_is_refused():
    with pytest.raises(UserError, match="float16 or uint8, not as 'float64'"):
        Outputs(probabilities="float64")


def test_outputs_never_take_the_place_of_an_image(tmp_path):
    case = InputCase("case", (tmp_path / "case.nii.gz",))
    with pytest.raises(UserError, match=r"case\.nii\.gz would take the place"):
        Outputs().refuse_conflicts([case], tmp_path)
    Outputs().refuse_conflicts([case], tmp_path / "out")


def test_outputs_of_two_cases_with_one_name_are_refused():
    cases = [InputCase(name, (Path(f"{name}.png"),)) for name in ("a", "a_uncertainty")]
    Outputs().refuse_conflicts(cases, Path("out"))
    with pytest.raises(UserError, match=r"a\.png and a_uncertainty\.png"):
        Outputs(uncertainty=True).refuse_conflicts(cases, Path("out"))


def test_an_overlay_is_the_image_with_outlines_of_each_label(tmp_path):
    _, loaded = picture(tmp_path)
    labels = squares()
    overlay = draw_overlay(labels, loaded)
    image = np.moveaxis(loaded.image[:, 0], 0, -1)
    for label, colour in zip((1, 2, 3), label_colours(3), strict=True):
        inside = labels[0] == label
        rows, columns = np.nonzero(inside)
        core = np.s_[rows.min() + 2 : rows.max() - 1, columns.min() + 2 : columns.max() - 1]
        line = inside.copy()
        line[core] = False
        assert (overlay[line] == colour).all()
        assert np.array_equal(overlay[core], image[core])
    assert np.array_equal(overlay[labels[0] == 0], image[labels[0] == 0])


def test_an_overlay_of_a_grey_image_is_grey(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "case.png")
    loaded = load_natural(InputCase("case", (tmp_path / "case.png",)), 1)
    overlay = draw_overlay(np.zeros((1, 30, 40), np.uint8), loaded)
    assert np.array_equal(overlay, np.dstack([pixels] * 3))


def test_a_large_image_is_shown_smaller(tmp_path):
    _, loaded = picture(tmp_path, size=(2 * LARGEST_SIDE, 10))
    labels = np.zeros((1, 10, 2 * LARGEST_SIDE), np.uint8)
    labels[0, :, 1000:3000] = 1
    overlay = draw_overlay(labels, loaded)
    assert overlay.shape == (5, LARGEST_SIDE, 3)
    assert (overlay == label_colours(1)[0]).all(axis=-1).any()


def test_slices_that_hold_structures_are_shown():
    labels = np.zeros((30, 4, 4), np.uint8)
    labels[10:21, 1, 1] = 1
    assert choose_slices(labels) == [10, 12, 14, 16, 18, 20]
    assert choose_slices(labels[:12]) == [10, 11]
    assert choose_slices(labels[:10], count=2) == [0, 9]


def test_an_overlay_of_a_volume_shows_slices(tmp_path):
    SimpleITK.WriteImage(oblique_image((9, 30, 40)), str(tmp_path / "case.nrrd"))
    (case,) = find_cases(tmp_path, 3, pictures=True)
    overlay = draw_overlay(squares((9, 30, 40)), load_natural(case, 3))
    for colour in label_colours(3):
        assert (overlay == colour).all(axis=-1).any()


def test_every_label_has_a_colour_of_its_own():
    assert len(set(label_colours(117))) == 117
