"""Arrays at an image's own size that are filled in the order of axes that a model works in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


class Canvas:
    """Zeros at the size of an image, and the box of it that the network saw.

    Attributes:
        array: ``(Z, H, W)`` or ``(K, Z, H, W)``, axes as on the disk.
        box: A view of what preprocessing did not crop away, axes as the model has them but for the
            one along which slabs come, which is before the other two.

    Args:
        properties: What preprocessing notes about the image.
        transpose_backward: From the model's order of axes to the disk's.
        axis: Along which slabs come, 0 or 1.
        kind: Type of the numbers.
        channels: K, or 0 for an array without channels.
    """

    def __init__(
        self,
        properties: dict[str, Any],
        transpose_backward: Sequence[int],
        axis: int,
        kind: type[np.generic],
        channels: int = 0,
    ):
        leading = (channels,) if channels else ()
        whole = [int(side) for side in properties["shape_before_cropping"]]
        shape = (*leading, *(whole[source] for source in transpose_backward))
        self.array: npt.NDArray[Any] = np.zeros(shape, kind)
        order = np.argsort(transpose_backward) + len(leading)
        bounds = properties["bbox_used_for_cropping"]
        box = (..., *(slice(int(start), int(stop)) for start, stop in bounds))
        seen = self.array.transpose([*range(len(leading)), *order])[box]
        self.box = seen.swapaxes(len(leading), len(leading) + axis)
