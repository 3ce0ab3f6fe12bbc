"""Where a prediction lies in space: the grid of the file that the image came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import SimpleITK
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    io_orientation,
    ornt_transform,
)

from nnmedseg.data.simple_itk import write_image
from nnmedseg.data.volumes import Volume, write_nifti
from nnmedseg.files import atomic_path

if TYPE_CHECKING:
    from nnmedseg.inference.inputs.cases import LoadedCase

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Geometry:
    """A regular grid in space, in ITK's convention (LPS).

    Attributes:
        spacing: Distance of neighbouring voxels in mm, (x, y, z).
        origin: Position of the first voxel in mm, (x, y, z).
        direction: The axes of the grid as the columns of a 3 x 3 matrix, row by row.
        dimensions: 2 for a file that holds a single slice and no third axis. The third numbers
            above are those of an axis at right angles to it then.
    """

    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = IDENTITY
    dimensions: int = 3

    @classmethod
    def of_volume(cls, volume: Volume) -> Geometry:
        """Return the grid of a volume."""
        z, y, x = volume.spacing
        return cls((x, y, z), volume.origin, volume.direction)

    def without_third_axis(self) -> Geometry:
        """Return the grid of the same pixels in a file of two dimensions."""
        return replace(self, dimensions=2)

    @classmethod
    def of_sitk(cls, stored: dict[str, Any]) -> Geometry:
        """Return the grid from ``spacing``, ``origin`` and ``direction`` as SimpleITK has them.

        Of four dimensions, of which the last counts channels, the first three are taken.
        """
        size = len(stored["spacing"])
        kept = min(size, 3)
        matrix, spacing, origin = np.eye(3), np.ones(3), np.zeros(3)
        matrix[:kept, :kept] = np.reshape(stored["direction"], (size, size))[:kept, :kept]
        spacing[:kept], origin[:kept] = stored["spacing"][:kept], stored["origin"][:kept]
        return cls(_three(spacing), _three(origin), tuple(matrix.ravel().tolist()), kept)

    @classmethod
    def of_affine(cls, affine: npt.NDArray[np.floating]) -> Geometry:
        """Return the grid of an affine as nibabel has it, (4, 4), from voxels to RAS."""
        lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3]
        spacing = np.linalg.norm(lps[:, :3], axis=0)
        direction = lps[:, :3] / np.where(spacing > 0, spacing, 1)
        return cls(_three(spacing), _three(lps[:, 3]), tuple(direction.ravel().tolist()))


def as_in_file(values: Values, loaded: LoadedCase) -> tuple[Values, Geometry]:
    """Bring a map of an image to the order of axes of the image's file.

    nnU-Net's readers whose names end in ``WithReorient`` turn images to a standard orientation;
    for all others the order is that of the file already.

    Args:
        values: ``(..., Z, H, W)``, on the pixels of ``loaded.image``.
        loaded: The image.

    Returns:
        ``(..., Z, H, W)``, and the grid of the file; of photographs one with spacing 1.
    """
    properties = loaded.properties
    if loaded.geometry is not None:
        return values, loaded.geometry
    if "nibabel_stuff" in properties:
        stored = properties["nibabel_stuff"]
        affine = stored["original_affine"]
        if "reoriented_affine" in stored:
            values = _turned_back(values, affine)
        return values, Geometry.of_affine(affine)
    if "sitk_stuff" in properties:
        return _as_simpleitk_read(values, properties["sitk_stuff"])
    z, y, x = (float(side) for side in properties["spacing"])
    return values, Geometry((x, y, z))


def write_map(values: Values, path: Path, loaded: LoadedCase) -> None:
    """Write a map of an image as compressed NIfTI on the grid of the image's file.

    Both of NIfTI's transforms (qform and sform) are set.

    Args:
        values: ``(Z, H, W)``, on the pixels of ``loaded.image``: uint8, uint16 or float32.
        path: Ends in ``.nii.gz``.
        loaded: The image.
    """
    values, geometry = as_in_file(values, loaded)
    if geometry.dimensions == 2:
        _write_slice(values[0], path, geometry)
        return
    x, y, z = geometry.spacing
    write_nifti(
        Volume(np.ascontiguousarray(values), (z, y, x), geometry.origin, geometry.direction), path
    )


def _write_slice(values: Values, path: Path, geometry: Geometry) -> None:
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(geometry.spacing[:2])
    image.SetOrigin(geometry.origin[:2])
    image.SetDirection(np.reshape(geometry.direction, (3, 3))[:2, :2].ravel().tolist())
    with atomic_path(path) as temporary:
        write_image(image, temporary)


def _turned_back(values: Values, affine: npt.NDArray[np.floating]) -> Values:
    """Undo what nnU-Net's ``NibabelIOWithReorient`` does to the axes."""
    turn = ornt_transform(axcodes2ornt("RAS"), io_orientation(affine))
    if values.ndim == 3:
        return apply_orientation(values.transpose(2, 1, 0), turn).transpose(2, 1, 0)
    return np.stack([_turned_back(one, affine) for one in values])


def _as_simpleitk_read(values: Values, stored: dict[str, Any]) -> tuple[Values, Geometry]:
    geometry = Geometry.of_sitk(stored)
    orientation = stored.get("original_orientation")
    if orientation is None:
        return values, geometry
    if values.ndim == 4:
        turned = [_as_simpleitk_read(one, stored) for one in values]
        return np.stack([one for one, _ in turned]), turned[0][1]
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    image = SimpleITK.DICOMOrient(image, orientation)
    turned_back = Geometry(image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return SimpleITK.GetArrayFromImage(image), turned_back


def _three(numbers: npt.NDArray[np.floating]) -> tuple[float, float, float]:
    x, y, z = (float(number) for number in numbers)
    return x, y, z
