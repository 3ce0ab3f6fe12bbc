"""Copies of one image under several names: equal pixel by pixel, or re-encoded, resized, mirrored.

A data set that has them on both sides of a split measures memory instead of generalisation. Each
image gets a ``Signature`` when it is read; ``find_duplicates`` compares the signatures of all and
opens again only those images whose perceptual hashes are close.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xxhash

from nnmedseg.cores import one_thread_each
from nnmedseg.data._appearance import Appearance, is_volume, perceptual_hash
from nnmedseg.data._hash_search import Candidates, close_hashes

__all__ = ["Duplicates", "Entry", "Signature", "find_duplicates", "groups_of", "signature"]

# The types that pixels are hashed in: the first one that holds all values of an image.
WHOLE_NUMBER_TYPES = ("<u1", "<u2", "<i2", "<i4", "<i8")


@dataclass(frozen=True)
class Signature:
    """What is kept of an image to recognise it.

    Attributes:
        pixels: Hash of shape and samples (xxHash3, 128 bits) in hexadecimal digits: equal if the
            decoded pixels are, and otherwise not but by a chance that never comes.
        perceptual: Hash of the appearance, 256 bits in hexadecimal digits; images that look alike
            differ in few bits. Empty for an image without structure, for instance a black one.
    """

    pixels: str
    perceptual: str

    def to_dict(self) -> dict[str, str]:
        """Return the signature for a JSON file."""
        return {"pixels": self.pixels, "perceptual": self.perceptual}

    @classmethod
    def from_dict(cls, content: Mapping[str, str]) -> Signature:
        """Return the signature that ``to_dict`` has described."""
        return cls(content["pixels"], content["perceptual"])


@dataclass(frozen=True)
class Entry:
    """One image among those that are compared.

    Attributes:
        name: Name in the result, unique.
        signature: The image's signature.
        load: Returns the image; called at most once, possibly in another thread, and only when
            another image's perceptual hash is close.
    """

    name: str
    signature: Signature
    load: Callable[[], np.ndarray]


@dataclass(frozen=True, order=True)
class Duplicates:
    """Two images that show the same.

    Attributes:
        first: Name of the one that came first.
        second: Name of the other.
        kind: ``"exact"``: the pixels are equal; ``"near"``: the same picture in another size,
            encoding, brightness, or one of the eight orientations.
    """

    first: str
    second: str
    kind: Literal["exact", "near"]


def signature(image: np.ndarray) -> Signature:
    """Return the signature of an image or volume.

    A grey image and its copy as RGB have the same pixels, and so have a volume of one slice and
    that slice, and equal values of different number types.

    Args:
        image: (H, W) of any numeric type; (H, W, 3) of uint8 or uint16 for colours; or a volume
            (Z, Y, X) of any numeric type.

    Raises:
        ValueError: It has another shape, no pixels, or does not hold real numbers.
    """
    samples = _without_repetition(image)
    return Signature(_hash_of_samples(samples), perceptual_hash(samples))


def find_duplicates(entries: Sequence[Entry], *, num_workers: int = 1) -> list[Duplicates]:
    """Find all pairs of images that show the same.

    Of a cluster of exact copies each is paired with the first one only, and only the first one is
    compared with images that are merely similar. Images are opened to verify the pairs whose
    perceptual hashes are close.

    Args:
        entries: The images. Order decides which one of a pair is called the first.
        num_workers: Images that are opened at once.

    Returns:
        The pairs, sorted by name.

    Raises:
        DataError: An image that must be looked at cannot be read (from ``Entry.load``).
    """
    pairs: list[Duplicates] = []
    first_with: dict[str, Entry] = {}
    for entry in entries:
        original = first_with.setdefault(entry.signature.pixels, entry)
        if original is not entry:
            pairs.append(Duplicates(original.name, entry.name, "exact"))
    distinct = [entry for entry in first_with.values() if entry.signature.perceptual]
    candidates = close_hashes([entry.signature.perceptual for entry in distinct])
    pairs += _verified(distinct, candidates, num_workers)
    return sorted(pairs)


def groups_of(pairs: Iterable[Duplicates]) -> list[list[str]]:
    """Return the names that are connected by pairs, each group and the list of groups sorted."""
    group_of: dict[str, set[str]] = {}
    for pair in pairs:
        first = group_of.setdefault(pair.first, {pair.first})
        second = group_of.setdefault(pair.second, {pair.second})
        if first is not second:
            smaller, larger = sorted((first, second), key=len)
            larger |= smaller
            group_of.update(dict.fromkeys(smaller, larger))
    distinct = {id(group): group for group in group_of.values()}
    return sorted(sorted(group) for group in distinct.values())


def _verified(
    entries: Sequence[Entry], candidates: Candidates, num_workers: int
) -> Iterator[Duplicates]:
    """Yield the candidates whose images have the same structure, each pair once."""
    involved = np.unique(np.concatenate((candidates.first, candidates.second)))
    with one_thread_each(), ThreadPoolExecutor(num_workers) as executor:
        appearances = executor.map(lambda index: _appearance(entries[index]), involved)
        looks = dict(zip(involved.tolist(), appearances, strict=True))
    found = {
        (first, second)
        for first, second, symmetry in candidates.as_tuples()
        if looks[first].shows_same(looks[second], symmetry)
    }
    for first, second in found:
        yield Duplicates(entries[first].name, entries[second].name, "near")


def _appearance(entry: Entry) -> Appearance:
    return Appearance.of(_without_repetition(entry.load()))


def _without_repetition(image: np.ndarray) -> np.ndarray:
    """Return (H, W), (H, W, 3) or (Z, Y, X): no colours that are grey, no volume of one slice."""
    if image.dtype.kind not in "buif" or image.size == 0 or image.ndim not in (2, 3):
        raise ValueError(f"an image has no signature if it is {image.dtype} {image.shape}")
    if image.ndim == 2:
        return image
    if is_volume(image):
        return image[0] if len(image) == 1 else image
    # Most colour images differ in a few pixels already.
    grey = _equal_channels(image[::16, ::16]) and _equal_channels(image)
    return image[..., 0] if grey else image


def _equal_channels(image: np.ndarray) -> bool:
    first = image[..., 0]
    return all(np.array_equal(first, image[..., channel]) for channel in (1, 2))


def _hash_of_samples(samples: np.ndarray) -> str:
    planes = samples if is_volume(samples) else samples[None]
    kind = _smallest_type(planes)
    # A fifteenth of SHA-256's time, which was a tenth of a conversion's; nobody forges images here.
    digest = xxhash.xxh3_128(f"{kind.str} {samples.shape}".encode())
    for plane in planes:
        values = plane.astype(kind, order="C", copy=False)
        digest.update((values + 0 if kind.kind == "f" else values).data)  # -0 becomes 0
    return digest.hexdigest()


def _smallest_type(planes: np.ndarray) -> np.dtype:
    """Return the type that values are hashed in, which depends on the values only.

    What is computed on the way is held for one plane at a time: volumes may fill the memory.
    """
    if planes.dtype == np.uint8:
        return planes.dtype
    if planes.dtype.kind != "f" or all(_are_whole(plane) for plane in planes):
        low, high = planes.min().item(), planes.max().item()
        for name in WHOLE_NUMBER_TYPES:
            limits = np.iinfo(name)
            if limits.min <= low and high <= limits.max:
                return np.dtype(name)
    return np.dtype("<f4" if all(_fits_single(plane) for plane in planes) else "<f8")


def _are_whole(plane: np.ndarray) -> bool:
    some = plane[..., ::16]  # decides for most images
    return np.array_equal(some, np.rint(some)) and np.array_equal(plane, np.rint(plane))


def _fits_single(plane: np.ndarray) -> bool:
    if plane.dtype in (np.float16, np.float32):
        return True
    with np.errstate(over="ignore"):
        single = plane.astype(np.float32)
    return np.array_equal(single, plane, equal_nan=plane.dtype.kind == "f")
