"""What images and masks of an unknown collection are, found by looking at all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import tifffile
from PIL import Image

from nnmedseg.cores import cpu_count
from nnmedseg.data.images import decode_labels, decode_mask
from nnmedseg.data.volumes import read_channels, read_label_values
from nnmedseg.dataset_conversion._label_names import LARGEST_VALUE
from nnmedseg.errors import DataError, list_some
from nnmedseg.progress import track

GREY_MODES = {"1", "L", "LA", "I", "I;16", "I;16B"}
VALUES_OF_BINARY_MASKS = ({0, 1}, {0, 255})
ALL_VALUES = {value: value for value in range(256)}
FEWEST_IN_BETWEEN = 16
"""Different values between 0 and 255 from which on a mask is blurred and not a label map."""
MOST_LABELS_WITHOUT_NAMES = 127

Result = TypeVar("Result")


@dataclass(frozen=True)
class MaskKind:
    """What the masks of a data set are.

    Attributes:
        values: The foreground values of label maps; empty for binary masks.
        note: A sentence for the user, or an empty one.
    """

    values: tuple[int, ...] = ()
    note: str = ""


def count_channels(paths: Sequence[Path]) -> int | None:
    """Return the number of channels of the first volume that can be read, None if none can."""
    for path in paths:
        try:
            return len(read_channels(path))
        except DataError:  # said later, with all other broken files
            continue
    return None


def are_grey(paths: Sequence[Path]) -> bool:
    """Return whether the headers of all images say grey; those that cannot be read say nothing."""
    return all(grey is not False for grey in _map(_is_grey, paths, "Looking at image headers"))


def look_at_masks(paths: Sequence[Path]) -> MaskKind:
    """Find out whether 2D masks are binary or label maps, from their values.

    Raises:
        DataError: They are neither; the values are named.
    """
    seen = list(_map(_count_values, paths, "Looking at masks"))
    if all(any(counts.keys() <= binary for binary in VALUES_OF_BINARY_MASKS) for counts in seen):
        return MaskKind()
    total = sum(seen, Counter[int]())
    between = [value for value in total if 0 < value < 255]
    blurred = total[255] > sum(total[value] for value in between)
    if max(total) == 255 and blurred and len(between) >= FEWEST_IN_BETWEEN:
        return MaskKind()
    return _label_maps(sorted(value for value in total if value))


def look_at_volume_masks(paths: Sequence[Path]) -> MaskKind:
    """Likewise for masks that are volumes."""
    found = _map(_values_of_volume, paths, "Looking at masks")
    foreground = sorted(set[int]().union(*found) - {0})
    return MaskKind(tuple(foreground)) if len(foreground) <= 1 else _label_maps(foreground)


def _label_maps(foreground: Sequence[int]) -> MaskKind:
    count = len(foreground)
    if list(foreground) == list(range(1, count + 1)) and count <= MOST_LABELS_WITHOUT_NAMES:
        return MaskKind(
            tuple(foreground),
            f"The masks hold the values 0 to {count}, which became label_1 to label_{count}; "
            "--labels NAME,NAME,... names them.",
        )
    example = ",".join(f"{value}=name{n}" for n, value in enumerate(foreground[:3], start=1))
    raise DataError(
        f"the masks hold {count} values beside 0, neither 0/255 nor 1, 2, 3 ... without gaps: "
        f"{list_some(foreground)}",
        where="--masks",
        mend=f"name each value: --labels {example or '1=name1'}"
        f"{',...' if count > 3 else ''}; values of the same name become one label, "
        "*=background stands for all that are not named",
    )


def _map(look: Callable[[Path], Result], paths: Sequence[Path], description: str) -> list[Result]:
    executor = ThreadPoolExecutor(cpu_count())
    try:
        return list(track(executor.map(look, paths), description, len(paths), "files"))
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _is_grey(path: Path) -> bool | None:
    """Return what the header of an image says, None if it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(0)
            if start[:2] in (b"II", b"MM"):
                with tifffile.TiffFile(file) as tiff:
                    page = tiff.pages.first
                    return page.samplesperpixel <= 2 and page.colormap is None
            with Image.open(file) as image:
                if image.mode == "P":
                    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
                    return bool((colours == colours[:, :1]).all())
                return image.mode in GREY_MODES
    except Exception:  # damaged files raise errors of many kinds; they are reported later
        return None


def _count_values(path: Path) -> Counter[int]:
    """Count the values of a mask; none if it is broken, or binary by its encoding."""
    try:
        content = path.read_bytes()
        labels = decode_labels(content, path, ALL_VALUES).labels
    except OSError:
        return Counter()
    except DataError:
        return _largest_value(content, path)
    counts = np.bincount(labels.ravel())
    return Counter({int(value): int(counts[value]) for value in np.flatnonzero(counts)})


def _largest_value(content: bytes, path: Path) -> Counter[int]:
    """Return the largest value of a mask of 16 bits where it is no label; nothing of a JPEG."""
    try:
        top = decode_mask(content, path).top
    except DataError:
        return Counter()
    return Counter({top: 1}) if 255 < top < LARGEST_VALUE else Counter()


def _values_of_volume(path: Path) -> set[int]:
    try:
        (volume,) = read_channels(path)
        values = read_label_values(volume.values, path)
    except (DataError, ValueError):
        return set()
    return {int(value) for plane in values for value in np.unique(plane)}
