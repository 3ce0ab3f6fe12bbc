"""Overlap metrics of folders of masks."""

import csv

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from nnmedseg.errors import DataError, NotFoundError
from nnmedseg.evaluation.metrics import evaluate_folder, overlap, read_labels


def write_png(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(rows, np.uint8)).save(path)


def test_dice_and_iou_of_a_worked_example():
    counts = overlap(np.array([1, 1, 1, 0]), np.array([1, 0, 1, 1]), 1)
    assert counts.dice == pytest.approx(2 * 2 / (4 + 1 + 1))
    assert counts.iou == pytest.approx(2 / 4)


def test_a_label_in_neither_mask_has_no_dice():
    assert np.isnan(overlap(np.zeros(3), np.zeros(3), 1).dice)


def test_a_png_mask_of_0_and_255_is_a_label_map(tmp_path):
    write_png(tmp_path / "a.png", [[0, 255]])
    assert read_labels(tmp_path / "a.png").tolist() == [[[0, 1]]]


def test_nifti_predictions_are_compared_with_png_references(tmp_path):
    mask = np.array([[0, 1], [1, 1]], np.uint8)
    write_png(tmp_path / "reference" / "a.png", mask)
    (tmp_path / "predicted").mkdir()
    SimpleITK.WriteImage(
        SimpleITK.GetImageFromArray(mask[None]), str(tmp_path / "predicted" / "a.nii.gz")
    )
    means = evaluate_folder(tmp_path / "predicted", tmp_path / "reference")
    assert means == {"cases": 1, "labels": {1: {"dice": 1.0, "iou": 1.0}}}


def test_every_case_and_label_has_a_row(tmp_path):
    for folder in ("predicted", "reference"):
        write_png(tmp_path / folder / "a.png", [[0, 1, 2]])
        write_png(tmp_path / folder / "b.png", [[0, 1, 1]])
    evaluate_folder(tmp_path / "predicted", tmp_path / "reference", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        rows = [(row["case"], row["label"]) for row in csv.DictReader(file)]
    assert rows == [("a", "1"), ("a", "2"), ("b", "1")]


def test_a_prediction_without_a_reference_is_named(tmp_path):
    write_png(tmp_path / "predicted" / "a.png", [[0, 1]])
    write_png(tmp_path / "reference" / "b.png", [[0, 1]])
    with pytest.raises(NotFoundError, match="no reference mask: a"):
        evaluate_folder(tmp_path / "predicted", tmp_path / "reference")


def test_masks_of_different_size_are_refused(tmp_path):
    write_png(tmp_path / "predicted" / "a.png", [[0, 1]])
    write_png(tmp_path / "reference" / "a.png", [[0, 1, 1]])
    with pytest.raises(DataError, match="differ in size"):
        evaluate_folder(tmp_path / "predicted", tmp_path / "reference")
