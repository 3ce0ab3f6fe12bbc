"""Writing label maps in files that viewers open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import numpy.typing as npt

from nnmedseg.data.images import encode_png
from nnmedseg.files import atomic_path
from nnmedseg.inference.inputs.geometry import write_map

if TYPE_CHECKING:
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    from nnmedseg.inference.inputs.cases import LoadedCase

LARGEST_OF_8_BITS = 255


def write_mask(
    labels: npt.NDArray[np.unsignedinteger],
    path: Path,
    loaded: LoadedCase,
    label_manager: LabelManager,
) -> None:
    """Write a label map ``(Z, H, W)`` as NIfTI or PNG, by the ending of the path.

    NIfTI takes the geometry of the input; a photograph has none and gets spacing 1. For PNG see
    `write_png_mask`.
    """
    if path.suffix == ".png":
        write_png_mask(labels, path, label_manager)
    else:
        write_map(labels, path, loaded)


def write_png_mask(
    labels: npt.NDArray[np.unsignedinteger], path: Path, label_manager: LabelManager
) -> None:
    """Write the first slice of a label map ``(Z, H, W)`` as PNG.

    It holds 0 and 255 when there is one class besides the background, and the labels themselves
    otherwise, in 16 bits if the model has labels above 255.
    """
    pixels = labels[0]
    if not label_manager.has_regions and len(label_manager.foreground_labels) == 1:
        pixels = (pixels > 0) * np.uint8(LARGEST_OF_8_BITS)
    _write_png(pixels, path, largest=max(label_manager.foreground_labels))


def _write_png(labels: npt.NDArray[np.unsignedinteger], path: Path, largest: int) -> None:
    if largest > LARGEST_OF_8_BITS:
        content = bytes(imagecodecs.png_encode(labels.astype(np.uint16)))
    else:
        content = encode_png(labels.astype(np.uint8, copy=False))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
