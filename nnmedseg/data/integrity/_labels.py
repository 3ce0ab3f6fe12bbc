"""Which values a label holds, and whether dataset.json names them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nnmedseg.data.integrity._contents import Finding
from nnmedseg.data.integrity._description import Description
from nnmedseg.errors import list_some

MOST_COUNTED = 2**16
"""Range of values up to which they are counted; wider ranges are sorted, which takes longer."""


def present_values(values: np.ndarray) -> np.ndarray:
    """Return the different values of an array, sorted, as ``numpy.unique`` does, but fast."""
    low, high = values.min(), values.max()
    if values.dtype.kind not in "iub" or int(high) - int(low) >= MOST_COUNTED:
        return np.unique(values)
    counts = np.zeros(int(high) - int(low) + 1, np.int64)
    for plane in values if values.ndim == 3 else (values,):  # counting takes eight bytes a value
        counts += np.bincount(plane.ravel().astype(np.int64) - int(low), minlength=len(counts))
    return np.flatnonzero(counts) + int(low)


def whole_numbers(values: np.ndarray) -> np.ndarray | None:
    """Return labels as integers (floating-point where they are huge), ``None`` for fractions."""
    if values.dtype.kind in "iub":
        return values
    # nnU-Net compares labels as 32 bit floats, exactly.
    single = values.astype(np.float32, copy=False)
    if not np.isfinite(single).all() or not np.array_equal(single, np.rint(single)):
        return None
    return single.astype(np.int32) if np.abs(single).max(initial=0) < 2**31 else single


def check_label(values: np.ndarray, description: Description) -> tuple[list[Finding], bool | None]:
    """Check the values of a label.

    Args:
        values: (H, W) or (Z, Y, X), any number type.
        description: What dataset.json says.

    Returns:
        What was found, and whether there is foreground, or ``None`` if that is not known.
    """
    whole = whole_numbers(values)
    if whole is None:
        return list(_findings_of_fractions(values)), None
    present = {int(value) for value in present_values(whole)}
    findings = list(_findings_of_values(present, description.labels))
    has_foreground = bool(present - {0, description.ignore})
    if not has_foreground:
        empty = "background" if present == {0} else "background and the ignore label"
        findings.append(("background-only", f"the label holds {empty} only"))
    return findings, has_foreground


def _findings_of_fractions(values: np.ndarray) -> Iterator[Finding]:
    unusable = values.size - int(np.count_nonzero(np.isfinite(values)))
    if unusable:
        yield "non-finite", f"{unusable:,} values of the label are NaN or infinite"
    finite = values[np.isfinite(values)]
    fractions = np.unique(finite[finite != np.rint(finite)])
    if fractions.size:
        examples = list_some([f"{value:.6g}" for value in fractions[:6]], 5)
        yield (
            "fractional-label",
            f"the label holds values between whole numbers ({examples}), as resampling with "
            "interpolation leaves them: resample labels with nearest neighbours",
        )


def _findings_of_values(present: set[int], labels: frozenset[int] | None) -> Iterator[Finding]:
    unknown = sorted(present - labels) if labels is not None else []
    if labels is None or not unknown:
        return
    named = list_some(sorted(labels), 20)
    if present <= {0, 255}:
        yield (
            "black-white-mask",
            f"this is a 0/255 mask: its foreground is 255, where dataset.json names the labels "
            f"{named}; divide it by 255",
        )
    else:
        yield (
            "label-values",
            f"the label holds {list_some(unknown, 20)}, where dataset.json names {named}",
        )
