"""Writing label maps in files that viewers open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import SimpleITK

from nnmedseg.data.images import write_png
from nnmedseg.files import atomic_path

if TYPE_CHECKING:
    from nnmedseg.inference.cases import LoadedCase
    from nnmedseg.inference.predictor import MedSegPredictor


def write_mask(
    labels: npt.NDArray[np.unsignedinteger],
    path: Path,
    loaded: LoadedCase,
    predictor: MedSegPredictor,
) -> None:
    """Write a label map ``(Z, H, W)`` as NIfTI or PNG, by the ending of the path.

    NIfTI takes the geometry of the input; a photograph has none and gets spacing 1. PNG holds 0
    and 255 when there is one class besides the background, and the labels themselves otherwise.
    """
    if path.suffix == ".png":
        _write_png_mask(labels, path, classes=len(predictor.dataset_json["labels"]))
    elif predictor.is_natural:
        with atomic_path(path) as temporary:
            SimpleITK.WriteImage(_as_nifti(labels, loaded.geometry), str(temporary), True)
    else:
        with atomic_path(path) as temporary:
            writer = predictor.plans_manager.image_reader_writer_class()
            writer.write_seg(labels, str(temporary), loaded.properties)


def _as_nifti(
    labels: npt.NDArray[np.unsignedinteger], geometry: SimpleITK.Image | None
) -> SimpleITK.Image:
    flat = geometry is not None and geometry.GetDimension() == 2
    image = SimpleITK.GetImageFromArray(labels[0] if flat else labels)
    if geometry is not None:
        image.CopyInformation(geometry)
    return image


def _write_png_mask(labels: npt.NDArray[np.unsignedinteger], path: Path, classes: int) -> None:
    scale = 255 if classes == 2 else 1
    write_png((labels[0] * scale).astype(np.uint8), path)
