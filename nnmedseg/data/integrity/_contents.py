"""What a check needs to know of a decoded file, whatever its format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Finding = tuple[str, str]
"""Kind of a problem and the sentence about it, of a file that is named elsewhere."""


@dataclass(frozen=True)
class Contents:
    """A decoded file.

    Attributes:
        values: (H, W), (H, W, 3) or (Z, Y, X); of a label the numbers as nnU-Net reads them, or
            ``None`` if it holds no labels.
        grid: What must be the same for all files of a case, for the function ``difference``.
        channels: How many channels nnU-Net finds in the file.
        findings: What is wrong with its encoding.
    """

    values: np.ndarray | None
    grid: Any
    channels: int = 1
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class FileFormat:
    """How files of one kind are read and compared.

    Attributes:
        read_image: Decodes the file of one or all channels of an image.
        read_label: Decodes a label.
        difference: Says how the grids of two files differ, or returns ``None``.
    """

    read_image: Callable[[Path], Contents]
    read_label: Callable[[Path], Contents]
    difference: Callable[[Any, Any], Finding | None]
