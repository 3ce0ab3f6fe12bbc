"""Files of probabilities: ours, nnU-Net's, and damaged ones."""

from __future__ import annotations

import numpy as np
import pytest

from nnmedseg.errors import DataError, NotFoundError
from nnmedseg.inference.inputs.geometry import Geometry
from nnmedseg.inference.outputs.probabilities import read_probabilities, write_probabilities

GEOMETRY = Geometry(
    (0.5, 0.75, 2.0), (1.0, 2.0, 3.0), (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
)
PROBABILITIES = np.moveaxis(
    np.random.default_rng(0).dirichlet(np.ones(3), (2, 10, 20)), -1, 0
).astype(np.float16)


def write(path, stored_as="float16"):
    write_probabilities(
        PROBABILITIES, path, labels=["background", "Ödem", "c"], geometry=GEOMETRY,
        stored_as=stored_as,
    )  # fmt: skip
    return path


def test_float16_comes_back_as_it_was(tmp_path):
    stored = read_probabilities(write(tmp_path / "a.npz"))
    assert stored.probabilities.dtype == np.float16
    assert np.array_equal(stored.probabilities, PROBABILITIES)


def test_uint8_is_off_by_half_a_step_at_most(tmp_path):
    stored = read_probabilities(write(tmp_path / "a.npz", "uint8"))
    assert stored.probabilities.dtype == np.float16
    error = np.abs(stored.probabilities.astype(float) - PROBABILITIES).max()
    assert error <= 0.5 / 255 + 2**-12
    assert np.load(tmp_path / "a.npz")["probabilities"].dtype == np.uint8


def test_certainty_stays_certain_in_uint8(tmp_path):
    certain = np.stack([np.ones((1, 4, 4)), np.zeros((1, 4, 4))]).astype(np.float16)
    write_probabilities(
        certain, tmp_path / "a.npz", labels=["a", "b"], geometry=GEOMETRY, stored_as="uint8"
    )
    assert np.array_equal(read_probabilities(tmp_path / "a.npz").probabilities, certain)


def test_names_and_grid_come_back(tmp_path):
    stored = read_probabilities(write(tmp_path / "a.npz"))
    assert stored.labels == ("background", "Ödem", "c")
    assert stored.spacing == (2.0, 0.75, 0.5)
    assert stored.origin == GEOMETRY.origin
    assert stored.direction == GEOMETRY.direction


def test_nnunets_files_are_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", probabilities=PROBABILITIES.astype(np.float32))
    stored = read_probabilities(tmp_path / "a.npz")
    assert stored.probabilities.dtype == np.float32
    assert np.array_equal(stored.probabilities, PROBABILITIES)
    assert stored.labels == ()
    assert stored.spacing is None


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path, share):
    path = write(tmp_path / "a.npz")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match="damaged or truncated"):
        read_probabilities(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = write(tmp_path / "a.npz")
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read_probabilities(path)


@pytest.mark.parametrize(
    "content",
    [
        {"softmax": PROBABILITIES},
        {"probabilities": PROBABILITIES[0]},
        {"probabilities": PROBABILITIES.astype(np.int32)},
        {"probabilities": np.array([object()])},
    ],
)
def test_other_content_is_refused(tmp_path, content):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(DataError):
        read_probabilities(tmp_path / "a.npz")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="no such file of probabilities"):
        read_probabilities(tmp_path / "a.npz")
