"""Single slices and stacks of them: arrays of NumPy and HDF5 files, and DICOM."""

from __future__ import annotations

from nnmedseg.data._array_files import read_array
from nnmedseg.data._dicom import DicomSlice, read_dicom_slice

__all__ = ["DicomSlice", "read_array", "read_dicom_slice"]
