"""Copies of an image are found, and images that only resemble each other are not."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnmedseg.data import _hash_search
from nnmedseg.data._appearance import (
    SYMMETRIES,
    Appearance,
    hash_signs,
    orient,
    orient_signs,
    perceptual_hash,
)
from nnmedseg.data.duplicates import (
    Duplicates,
    Entry,
    Signature,
    find_duplicates,
    groups_of,
    signature,
)
from nnmedseg.data.images import read_image
from nnmedseg.data.volumes import read_volume

ISIC = Path(__file__).parents[2] / "data" / "ISIC2018"
SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "data"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample data are not here")


@pytest.fixture(scope="module")
def photos() -> dict[str, np.ndarray]:
    """Eleven dermoscopic images of different lesions."""
    return {path.stem: read_image(path) for path in sorted(ISIC.rglob("*.jpg"))}


@pytest.fixture(scope="module")
def photo(photos) -> np.ndarray:
    return photos["ISIC_0000188"]


def entry(name: str, image: np.ndarray) -> Entry:
    return Entry(name, signature(image), lambda: image)


def kinds(*images: np.ndarray) -> list[str]:
    entries = [entry(str(number), image) for number, image in enumerate(images)]
    return [pair.kind for pair in find_duplicates(entries)]


def pixels(image: np.ndarray) -> str:
    return signature(image).pixels


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content))


def resized(image: np.ndarray, width: int, height: int, kind=Image.Resampling.BILINEAR):
    return np.asarray(Image.fromarray(image).resize((width, height), kind))


def brighter(image: np.ndarray, by: int) -> np.ndarray:
    return np.clip(image.astype(int) + by, 0, 255).astype(np.uint8)


def smooth_noise(seed: int, shape: tuple[int, ...] = (96, 128), low: int = 12) -> np.ndarray:
    """A random picture with structure at the scale of a lesion."""
    coarse = np.random.default_rng(seed).integers(0, 255, (low, low), np.uint8)
    return resized(coarse, shape[1], shape[0], Image.Resampling.BICUBIC)


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG at quality 50": lambda image: as_jpeg(image, 50),
    "512 x 512": lambda image: resized(image, 512, 512),
    "512 x 512 without interpolation": lambda image: resized(
        image, 512, 512, Image.Resampling.NEAREST
    ),
    "half the size": lambda image: resized(image, image.shape[1] // 2, image.shape[0] // 2),
    "half the size at quality 50": lambda image: as_jpeg(
        resized(image, image.shape[1] // 2, image.shape[0] // 2), 50
    ),
    "brighter": lambda image: brighter(image, 15),
    "darker": lambda image: brighter(image, -15),
    "16 bit": lambda image: image.astype(np.uint16) * 257,
    "grey": lambda image: np.asarray(Image.fromarray(image).convert("L")),
    "mirrored": lambda image: image[:, ::-1],
    "upside down, resized": lambda image: resized(image[::-1], 512, 512),
    "rotated by 90 degrees": np.rot90,
    "transposed, at quality 50": lambda image: as_jpeg(image.swapaxes(0, 1), 50),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES.keys())
def test_a_changed_copy_is_near(photos, change):
    for image in photos.values():
        assert kinds(image, np.ascontiguousarray(change(image))) == ["near"]


def test_different_lesions_are_not_duplicates(photos):
    assert kinds(*photos.values()) == []


@pytest.mark.parametrize("share", [0.02, 0.04])
def test_a_frame_a_little_later_is_not_a_duplicate(photos, share):
    for image in photos.values():
        assert kinds(image, np.roll(image, round(share * image.shape[1]), axis=1)) == []


def test_a_change_in_one_place_is_not_a_duplicate(photo):
    changed = photo.copy()
    height, width = (side // 6 for side in photo.shape[:2])
    changed[:height, :width] = smooth_noise(1, (height, width))[..., None]
    assert kinds(photo, changed) == []


def test_noise_on_an_empty_background_is_no_difference():
    drawing = np.zeros((200, 300), np.uint8)
    drawing[60:120, 80:200] = smooth_noise(2, (60, 120))
    noise = np.random.default_rng(0).integers(0, 6, drawing.shape, np.uint8)
    assert kinds(drawing, np.maximum(drawing, noise)) == ["near"]


def test_equal_pixels_are_exact_whatever_the_name(photo):
    copy = photo.copy()
    entries = [entry("b", photo), entry("a", copy)]
    assert find_duplicates(entries) == [Duplicates("b", "a", "exact")]


def test_one_changed_pixel_is_not_exact(photo):
    changed = photo.copy()
    changed[5, 7, 2] ^= 1
    assert pixels(changed) != pixels(photo)
    assert kinds(photo, changed) == ["near"]


@pytest.mark.parametrize("plane", [0, 1, 2])
@pytest.mark.parametrize(("value", "too_small"), [(8.5, np.int64), (0.1, np.float32)])
def test_one_voxel_in_any_slice_makes_a_difference(plane, value, too_small):
    values = np.full((3, 4, 5), 7.0)
    changed = values.copy()
    changed[plane, 2, 3] = value
    assert len({pixels(image) for image in (values, changed, changed.astype(too_small))}) == 3


def test_uniform_images_are_duplicates_only_if_their_pixels_are_equal():
    black = [np.zeros(shape, np.uint8) for shape in ((64, 64), (80, 60), (64, 64, 3))]
    assert kinds(*black, np.full((64, 64), 128, np.uint8)) == ["exact"]
    assert all(signature(image).perceptual == "" for image in black)


def test_nearly_black_images_are_not_near():
    stray = [np.zeros((256, 256), np.uint8) for _ in range(3)]
    for number, image in enumerate(stray):
        image[40 * number + 3, 70 * number + 9] = 255
    assert kinds(*stray) == []
    assert all(signature(image).perceptual == "" for image in stray)


def test_images_without_structure_do_not_disturb_the_others(photo):
    entries = [entry("black", np.zeros((64, 64), np.uint8)), entry("photo", photo)]
    entries += [
        entry("grey", np.full((9, 9), 99, np.uint8)),
        entry("small", resized(photo, 99, 99)),
    ]
    assert find_duplicates(entries) == [Duplicates("photo", "small", "near")]


def test_smooth_pictures_are_compared_as_a_whole():
    """Within the blocks of a smooth picture there is little to compare."""
    rows, columns = np.mgrid[:200, :200].astype(np.float32)
    sideways, aslant = Appearance.of(columns), Appearance.of(columns + rows / np.sqrt(3))
    assert sideways.shows_same(Appearance.of(columns * 0.5 + 20), symmetry=0)
    assert not sideways.shows_same(aslant, symmetry=0)


def test_grey_and_its_rgb_copy_have_the_same_pixels():
    grey = smooth_noise(3)
    assert pixels(grey) == pixels(np.repeat(grey[..., None], 3, axis=2))
    tinted = np.repeat(grey[..., None], 3, axis=2)
    tinted[50, 60, 1] ^= 1
    assert pixels(grey) != pixels(tinted)


def test_pixels_depend_on_values_and_not_on_their_type():
    values = np.arange(60).reshape(3, 4, 5) - 7
    same = [values.astype(kind) for kind in (np.int8, ">i2", np.int64, np.float32, np.float64)]
    assert len({pixels(volume) for volume in same}) == 1
    fractions = values + 0.5
    assert pixels(fractions.astype(np.float32)) == pixels(fractions)
    assert pixels(fractions) != pixels(values)
    assert pixels(values / 3) != pixels((values / 3).astype(np.float32))


def test_whole_numbers_beyond_64_bits_do_not_overflow():
    values = [[0.0, 2.0**63]]
    assert pixels(np.array(values)) == pixels(np.array(values, np.uint64))


def test_pixels_depend_on_the_shape():
    values = np.arange(24, dtype=np.uint8)
    assert pixels(values.reshape(4, 6)) != pixels(values.reshape(6, 4))


def test_pixels_do_not_depend_on_the_layout_in_memory(photo):
    assert pixels(np.asfortranarray(photo)) == pixels(photo)


def test_a_volume_of_one_slice_is_that_slice():
    assert signature(smooth_noise(4)[None]) == signature(smooth_noise(4))


@pytest.mark.parametrize("bad", [np.zeros((0, 4)), np.zeros(4), np.zeros((2, 2), complex)])
def test_what_is_no_image_is_refused(bad):
    with pytest.raises(ValueError, match="no signature"):
        signature(bad)


def volume(seed: int) -> np.ndarray:
    """A random volume (24, 40, 48) with structure in all directions."""
    coarse = np.random.default_rng(seed).normal(size=(6, 8, 8))
    for axis, times in enumerate((4, 5, 6)):
        coarse = np.repeat(coarse, times, axis=axis)
    return coarse.astype(np.float32)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values * 300 - 1000,
        lambda values: np.rint(values * 1000).astype(np.int16),
        lambda values: values[::-1],
        lambda values: values[:, ::-1, ::-1],
        lambda values: values.swapaxes(1, 2),
        lambda values: np.where(values == values[0, 0, 0], np.nan, values),
    ],
    ids=["scaled", "rounded", "other end first", "rotated", "transposed", "NaN"],
)
def test_a_changed_volume_is_near(change):
    values = volume(0)
    values[:2, :3, :3] = 0.0  # where NaN, which counts as zero, makes no difference
    assert kinds(values, change(values)) == ["near"]


@pytest.mark.parametrize("describe", [signature, Appearance.of])
@pytest.mark.parametrize(
    ("kind", "part"), [(np.int16, 0), (np.float32, 0), (np.float32, 0.5), (np.float64, 0.3)]
)
def test_a_volume_is_described_in_little_memory(describe, kind, part):
    values = np.tile(np.rint(volume(2) * 1000), (4, 4, 5)).astype(kind) + kind(part)
    tracemalloc.start()
    try:
        describe(values)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < values.nbytes / 4


def test_volumes_with_the_same_mean_along_z_are_not_near():
    values = volume(1)
    shuffled = values[np.random.default_rng(1).permutation(len(values))]
    hashes = hash_signs([signature(image).perceptual for image in (values, shuffled)])
    assert (hashes[0] != hashes[1]).sum() < _hash_search.RADIUS
    assert kinds(values, shuffled) == []


def test_a_volume_is_no_copy_of_an_image():
    values = np.repeat(smooth_noise(5)[None], 10, axis=0)
    assert kinds(values, values[0]) == []


def test_exact_copies_are_paired_with_the_first_only(photo):
    small = resized(photo, 256, 256)
    entries = [entry(name, image) for name, image in zip("abcd", [photo, photo, photo, small])]  # noqa: B905
    assert find_duplicates(entries) == [
        Duplicates("a", "b", "exact"),
        Duplicates("a", "c", "exact"),
        Duplicates("a", "d", "near"),
    ]


def test_only_images_with_close_hashes_are_opened(photos, photo):
    opened = []

    def recording(name: str, image: np.ndarray) -> Entry:
        return Entry(name, signature(image), lambda: (opened.append(name), image)[1])

    entries = [recording(name, image) for name, image in photos.items()]
    entries += [recording("again", photo), recording("small", resized(photo, 300, 300))]
    find_duplicates(entries, num_workers=2)
    assert sorted(opened) == ["ISIC_0000188", "small"]


def test_groups_are_what_pairs_connect():
    pairs = [
        Duplicates("c", "b", "near"),
        Duplicates("x", "y", "exact"),
        Duplicates("a", "d", "near"),
        Duplicates("d", "b", "near"),
    ]
    assert groups_of(pairs) == [["a", "b", "c", "d"], ["x", "y"]]
    assert groups_of([]) == []


def test_a_signature_survives_json(photo):
    made = signature(photo)
    assert Signature.from_dict(made.to_dict()) == made
    assert (len(made.pixels), len(made.perceptual)) == (32, 64)


def test_the_hash_of_every_orientation_follows_from_one(photo):
    grey = np.ascontiguousarray(resized(photo, 200, 120)[..., 0])
    signs = hash_signs([perceptual_hash(grey)])
    for symmetry in range(SYMMETRIES):
        turned = hash_signs([perceptual_hash(np.ascontiguousarray(orient(grey, symmetry)))])
        # Coefficients that are nearly zero may fall on the other side.
        assert (orient_signs(signs, symmetry) != turned).sum() <= 1


def test_hashes_are_compared_across_blocks(monkeypatch):
    generator = np.random.default_rng(6)
    hashes = [generator.bytes(32) for _ in range(23)]
    hashes[21] = bytes([hashes[2][0] ^ 7]) + hashes[2][1:]
    hashes[3] = hashes[1]
    monkeypatch.setattr(_hash_search, "BLOCK", 4)
    found = _hash_search.close_hashes([content.hex() for content in hashes])
    assert set(found.as_tuples()) == {(1, 3, 0), (2, 21, 0)}


def test_the_radius_is_met_exactly():
    zeros, near, far = (
        np.packbits(np.arange(256) < bits).tobytes().hex()
        for bits in (0, _hash_search.RADIUS, _hash_search.RADIUS + 1)
    )
    pairs = {
        (first, second) for first, second, _ in _hash_search.close_hashes([zeros, near]).as_tuples()
    }
    assert pairs == {(0, 1)}
    assert (0, 1, 0) not in set(_hash_search.close_hashes([zeros, far]).as_tuples())


def test_nothing_to_compare_gives_nothing():
    assert find_duplicates([]) == []
    assert find_duplicates([entry("a", smooth_noise(7))]) == []


@needs_samples
@pytest.mark.slow
def test_no_two_of_the_sample_images_are_duplicates():
    """Sixty frames of Kvasir-SEG, the next frame of a ClinicDB video, both eyes of a child, ..."""
    patterns = (
        "ISIC201?/*/ISIC_*.jpg", "Kvasir-SEG/Kvasir-SEG/images/*.jpg", "CHASE_DB1/*.jpg",
        "CVC-ClinicDB/*/Original/*", "CVC-ColonDB/*/[0-9]*", "ETIS-LaribPolypDB/images/*",
        "BUSI/*/*/*).png", "PH2/*/*/*/*Dermoscopic_Image/*.bmp",
    )  # fmt: skip
    paths = [path for pattern in patterns for path in sorted(SAMPLES.glob(pattern))]
    assert len(paths) == 153
    entries = [
        Entry(path.name, signature(read_image(path)), lambda path=path: read_image(path))
        for path in paths
    ]
    assert find_duplicates(entries, num_workers=2) == []


@needs_samples
def test_no_two_of_the_sample_volumes_are_duplicates():
    paths = sorted(SAMPLES.glob("MSD_Hippocampus/*/images*/[!.]*.nii.gz"))
    assert len(paths) == 34
    volumes = [read_volume(path).values for path in paths]
    assert kinds(*volumes) == []
    assert kinds(volumes[0], volumes[1], volumes[0].astype(np.float64) / 7) == ["near"]
