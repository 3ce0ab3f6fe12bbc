"""Masks of a user's own: binary or label maps, and names for their values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnmedseg.errors import DataError, UserError

from .own_images import NAMES, label_map, label_of, make, write_pairs
from .stand_ins import HEIGHT, WIDTH, blob, grey, save
from .volume_files import conversion_of, description_of, read

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def blurred(mask: np.ndarray) -> np.ndarray:
    """0 and 255 with a ramp of many values along one edge."""
    values = grey(mask)
    values[0, :40] = np.arange(10, 210, 5)
    return values


@pytest.mark.parametrize(
    "encode",
    [grey, lambda mask: mask, lambda mask: mask.astype(np.uint8), blurred],
    ids=["0 and 255", "1 bit", "0 and 1", "blurred"],
)
def test_binary_masks_give_one_label(source, folders, encode):
    write_pairs(source, [encode(blob(n) | (np.indices((HEIGHT, WIDTH))[0] > 30)) for n in range(3)])
    made = make(source, folders)
    assert description_of(made)["labels"] == {"background": 0, "foreground": 1}
    expected = blob(1) | (np.indices((HEIGHT, WIDTH))[0] > 30)
    assert np.array_equal(label_of(made, "b")[1:], expected[1:])
    assert not any("label_1" in note for note in conversion_of(made)["warnings"])


def test_masks_of_different_binary_encodings_give_one_label(source, folders):
    write_pairs(source, [grey(blob(0)), blob(1).astype(np.uint8), blob(2)])
    made = make(source, folders)
    for n, name in enumerate(NAMES):
        assert np.array_equal(label_of(made, name), blob(n))


def test_jpeg_masks_are_binary(source, folders):
    write_pairs(source)
    for n, name in enumerate(NAMES):
        save(source / "masks" / f"{name}.jpg", grey(blob(n)), quality=60)
    made = make(source, folders, masks="masks/*.jpg")
    assert np.array_equal(label_of(made, "b"), blob(1))


def test_one_name_names_the_foreground_of_binary_masks(source, folders):
    write_pairs(source)
    made = make(source, folders, labels="polyp")
    assert description_of(made)["labels"] == {"background": 0, "polyp": 1}
    assert np.array_equal(label_of(made, "b"), blob(1))


def test_label_maps_without_gaps_get_numbers_for_names(source, folders):
    masks = [label_map(n, (0, 1, 2)) for n in range(2)] + [label_map(0, (0, 3))]
    write_pairs(source, masks)
    made = make(source, folders)
    assert list(description_of(made)["labels"]) == ["background", "label_1", "label_2", "label_3"]
    for name, mask in zip(NAMES, masks, strict=True):
        assert np.array_equal(label_of(made, name), mask)
    assert any("became label_1 to label_3" in note for note in conversion_of(made)["warnings"])


@pytest.mark.parametrize("values", [(0, 128, 255), (0, 255, 128, 255, 255), (0, 1, 3), (0, 7)])
def test_other_values_are_refused_with_what_to_write(source, folders, values):
    write_pairs(source, [label_map(n, values) for n in range(3)])
    with pytest.raises(DataError) as raised:
        make(source, folders)
    foreground = sorted({value for value in values if value})
    assert ": " + ", ".join(map(str, foreground)) in str(raised.value)
    assert f"--labels {foreground[0]}=name1" in str(raised.value)


def test_values_of_sixteen_bits_are_refused_with_what_to_write(source, folders):
    write_pairs(source)
    save(source / "masks" / "b.png", blob(1).astype(np.uint16) * np.uint16(700))
    with pytest.raises(DataError, match=r"the masks hold 2 values beside 0.*: 255, 700"):
        make(source, folders)


@pytest.mark.parametrize(
    ("values", "labels", "meaning"),
    [
        ((0, 1, 2), "liver,spleen", ({"liver": 1, "spleen": 2}, {1: 1, 2: 2})),
        ((0, 128, 255), "128=disc, 255=cup", ({"disc": 1, "cup": 2}, {128: 1, 255: 2})),
        ((0, 1, 2), "0=background,2=b,1=a", ({"b": 1, "a": 2}, {1: 2, 2: 1})),
        ((0, 1, 2, 3), "1=kidney,2=kidney,3=background", ({"kidney": 1}, {1: 1, 2: 1, 3: 0})),
    ],
)
def test_labels_can_be_named(source, folders, values, labels, meaning):
    named, table = meaning
    masks = [label_map(n, values) for n in range(3)]
    write_pairs(source, masks)
    made = make(source, folders, labels=labels)
    assert description_of(made)["labels"] == {"background": 0} | named
    lookup = np.array([table.get(value, 0) for value in range(256)])
    assert np.array_equal(label_of(made, "b"), lookup[masks[1]])


def test_values_without_a_name_are_refused_by_file(source, folders):
    write_pairs(source, [label_map(n, (0, 1, 2)) for n in range(2)] + [label_map(0, (0, 5))])
    with pytest.raises(DataError, match=r"masks/c\.png: values that are no label: 5"):
        make(source, folders, labels="liver,spleen")


@pytest.mark.parametrize(
    "labels",
    ["a,,b", "a,a", "a,background", "1=a,1=b", "x=a", "1=", "1=a,b", "70000=a", "1=background"],
)
def test_names_that_cannot_be_understood_are_refused(source, folders, labels):
    write_pairs(source)
    with pytest.raises(UserError) as raised:
        make(source, folders, labels=labels)
    assert raised.value.where == "--labels"


def test_one_name_for_several_labels_is_refused(source, folders):
    write_pairs(source, [label_map(n, (0, 1, 2)) for n in range(3)])
    with pytest.raises(DataError, match="hold the labels 1 to 2, but --labels names only 'polyp'"):
        make(source, folders, labels="polyp")


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real samples are not here")
def test_the_ct_samples_need_names_for_their_values(folders):
    root = SAMPLES / "CT_abdomen_sample"
    with pytest.raises(DataError, match="the masks hold 62 values beside 0"):
        make(root, folders, "*/ct.nii.gz", "*/seg_multilabel.nii.gz")
    masks = [read(path) for path in sorted(root.glob("*/seg_multilabel.nii.gz"))]
    values = sorted({int(value) for mask in masks for value in np.unique(mask)} - {0})
    names = {1: "spleen", 5: "liver"}
    labels = ",".join(f"{value}={names.get(value, 'background')}" for value in values)
    made = make(root, folders, "*/ct.nii.gz", "*/seg_multilabel.nii.gz", labels=labels)
    for case, mask in zip(("ct_crop30", "ct_full112"), masks, strict=True):
        written = read(made / "labelsTr" / f"{case}.nii.gz")
        assert np.array_equal(written, np.where(mask == 5, 2, np.where(mask == 1, 1, 0)))
