"""Masks of a user's own: binary or label maps, and names for their values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnmedseg.dataset_conversion._label_names import parse_label_names
from nnmedseg.errors import DataError, UserError

from .own_images import NAMES, label_map, label_of, make, write_pairs
from .stand_ins import HEIGHT, WIDTH, blob, grey, save
from .volume_files import conversion_of, description_of, intensities, read, write

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
    assert "*=background" in str(raised.value)


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


@pytest.mark.parametrize(
    ("labels", "meaning"),
    [
        ("5=liver,1=spleen,*=background", ({"liver": 1, "spleen": 2}, (0, 2, 1, 0))),
        ("5=liver, * = rest", ({"liver": 1, "rest": 2}, (0, 2, 1, 2))),
        ("*=rest,0=air,5=background", ({"rest": 1, "air": 2}, (2, 1, 0, 1))),
    ],
)
@pytest.mark.parametrize("ending", ["png", "nii.gz"])
def test_a_star_stands_for_all_values_that_are_not_named(source, folders, ending, labels, meaning):
    named, expected = meaning
    values = np.array([0, 1, 5, 200], np.uint8)
    places = label_map(1, (0, 1, 2, 3))
    if ending == "png":
        write_pairs(source, [values[places]])
        written = label_of(make(source, folders, labels=labels), "a")
    else:
        write(source / "images" / "a.nii.gz", intensities(1, (2, *places.shape)))
        write(source / "masks" / "a.nii.gz", values[np.stack([places, places])])
        made = make(source, folders, "images/*.nii.gz", "masks/*.nii.gz", labels=labels)
        written = read(made / "labelsTr" / "a.nii.gz")[0]
    assert np.array_equal(written, np.array(expected)[places])
    description = description_of(folders.raw / "Dataset500_Mine")
    assert description["labels"] == {"background": 0} | named


def test_labels_of_all_other_values_can_be_told_apart():
    first, second, named = (
        sorted(parse_label_names(text).values.items())
        for text in ("1=a,2=b,*=a", "1=a,2=b,*=b", "1=a,2=b")
    )
    assert first != second
    assert first != named


def test_values_without_a_name_are_refused_by_file_with_what_to_write(source, folders):
    write_pairs(source, [label_map(n, (0, 1, 2)) for n in range(2)] + [label_map(0, (0, 5))])
    with pytest.raises(DataError, match=r"masks/c\.png: values that are no label: 5") as raised:
        make(source, folders, labels="liver,spleen")
    assert "*=background" in str(raised.value)


@pytest.mark.parametrize(
    "labels",
    [
        "a,,b",
        "a,a",
        "a,background",
        "1=a,1=b",
        "x=a",
        "1=",
        "1=a,b",
        "70000=a",
        "1=background",
        "*=background",
        "*=a,*=b",
        "*=",
    ],
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
    labels = "1=spleen,5=liver,*=background"
    made = make(root, folders, "*/ct.nii.gz", "*/seg_multilabel.nii.gz", labels=labels)
    for case, mask in zip(("ct_crop30", "ct_full112"), masks, strict=True):
        written = read(made / "labelsTr" / f"{case}.nii.gz")
        assert np.array_equal(written, np.where(mask == 5, 2, np.where(mask == 1, 1, 0)))
