"""Arrays of .npz and HDF5 files, read as stored or refused with a reason."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from nnmedseg.data.slices import read_array
from nnmedseg.errors import DataError

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data" / "Synapse_layout_sample"
VALUES = np.random.default_rng(1).random((4, 5)).astype(np.float32)


def npz(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(folder / "arrays.npz", **arrays)
    return folder / "arrays.npz"


def npz_with_header(folder: Path, shape: tuple[int, ...], size: int) -> Path:
    """Write a member whose header claims a shape of float32 that its ``size`` bytes are not."""
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        member, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile(folder / "arrays.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", member.getvalue() + bytes(size))
    return folder / "arrays.npz"


def refusal(path: Path, key: str = "image") -> str:
    """Return what is said about a file that must be refused, without much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as raised:
            read_array(path, key, path)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
    with pytest.raises(DataError) as from_bytes:
        read_array(path.read_bytes(), key, path)
    assert from_bytes.value.what[:25] == raised.value.what[:25]
    assert str(path) in str(raised.value)
    return raised.value.what


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", ">i4", "i8", "f2", "f4", ">f8"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_npz_files_are_read_as_stored(save, dtype, tmp_path):
    values = (VALUES * 100).astype(dtype)
    save(tmp_path / "a.npz", image=values, label=np.asfortranarray(values))
    for key in ("image", "label"):
        for content in (tmp_path / "a.npz", (tmp_path / "a.npz").read_bytes()):
            read = read_array(content, key, tmp_path / "a.npz")
            assert read.dtype == values.dtype
            assert np.array_equal(read, values)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"chunks": (2, 2)}])
@pytest.mark.parametrize("dtype", ["?", "u1", ">i4", "f4", "f8"])
def test_datasets_of_hdf5_files_are_read_as_stored(dtype, options, tmp_path):
    values = (VALUES * 100).astype(dtype)
    with h5py.File(tmp_path / "a.npy.h5", "w") as file:
        file.create_dataset("image", data=values, **options)
    for content in (tmp_path / "a.npy.h5", (tmp_path / "a.npy.h5").read_bytes()):
        read = read_array(content, "image", tmp_path / "a.npy.h5")
        assert read.dtype == values.dtype
        assert np.array_equal(read, values)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="sample data sets are not here")
def test_real_files_are_read_as_their_libraries_read_them():
    for path in SAMPLES.rglob("*.npz"):
        with np.load(path) as arrays:
            for key in ("image", "label"):
                assert np.array_equal(read_array(path, key, path), arrays[key])
    for path in SAMPLES.rglob("*.h5"):
        with h5py.File(path) as file:
            for key in ("image", "label"):
                assert np.array_equal(read_array(path, key, path), file[key][()])


def test_a_missing_key_is_named_with_those_that_are_there(tmp_path):
    path = npz(tmp_path, image=VALUES, mask=VALUES)
    assert refusal(path, "label") == "there is no array 'label' in the file, only image, mask"
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = VALUES
        file.create_group("label")
    assert "no array 'mask' in the file, only image, label" in refusal(tmp_path / "a.h5", "mask")
    assert "'label' is not an array" in refusal(tmp_path / "a.h5", "label")


def test_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.array([{"a": 1}, None], dtype=object))
    assert "holds object, not numbers" in refusal(tmp_path / "a.npz")


def test_what_is_not_numbers_is_refused(tmp_path):
    for values in (np.array(["a", "b"]), VALUES.astype(complex)):
        assert "not numbers" in refusal(npz(tmp_path, image=values))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = "text"
        file["none"] = h5py.Empty("f4")
    assert "not numbers" in refusal(tmp_path / "a.h5")
    assert "not an array" in refusal(tmp_path / "a.h5", "none")


def test_empty_arrays_are_refused(tmp_path):
    assert "is empty: its size is 0 x 4" in refusal(npz(tmp_path, image=np.zeros((0, 4))))


@pytest.mark.parametrize("kept", [0, 2, 30, 100, 200, -1, -30])
def test_truncated_files_are_refused(kept, tmp_path):
    path = npz(tmp_path, image=VALUES, label=VALUES)
    path.write_bytes(path.read_bytes()[:kept])
    assert any(word in refusal(path) for word in ("truncated", "empty", "not a .npz"))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = VALUES
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content[:kept])
    assert any(word in refusal(tmp_path / "a.h5") for word in ("truncated", "empty", "not a .npz"))


def test_damaged_values_are_noticed(tmp_path):
    np.savez(tmp_path / "a.npz", image=VALUES)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(VALUES.tobytes()) + 5] ^= 0x55
    (tmp_path / "a.npz").write_bytes(content)
    assert "CRC" in refusal(tmp_path / "a.npz")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert refusal(tmp_path / "a.npz") == "this is not a .npz or HDF5 file"
    with pytest.raises(DataError, match="No such file"):
        read_array(tmp_path / "missing.npz", "image", tmp_path / "missing.npz")


@pytest.mark.parametrize(
    ("shape", "text"),
    [((30000, 30000, 30000), "claims 30000 x 30000 x 30000 numbers; at most"),
     ((1000, 1000, 1000), "should have 4,000,000,000 bytes"), ((-4, 5), "is empty")],
)  # fmt: skip
def test_headers_that_claim_too_much_are_not_believed(shape, text, tmp_path):
    assert text in refusal(npz_with_header(tmp_path, shape, size=80))


def test_a_member_that_goes_on_after_its_array_is_not_read(tmp_path):
    path = npz_with_header(tmp_path, (4, 5), size=2**28)
    assert "'image' should have 80 bytes" in refusal(path)


def test_a_directory_that_claims_too_much_is_not_believed(tmp_path):
    path = npz_with_header(tmp_path, (1000, 1000, 100), size=80)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\1\2")
    content[entry + 24 : entry + 28] = struct.pack("<I", 128 + 400_000_000)
    path.write_bytes(content)
    assert "cannot hold 400,000,128" in refusal(path)


@pytest.mark.parametrize(
    ("shape", "text"),
    [((30000, 30000, 30000), "at most"), ((1000, 1000, 1000), "only 0 were written")],
)
def test_hdf5_datasets_that_were_never_written_are_refused(shape, text, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("image", shape, "f4", chunks=(100, 100, 100))
    assert text in refusal(tmp_path / "a.h5")


def test_values_in_another_file_are_not_read(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["image"] = VALUES
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["image"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "image")
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        (tmp_path / "raw").write_bytes(VALUES.tobytes())
        external = [(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("image", VALUES.shape, "f4", external=external)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout(VALUES.shape, "f4")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "image", VALUES.shape)
        file.create_virtual_dataset("image", layout)
    for name in ("linked", "raw", "virtual"):
        assert "in another file" in refusal(tmp_path / f"{name}.h5")
