"""What is known of a data set when it is planned, from its fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from nnmedseg.errors import DataError

FACTS_KEY = "nnmedseg"
"""Where a fingerprint holds what nnU-Net's does not."""

Size = tuple[int, int]
"""Height and width in pixels; of volumes the last two axes."""


@dataclass(frozen=True)
class DatasetFacts:
    """Measurements of the training images and their masks; one entry a case where there are many.

    Attributes:
        without_spacing: How many images are photographs, whose pixels have no size in millimetres.
        eight_bit: All are photographs of whole numbers from 0 to 255, in every channel.
        channels: Channels of an image.
        image_sizes: As they are.
        cropped_sizes: After nnU-Net has cut away borders that are zero in every channel.
        foreground_shares: Labelled pixels of all pixels.
        spans: Of photographs, by the label's name: how wide the connected regions of each case are,
            in its own pixels, as :func:`nnmedseg.data.components.region_spans` measures it.
        colour_mean: Of each channel over all photographs, each of the same weight.
        colour_std: Standard deviation likewise.
    """

    without_spacing: int
    eight_bit: bool
    channels: int
    image_sizes: tuple[Size, ...]
    cropped_sizes: tuple[Size, ...]
    foreground_shares: tuple[float, ...]
    spans: Mapping[str, tuple[tuple[float, ...], ...]]
    colour_mean: tuple[float, ...] = ()
    colour_std: tuple[float, ...] = ()

    @classmethod
    def from_fingerprint(cls, fingerprint: Mapping[str, Any]) -> DatasetFacts:
        """Take the facts from the content of ``dataset_fingerprint.json``.

        Raises:
            DataError: nnU-Net has written it, and it lacks them.
        """
        if "image_sizes" not in fingerprint.get(FACTS_KEY, {}):
            raise DataError(
                "the fingerprint lacks what is needed to choose a resolution",
                where="dataset_fingerprint.json",
                mend="delete it and run nnmedseg_plan_and_preprocess",
            )
        facts = fingerprint[FACTS_KEY]
        return cls(
            without_spacing=facts["without_spacing"],
            eight_bit=facts["eight_bit"],
            channels=len(fingerprint["foreground_intensity_properties_per_channel"]),
            image_sizes=_sizes(facts["image_sizes"]),
            cropped_sizes=_sizes(fingerprint["shapes_after_crop"]),
            foreground_shares=tuple(facts["foreground_shares"]),
            spans={
                label: tuple(tuple(spans) for spans in cases)
                for label, cases in facts["spans"].items()
            },
            colour_mean=tuple(facts["colour"]["mean"]),
            colour_std=tuple(facts["colour"]["std"]),
        )

    @property
    def cases(self) -> int:
        """The number of training cases."""
        return len(self.cropped_sizes)

    @property
    def natural(self) -> bool:
        """Whether all images are photographs without a physical spacing."""
        return self.without_spacing == self.cases

    @property
    def foreground_share(self) -> float | None:
        """Of the median image that has foreground, or ``None`` if none has."""
        present = [share for share in self.foreground_shares if share > 0]
        return median(present) if present else None

    @property
    def shorter_sides(self) -> tuple[int, ...]:
        """Of each image after cropping, in pixels."""
        return tuple(min(size) for size in self.cropped_sizes)

    def span_percentile(self, percentile: float, shorter_side: float | None = None) -> float | None:
        """Return the span in pixels that a percentage of the foreground regions falls below.

        Each case weighs the same, however many regions it has. Of several labels the one with the
        smallest value counts.

        Args:
            percentile: From 0 to 100.
            shorter_side: In pixels, to which the images are brought; ``None`` as they are.

        Returns:
            ``None`` if no region has been measured.
        """
        found = [
            self._percentile_of(cases, percentile, shorter_side)
            for cases in self.spans.values()
            if any(cases)
        ]
        return min(found, default=None)

    def _percentile_of(
        self, cases: tuple[tuple[float, ...], ...], percentile: float, shorter_side: float | None
    ) -> float:
        spans: list[float] = []
        weights: list[float] = []
        for side, case in zip(self.shorter_sides, cases, strict=True):
            factor = 1 if shorter_side is None else shorter_side / side
            spans += [span * factor for span in case]
            weights += [1 / len(case) for _ in case]
        order = np.argsort(spans)
        cumulative = np.cumsum(np.array(weights)[order])
        rounding = 1e-9 * cumulative[-1]
        index = np.searchsorted(cumulative, cumulative[-1] * percentile / 100 - rounding)
        return float(np.array(spans)[order[index]])


def _sizes(shapes: list[list[int]]) -> tuple[Size, ...]:
    return tuple((shape[-2], shape[-1]) for shape in shapes)
