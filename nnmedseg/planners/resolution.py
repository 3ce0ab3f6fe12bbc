"""At which resolution to work on photographs.

nnU-Net plans photographs at their own resolution. Dermoscopic images have up to 6748 x 4499 pixels
with one lesion that fills the frame, so its patches see a corner of the lesion. The rule:

1.  Volumes, and images whose pixels have a size in millimetres, follow nnU-Net's own rules. So does
    a data set in which only some images have one.
2.  Photographs are brought to a working size of 512 pixels along the shorter side, each by a factor
    of its own and with its aspect ratio kept, because the distance of the camera and not the number
    of pixels decides how large things are: images of 600 and of 6000 pixels show the same view.
3.  The working size is at most the shorter side of the median image, so that on the whole nothing
    is enlarged; only images that are smaller than the others are.
4.  The smallest foreground that occurs keeps a span of 8 pixels, which three poolings reduce to
    one. A region's span is 4 x area / perimeter (the side of a square, twice the width of a thin
    line); the smallest that occurs is the 10th percentile over all regions, each image weighing
    the same, in the label where it is smallest. Where it would span less, the working size grows
    to what is needed, in steps of 32 pixels.
5.  Images are used as they are where that needs the median image's own resolution or more, and
    where their sizes hardly differ (the 5th and 95th percentiles of the shorter sides by a factor
    of 1.5 at most) and the working size is no less than 0.8 of the median shorter side: so little
    is not worth a resampling. Nothing but nnU-Net is then needed to use the plan.
6.  A working size that the user asks for is taken, even if it enlarges or loses foreground, which
    is said.

All sizes are those after nnU-Net has cut away black borders. Predictions come back at each image's
own size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from nnmedseg.data.resizing import working_shape
from nnmedseg.planners.facts import DatasetFacts, Size

DEFAULT_WORKING_SIZE = 512
"""Twice the 256 pixels at which most papers report, so that outlines lose less, and little enough
that one patch can hold the whole view."""
SMALLEST_SPAN = 8
SMALL_PERCENTILE = 10
STEP = 32
SIMILAR_SIZES = 1.5
SMALLEST_REDUCTION = 0.8


@dataclass(frozen=True)
class WorkingResolution:
    """To which size photographs are brought, and why.

    Attributes:
        shorter_side: In pixels; ``None`` if the images are used as they are.
        reason: The choice in a sentence, written into the plans.
        median_shape: Median height and width of the images at this resolution, in pixels.
        inputs: What the choice was made from, written into the plans.
    """

    shorter_side: int | None
    reason: str
    median_shape: tuple[float, float]
    inputs: dict[str, Any] = field(default_factory=dict)

    def resized(self, shape: Size) -> Size:
        """Return the height and width to which an image of ``shape`` is brought."""
        return shape if self.shorter_side is None else working_shape(shape, self.shorter_side)


def choose_working_resolution(
    facts: DatasetFacts, working_size: int | None = None
) -> WorkingResolution:
    """Choose the working size by the rule of this module.

    Args:
        facts: Of the training cases.
        working_size: The shorter side in pixels that the user asks for, or ``None`` for the rule.
    """
    if facts.natural:
        shorter_side, decision = _decide(facts, working_size)
        reason = f"{_images(facts)}: {decision}{_what_is_kept(facts, shorter_side)}"
    else:
        shorter_side, reason = None, _why_nnunets_rules(facts, working_size)
    return WorkingResolution(
        shorter_side,
        reason,
        _median_shape(facts, shorter_side),
        _inputs(facts, shorter_side, working_size),
    )


def _decide(facts: DatasetFacts, asked_for: int | None) -> tuple[int | None, str]:
    """Return the shorter side and what is done, as a clause."""
    if asked_for is not None:
        return asked_for, f"{_to_size(facts, asked_for)}, as asked for"
    own = median(facts.shorter_sides)
    size, why = min(DEFAULT_WORKING_SIZE, round(own)), ""
    span = facts.span_percentile(SMALL_PERCENTILE, size)
    if span is not None and span < SMALLEST_SPAN:
        why = f"at {size} pixels their finest foreground would span {_pixels(span)} only, so that "
        size = math.ceil(size * SMALLEST_SPAN / span / STEP) * STEP
        if size >= own:
            return None, f"{why}they are used at their own resolution"
    if size >= SMALLEST_REDUCTION * own and _of_similar_size(facts):
        return None, f"{why}they are used as they are"
    return size, f"{why}{_to_size(facts, size)}"


def _of_similar_size(facts: DatasetFacts) -> bool:
    low, high = np.percentile(facts.shorter_sides, (5, 95))
    return bool(high <= SIMILAR_SIZES * low)


def _median_shape(facts: DatasetFacts, shorter_side: int | None) -> tuple[float, float]:
    """Return medians of height and width, each for itself as nnU-Net takes them."""
    heights, widths = zip(*_sizes(facts, shorter_side), strict=True)
    return median(heights), median(widths)


def _sizes(facts: DatasetFacts, shorter_side: int | None) -> tuple[Size, ...]:
    if shorter_side is None:
        return facts.cropped_sizes
    return tuple(working_shape(size, shorter_side) for size in facts.cropped_sizes)


def _inputs(facts: DatasetFacts, shorter_side: int | None, asked_for: int | None) -> dict[str, Any]:
    return {
        "asked_for": asked_for,
        "median_size": list(_typical_size(facts, None)),
        "shorter_sides": {
            "smallest": min(facts.shorter_sides),
            "median": median(facts.shorter_sides),
            "largest": max(facts.shorter_sides),
        },
        "foreground_share": facts.foreground_share,
        "smallest_span": {
            "percentile": SMALL_PERCENTILE,
            "wanted": SMALLEST_SPAN,
            "before": facts.span_percentile(SMALL_PERCENTILE),
            "after": facts.span_percentile(SMALL_PERCENTILE, shorter_side),
        },
    }


def _why_nnunets_rules(facts: DatasetFacts, asked_for: int | None) -> str:
    ignored = "" if asked_for is None else "; a working size can be asked for photographs only"
    if facts.without_spacing:
        return (
            f"{facts.without_spacing} of {facts.cases} images have no spacing in millimetres and "
            f"the others have one: nnU-Net's own rules are followed{ignored}"
        )
    return f"the images have a spacing in millimetres: nnU-Net's own rules are followed{ignored}"


def _images(facts: DatasetFacts) -> str:
    text = f"images are {_text(_typical_size(facts, None))} in the median"
    shortest, longest = min(facts.shorter_sides), max(facts.shorter_sides)
    if shortest < longest:
        text += f" (shorter sides {shortest} to {longest})"
    if facts.foreground_share is None:
        return text
    return f"{text} and their foreground covers {_percent(facts.foreground_share)} of the frame"


def _to_size(facts: DatasetFacts, shorter_side: int) -> str:
    size = _text(_typical_size(facts, shorter_side))
    return f"they are brought to a shorter side of {shorter_side} pixels ({size})"


def _typical_size(facts: DatasetFacts, shorter_side: int | None) -> tuple[float, float]:
    """Return medians of the shorter and of the longer sides, as most images are turned.

    Medians of height and width would be those of no image where some stand and others lie.
    """
    sizes = _sizes(facts, shorter_side)
    shorter = median(min(size) for size in sizes)
    longer = median(max(size) for size in sizes)
    standing = sum(height > width for height, width in sizes)
    lying = sum(height < width for height, width in sizes)
    return (longer, shorter) if standing > lying else (shorter, longer)


def _what_is_kept(facts: DatasetFacts, shorter_side: int | None) -> str:
    span = facts.span_percentile(SMALL_PERCENTILE, shorter_side)
    if span is None:
        return "; no mask has foreground, so that it is not known what must not be lost"
    where = "where" if shorter_side is None else "at which"
    kept = f", {where} all but the smallest tenth of the foreground spans at least {_pixels(span)}"
    return kept if span >= SMALLEST_SPAN else f"{kept}, fewer than the {SMALLEST_SPAN} wanted"


def _pixels(span: float) -> str:
    """Round down, so that what falls short of a limit is seen to."""
    rounded = math.floor(span) if span >= 10 else math.floor(span * 10) / 10
    return "1 pixel" if rounded == 1 else f"{rounded:g} pixels"


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share >= 0.1 else f"{share * 100:.2g} %"


def _text(size: tuple[float, float]) -> str:
    return f"{size[0]:.0f}x{size[1]:.0f}"
