"""One case: its files read once, hashed, checked, and written in nnU-Net's raw format."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnmedseg.data.images import decode_image, decode_mask, to_rgb, write_png
from nnmedseg.dataset_conversion.base import Case
from nnmedseg.errors import DataError

IMAGES_FOLDER = {"train": "imagesTr", "validation": "imagesTr", "test": "imagesTs"}
LABELS_FOLDER = {"train": "labelsTr", "validation": "labelsTr", "test": "labelsTs"}

Record = dict[str, Any]
"""What ``conversion.json`` says about a case."""


class CaseError(Exception):
    """Everything that is wrong with the files of one case, one sentence each."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("; ".join(problems))


@dataclass(frozen=True)
class SourceFile:
    """A file of the download, read once.

    Attributes:
        path: Where it is.
        content: Its bytes.
        record: Name relative to the download folder, size in bytes, time of the last change (ns)
            and SHA-256.
    """

    path: Path
    content: bytes
    record: Record

    @classmethod
    def read(cls, path: Path, root: Path) -> SourceFile:
        """Read and hash a file; DataError if that fails."""
        try:
            content = path.read_bytes()
            changed = path.stat().st_mtime_ns
        except OSError as error:
            raise DataError(f"the file cannot be read: {error.strerror}", where=path) from error
        record = {
            "file": path.relative_to(root).as_posix(),
            "bytes": len(content),
            "changed_ns": changed,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        return cls(path, content, record)


def targets(case: Case, folder: Path, file_ending: str) -> tuple[Path, Path | None]:
    """Return where the image (first channel's file) and the mask of a case are written."""
    image = folder / IMAGES_FOLDER[case.part] / f"{case.id}_0000{file_ending}"
    if not case.masks:
        return image, None
    return image, folder / LABELS_FOLDER[case.part] / f"{case.id}{file_ending}"


def write_natural_image(
    images: Sequence[SourceFile], masks: Sequence[SourceFile], image: Path, mask: Path | None
) -> Record:
    """Write a natural image as RGB PNG and the union of its masks as PNG with 0 and 1.

    Returns:
        ``image_size`` (height, width; px), and with masks ``foreground_pixels`` and, unless zero,
        ``in_between_pixels``.

    Raises:
        CaseError: A file cannot be decoded, or the sizes differ. Nothing has been written then.
    """
    problems: list[str] = []
    (source,) = images
    pixels = _try_decoding(decode_image, source, problems)
    union, in_between = None, 0
    for mask_source in masks:
        decoded = _try_decoding(decode_mask, mask_source, problems)
        if decoded is None or pixels is None:
            continue
        if decoded.pixels.shape != pixels.shape[:2]:
            problems.append(
                f"{_name(source)} is {_size(pixels)} (width x height) but its mask "
                f"{_name(mask_source)} is {_size(decoded.pixels)}"
            )
            continue
        union = decoded.pixels if union is None else union | decoded.pixels
        in_between += decoded.in_between
    if problems or pixels is None:
        raise CaseError(problems)
    record: Record = {"image_size": list(pixels.shape[:2])}
    if union is not None and mask is not None:
        write_png(union.view(np.uint8), mask)
        record["foreground_pixels"] = int(np.count_nonzero(union))
        if in_between:
            record["in_between_pixels"] = in_between
    write_png(to_rgb(pixels), image)
    return record


WRITERS = {".png": write_natural_image}
"""How the cases of a data set are written, by the ending of the converted files."""


def _try_decoding(decoder: Any, source: SourceFile, problems: list[str]) -> Any:
    try:
        return decoder(source.content, source.path)
    except DataError as error:
        problems.append(f"{_name(source)}: {error.what}")
        return None


def _name(source: SourceFile) -> str:
    return str(source.record["file"])


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"
