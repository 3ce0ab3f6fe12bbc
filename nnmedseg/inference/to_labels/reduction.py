"""From logits to labels at the image's own size, slab by slab.

nnU-Net resamples all logits of a volume before it looks for the largest: with many classes that
takes many times the memory of the volume itself. Here a slab of rows is resampled, reduced and
forgotten as soon as the network is done with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnmedseg.inference.prediction import Prediction
from nnmedseg.inference.to_labels._canvas import Canvas
from nnmedseg.inference.to_labels._resampling import (
    AxisTaps,
    Resampling,
    Spacings,
    find_largest,
    interpolate,
    read_resampling,
)
from nnmedseg.inference.to_labels._row_buffer import RowBuffer

BLOCK_NUMBERS = 2**22
"""Resampled logits that are held at a time, as long as one line of them is not more."""
HAVE_KERNELS = find_spec("numba") is not None
"""numba is not there for the newest Python."""
KERNEL_NUMBERS = 2**26
"""Resampled logits from which on compiled kernels save more time than loading them takes."""
MOST_UINT8_LABELS = 255


class Reduction:
    """Takes the logits of an image in slabs, and has its labels when the last has come.

    The labels are those of nnU-Net's
    ``convert_predicted_logits_to_segmentation_with_correct_shape``. Resampled logits are computed
    in float32 here and in float64 there, and rounded as there: single voxels at which two classes
    are equal may differ. A resampling function that is not known here is called on all logits at
    the end.

    Attributes:
        axis: The axis along which slabs come: 1 (rows) of a single slice, else 0 (slices).

    Args:
        properties: What preprocessing notes about the image.
        plans_manager: The plans.
        configuration_manager: The configuration.
        label_manager: Says what the K channels of logits are: classes or regions.
        preprocessed_shape: Size (Z, H, W) that the network saw.
        probabilities: Whether probabilities are wanted.
        uncertainty: Whether the uncertainty is wanted.
    """

    axis: int

    def __init__(
        self,
        properties: dict[str, Any],
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        label_manager: LabelManager,
        *,
        preprocessed_shape: tuple[int, int, int],
        probabilities: bool = False,
        uncertainty: bool = False,
    ):
        self.axis = 1 if preprocessed_shape[0] == 1 else 0
        self._label_manager = label_manager
        self._configuration = configuration_manager
        self._spacings = Spacings.of(properties, plans_manager, configuration_manager)
        self._size = tuple(
            int(side) for side in properties["shape_after_cropping_and_before_resampling"]
        )
        self._length = preprocessed_shape[self.axis]
        planned = read_resampling(
            configuration_manager, self._spacings, preprocessed_shape, self._size
        )
        self._is_known = planned is not None
        if planned is None:
            planned = Resampling(tuple(AxisTaps.linear(side, side) for side in self._size), True)
        taps, self._keeps_type = planned
        shape = preprocessed_shape if self._is_known else self._size
        self._is_identity = all(map(AxisTaps.is_identity, taps, shape))
        self._taps = (taps[self.axis], taps[1 - self.axis], taps[2])
        numbers = label_manager.num_segmentation_heads * math.prod(self._size)
        self._has_kernels = HAVE_KERNELS and numbers >= KERNEL_NUMBERS
        self._takes_largest = _takes_largest(label_manager)
        self._finds_winners = self._has_kernels and self._takes_largest
        self._logits = RowBuffer()
        self._means = RowBuffer()
        self._winners = RowBuffer()
        self._done = 0
        self._make_outputs(properties, plans_manager, probabilities, uncertainty)

    def _make_outputs(
        self,
        properties: dict[str, Any],
        plans: PlansManager,
        probabilities: bool,
        uncertainty: bool,
    ) -> None:
        manager = self._label_manager
        small = len(manager.foreground_labels) < MOST_UINT8_LABELS

        def canvas(kind: type[np.generic], channels: int = 0) -> Canvas:
            return Canvas(properties, plans.transpose_backward, self.axis, kind, channels)

        self._labels = canvas(np.uint8 if small else np.uint16)
        self._probabilities = self._uncertainty = None
        if probabilities:
            self._probabilities = canvas(np.float16, manager.num_segmentation_heads)
            if not manager.has_regions:
                self._probabilities.array[0] = 1

        if uncertainty:
            self._uncertainty = canvas(np.float16)

    def add(self, logits: torch.Tensor, mean_probabilities: torch.Tensor | None = None) -> None:
        """Take the next rows, and reduce what they complete.

        Args:
            logits: ``(K, n, H, W)`` along axis 0, ``(K, 1, n, W)`` along axis 1; float16 or
                float32, on the CPU.
            mean_probabilities: Mean softmax (of regions sigmoid) of folds and mirrored copies, of
                the same shape; for the uncertainty only.

        Raises:
            ValueError: There are more rows than the image has, or the uncertainty is wanted and
                there are no probabilities.
        """
        if self._uncertainty is not None and mean_probabilities is None:
            raise ValueError("the uncertainty needs mean_probabilities")
        self._logits.append(logits.transpose(1, 1 + self.axis))
        if self._uncertainty is not None and mean_probabilities is not None:
            self._means.append(mean_probabilities.transpose(1, 1 + self.axis))
        if self._logits.stop > self._length:
            raise ValueError(f"{self._logits.stop} rows of {self._length} were given")
        if self._is_known:
            self._reduce()
        else:
            self._logits.own()
            self._means.own()

    def finish(self) -> Prediction:
        """Return the labels ``(Z, H, W)``, and what else is wanted, as the image lies on the disk.

        Raises:
            ValueError: Rows are missing.
        """
        if self._logits.stop != self._length:
            raise ValueError(f"{self._logits.stop} rows of {self._length} were given")
        if not self._is_known:
            self._logits = self._resampled_by_nnunet(self._logits)
            if self._uncertainty is not None:
                self._means = self._resampled_by_nnunet(self._means)
            self._reduce()
        return Prediction(
            self._labels.array,
            None if self._probabilities is None else self._probabilities.array,
            None if self._uncertainty is None else self._uncertainty.array,
        )

    def _resampled_by_nnunet(self, collected: RowBuffer) -> RowBuffer:
        """Call the function that the plans name on a whole image."""
        resampled = self._configuration.resampling_fn_probabilities(
            collected.rows.transpose(1, 1 + self.axis),
            self._size,
            self._spacings.preprocessed,
            self._spacings.original,
        )
        buffer = RowBuffer()
        buffer.append(torch.as_tensor(resampled).transpose(1, 1 + self.axis))
        return buffer

    def _reduce(self) -> None:
        """Reduce the rows of the result that can be made now, then forget what made them."""
        taps, stop = self._taps[0], self._logits.stop
        ready = int(np.searchsorted(taps.second, stop))
        if self._finds_winners:
            self._label_by_winners(ready)
        wanted = (self._probabilities, self._uncertainty)
        if not self._finds_winners or any(canvas is not None for canvas in wanted):
            for block in self._blocks(self._done, ready):
                self._reduce_block(block)
        self._done = ready
        self._forget_before(int(taps.first[ready]) if ready < len(taps) else stop)

    def _forget_before(self, row: int) -> None:
        self._logits.keep_from(row)
        if self._uncertainty is not None:
            self._means.keep_from(row)
        if self._finds_winners and not self._is_identity:
            self._winners.keep_from(row)

    def _label_by_winners(self, ready: int) -> None:
        """Label the rows of the result before ``ready`` by the compiled kernels."""
        from nnmedseg.inference.to_labels import _row_kernels  # noqa: PLC0415 - numba is slow to import

        fresh = self._logits.rows[:, max(0, self._winners.stop - self._logits.start) :]
        winners = _row_kernels.find_winners(fresh)
        if self._is_identity:
            self._labels.box[self._done : ready] = winners
            return
        self._winners.append(torch.from_numpy(winners)[None])
        at_once = max(1, BLOCK_NUMBERS // (len(self._taps[1]) * len(self._taps[2])))
        for row in range(self._done, ready, at_once):
            rows = slice(row, min(row + at_once, ready))
            taps = (self._taps[0][rows].shifted(-self._logits.start), *self._taps[1:])
            self._labels.box[rows] = _row_kernels.resize_winners(
                self._logits.rows, self._winners.rows[0].numpy(), taps, rounds=self._rounds
            )

    @property
    def _rounds(self) -> bool:
        """Whether nnU-Net's resampled logits are float16, with more ties than those of float32."""
        return self._keeps_type and self._logits.rows.dtype == torch.float16

    def _blocks(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """Cut rows of the result into blocks (rows, lines) that the memory is enough for."""
        _, lines, columns = map(len, self._taps)
        line_numbers = self._label_manager.num_segmentation_heads * columns
        most = max(1, BLOCK_NUMBERS // line_numbers)
        rows_at_once = max(1, most // lines)
        lines_at_once = min(most, lines)
        for row in range(start, stop, rows_at_once):
            for line in range(0, lines, lines_at_once):
                yield (
                    slice(row, min(row + rows_at_once, stop)),
                    slice(line, min(line + lines_at_once, lines)),
                )

    def _reduce_block(self, block: tuple[slice, slice]) -> None:
        manager = self._label_manager
        logits = self._interpolate(self._logits, block)
        if self._rounds:
            logits = logits.half().float()
        if not self._finds_winners:
            decide = find_largest if self._takes_largest else manager.convert_logits_to_segmentation
            self._labels.box[block] = np.asarray(decide(logits))
        if self._probabilities is not None:
            everywhere = (slice(None), *block)
            self._probabilities.box[everywhere] = manager.apply_inference_nonlin(logits).numpy()
        if self._uncertainty is not None:
            means = self._interpolate(self._means, block)
            self._uncertainty.box[block] = entropy(means.float(), manager.has_regions).numpy()

    def _interpolate(self, buffer: RowBuffer, block: tuple[slice, slice]) -> torch.Tensor:
        rows, lines = block
        row_taps = self._taps[0][rows].shifted(-buffer.start)
        taps = (row_taps, self._taps[1][lines], self._taps[2])
        if self._has_kernels and not self._is_identity:
            from nnmedseg.inference.to_labels import _row_kernels  # noqa: PLC0415 - numba is slow to import

            return _row_kernels.interpolate(buffer.rows, taps)
        return interpolate(buffer.rows, taps)


def _takes_largest(manager: LabelManager) -> bool:
    """Say whether labels are the classes of the largest logits, by nnU-Net's own functions."""
    kind = type(manager)
    return (
        not manager.has_regions
        and kind.convert_logits_to_segmentation is LabelManager.convert_logits_to_segmentation
        and kind.convert_probabilities_to_segmentation
        is LabelManager.convert_probabilities_to_segmentation
    )


def entropy(probabilities: torch.Tensor, are_regions: bool) -> torch.Tensor:
    """Return the entropy of ``(K, ...)`` probabilities, from 0 to 1 for the largest possible."""
    if are_regions:
        both = torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)
        return (both.mean(0) / math.log(2)).clamp_(0, 1)
    return (torch.special.entr(probabilities).sum(0) / math.log(len(probabilities))).clamp_(0, 1)
