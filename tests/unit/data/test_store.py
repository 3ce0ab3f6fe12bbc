"""Stored photographs: what comes back, and what damage does."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path

import numpy as np
import pytest

from nnmedseg.data.class_locations import sample_locations
from nnmedseg.data.intensities import Affine
from nnmedseg.data.store import StoredCase, write_case
from nnmedseg.errors import DataError

WINDOWS = [
    np.s_[:],
    np.s_[:, :, 0:100, 0:100],
    np.s_[:, 0:1, 120:300, 250:520],
    np.s_[:, :, 128:256, 256:512],
    np.s_[:, :, -3:, -5:],
    np.s_[:, :, 7:7, :],
    np.s_[0:1, :, 5:9, 5:9],
    np.s_[:, 0, 5],
    np.s_[..., 3],
    np.s_[:, :, ::2, 10:300:3],
    np.s_[1],
]


def photograph(channels=3, height=301, width=541):
    """Return smooth colours, so that some tiles are compressed and one is of a single value."""
    random = np.random.default_rng(channels)
    colours = np.add.outer(np.arange(height) // 3, np.arange(width) // 4).astype(np.uint8)
    colours = colours + random.integers(0, 20, (channels, height, width), dtype=np.uint8)
    colours[:, :128, :256] = 200
    labels = np.zeros((height, width), np.int16)
    labels[50:200, 40:400] = 1
    labels[:3] = -1
    return colours, labels


def write(path, colours, labels, classes=(1, (1, 2), 5)):
    scale = np.linspace(0.01, 0.02, len(colours))
    write_case(
        path,
        colours,
        labels,
        normalisation=Affine(scale, -scale * 99),
        properties={"spacing": [999, 1, 1], "shape_before_cropping": [1, 400, 600]},
        locations=sample_locations(labels, classes),
    )
    return (colours * scale[:, None, None] - 99 * scale[:, None, None])[:, None]


@pytest.fixture
def path(tmp_path) -> Path:
    write(tmp_path / "case.uint8", *photograph())
    return tmp_path / "case.uint8"


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_patches_are_normalised_colours(tmp_path, channels):
    colours, labels = photograph(channels)
    expected = write(tmp_path / "case", colours, labels)
    case = StoredCase(tmp_path / "case")
    assert case.image.shape == expected.shape
    assert len(case.image) == channels
    for window in WINDOWS[: None if channels > 1 else -1]:
        found = case.image[window]
        assert found.dtype == case.image.dtype == np.float32
        np.testing.assert_allclose(found, expected[window], atol=1e-5)


@pytest.mark.parametrize("window", WINDOWS[:-1])
def test_patches_of_labels(path, window):
    labels = photograph()[1][None, None]
    found = StoredCase(path).mask[window]
    assert found.dtype == np.int16
    assert np.array_equal(found, labels[window])


@pytest.mark.parametrize("largest", [127, 128, 300])
def test_labels_need_as_many_bits_as_they_need(tmp_path, largest):
    colours, labels = photograph()
    labels[labels == 1] = largest
    write(tmp_path / "case", colours, labels)
    assert np.array_equal(StoredCase(tmp_path / "case").mask[0, 0], labels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (128, 256), (129, 257)])
def test_any_size(tmp_path, shape):
    colours, _ = photograph()
    colours = np.resize(colours, (3, *shape))
    labels = np.resize(np.arange(7, dtype=np.int16), shape)
    expected = write(tmp_path / "case", colours, labels)
    case = StoredCase(tmp_path / "case")
    np.testing.assert_allclose(np.asarray(case.image), expected, atol=1e-5)
    assert np.array_equal(case.mask[0, 0], labels)


def test_properties_come_back_with_the_pixels_of_each_class(path):
    properties = StoredCase(path).properties
    labels = photograph()[1]
    assert properties["shape_before_cropping"] == [1, 400, 600]
    locations = properties["class_locations"]
    assert [len(locations[key]) for key in (1, (1, 2), 5)] == [10_000, 10_000, 0]
    channel, slices, rows, columns = np.asarray(locations[1]).T
    assert (labels[rows, columns] == 1).all()
    assert not channel.any()
    assert not slices.any()


def test_a_patch_is_an_array_of_its_own(path):
    case = StoredCase(path)
    case.image[:, :, 10:20, 10:20][:] = 0
    assert case.image[:, :, 10:20, 10:20].all()


def test_another_process_gets_arrays(path):
    case = StoredCase(path)
    for lazy in (case.image, case.mask):
        copy = pickle.loads(pickle.dumps(lazy))  # noqa: S301 - our own
        assert isinstance(copy, np.ndarray)
        assert np.array_equal(copy, lazy[:])


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted there")
def test_a_file_is_closed_as_soon_as_nothing_of_the_case_is_used(path):
    gc.collect()
    gc.disable()
    try:
        before = open_files()
        case = StoredCase(path)
        image, locations = case.image, case.properties["class_locations"]
        del case
        assert image[:, :, :5, :5].size
        assert len(locations[1][:3]) == 3
        assert open_files() == before + 1
        del image, locations
        assert open_files() == before
    finally:
        gc.enable()


def test_labels_are_those_of_the_window_whatever_was_read_before(path):
    case = StoredCase(path)
    labels = photograph()[1]
    case.image[:, :, 100:250, 300:500]
    assert np.array_equal(case.mask[:, :, 100:250, 300:500][0, 0], labels[100:250, 300:500])
    case.image[:, :, 100:250, 300:500]
    assert np.array_equal(case.mask[:, :, 190:250, 300:500][0, 0], labels[190:250, 300:500])


def read_everything(path):
    case = StoredCase(path)
    case.image[:]
    case.mask[:]
    case.properties["class_locations"][1][0]


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_named_when_it_is_opened(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"case\.uint8"):
        StoredCase(path)


def test_a_changed_byte_is_noticed_wherever_it_is(path):
    content = path.read_bytes()
    for position in np.linspace(0, len(content) - 1, 200).astype(int):
        damaged = bytearray(content)
        damaged[position] ^= 16
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"case\.uint8"):
            read_everything(path)


def test_appended_bytes_are_noticed(path):
    path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(DataError, match="bytes"):
        StoredCase(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"missing(?s:.*)absent\.uint8"):
        StoredCase(tmp_path / "absent.uint8")


def test_another_file_is_refused(tmp_path):
    other = tmp_path / "other.uint8"
    other.write_bytes(bytes(range(256)) * 40)
    with pytest.raises(DataError, match=r"other\.uint8"):
        StoredCase(other)
