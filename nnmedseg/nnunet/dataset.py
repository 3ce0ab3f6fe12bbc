"""The store of photographs as nnU-Net's data loader and validation read it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset

from nnmedseg.data.class_locations import to_flat
from nnmedseg.data.intensities import Affine
from nnmedseg.data.store import FILE_ENDING, StoredArray, StoredCase, write_case

NORMALISATION = "normalisation"


class MedSegDataset(nnUNetBaseDataset):
    """Cases of :mod:`nnmedseg.data.store` in a folder, one file each."""

    def load_case(self, identifier: str) -> tuple[StoredArray, StoredArray, None, dict[str, Any]]:
        """Open a case without reading its pixels.

        Returns:
            Image ``(C, 1, H, W)`` and labels ``(1, 1, H, W)``, of which slices are arrays; nothing
            of a previous stage, which photographs do not have; nnU-Net's properties.

        Raises:
            DataError: The file is missing, damaged or truncated.
        """
        path = os.path.join(self.source_folder, identifier + FILE_ENDING)  # noqa: PTH118 - quicker
        case = StoredCase(path)
        return case.image, case.mask, None, case.properties

    @staticmethod
    def save_case(
        data: npt.NDArray[np.uint8],
        seg: npt.NDArray[np.integer],
        properties: dict[str, Any],
        output_filename_truncated: str,
    ) -> None:
        """Write a case.

        Args:
            data: Colours ``(C, 1, H, W)``.
            seg: Labels ``(1, 1, H, W)``.
            properties: As nnU-Net's preprocessor returns them, and an `Affine` as
                ``normalisation``.
            output_filename_truncated: The file without its ending.

        Raises:
            TypeError: The image is not of 8 bits, or its normalisation is not there.
        """
        normalisation = properties.get(NORMALISATION)
        if data.dtype != np.uint8 or not isinstance(normalisation, Affine):
            raise TypeError("this store takes images of 8 bits and their normalisation")
        height, width = data.shape[2:]
        locations = {
            key: to_flat(found, (height, width))
            for key, found in properties["class_locations"].items()
        }
        others = {
            key: value
            for key, value in properties.items()
            if key not in (NORMALISATION, "class_locations")
        }
        write_case(
            f"{output_filename_truncated}{FILE_ENDING}",
            data[:, 0],
            seg[0, 0],
            normalisation=normalisation,
            properties=others,
            locations=locations,
        )

    @staticmethod
    def get_identifiers(folder: str) -> list[str]:
        """Return the names of the finished cases in a folder."""
        files = Path(folder).glob(f"*{FILE_ENDING}")
        return sorted(path.stem for path in files if not path.name.startswith("."))
