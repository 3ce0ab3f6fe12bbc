"""nnU-Net's readers and writers of files for threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnmedseg.data.simple_itk import alone


class OneAtATime(BaseReaderWriter):
    """A reader and writer whose calls wait for each other, in whatever thread.

    Most of nnU-Net's open files with SimpleITK, which is not safe in threads.

    Args:
        inner: nnU-Net's own.
    """

    def __init__(self, inner: BaseReaderWriter):
        self._inner = inner

    def read_images(self, image_fnames: Sequence[str]) -> tuple[np.ndarray, dict[str, Any]]:
        """Return channels (C, Z, Y, X) and properties."""
        with alone():
            return self._inner.read_images(image_fnames)

    def read_seg(self, seg_fname: str) -> tuple[np.ndarray, dict[str, Any]]:
        """Return labels (1, Z, Y, X) and properties."""
        with alone():
            return self._inner.read_seg(seg_fname)

    def write_seg(self, seg: np.ndarray, output_fname: str, properties: dict[str, Any]) -> None:
        """Write labels (Z, Y, X)."""
        with alone():
            self._inner.write_seg(seg, output_fname, properties)
