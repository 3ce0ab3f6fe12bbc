"""Names of labels as a user writes them: ``liver,spleen`` or ``5=liver,1=spleen,*=background``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nnmedseg.errors import UserError

BACKGROUND = "background"
LARGEST_VALUE = 65535
MOST_LABELS = 255
OTHERS = -1
"""Stands for all other values; no mask holds it."""
HOW_TO_WRITE = (
    "write the names of the values 1, 2, ... in their order (--labels liver,spleen) or each value "
    "with its name, and * for all others (--labels '5=liver,1=spleen,*=background')"
)


@dataclass(frozen=True)
class LabelNames:
    """Labels of a data set and the values in its mask files.

    Attributes:
        labels: Number of each label, as nnU-Net wants them: background 0, then without gaps.
        values: Label of each value in the files.
    """

    labels: Mapping[str, int]
    values: Mapping[int, int]


class ValuesWithDefault(Mapping[int, int]):
    """The labels of some values of masks, and one label for all other values.

    Every value can be looked up; iterating gives the named ones and ``OTHERS``.

    Args:
        labels: Label of each named value, and under ``OTHERS`` that of all others.
    """

    def __init__(self, labels: Mapping[int, int]):
        self._labels = dict(labels)

    def __getitem__(self, value: int) -> int:
        """Return the label of any value."""
        return self._labels.get(value, self._labels[OTHERS])

    def __iter__(self) -> Iterator[int]:
        """Iterate over the named values and ``OTHERS``."""
        return iter(self._labels)

    def __len__(self) -> int:
        """Return the number of named values and ``OTHERS``."""
        return len(self._labels)


def split_names(text: str) -> list[str]:
    """Return the parts of a list with commas.

    Raises:
        UserError: A part is empty.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UserError(f"{text!r} has an empty name", where="--labels", mend=HOW_TO_WRITE)
    return parts


def parse_label_names(text: str) -> LabelNames:
    """Read names in the order of the values, or with the values; equal names are one label.

    ``*=NAME`` names all values that are not written, except 0, which is then background.

    Raises:
        UserError: The list cannot be understood, or names a value twice.
    """
    parts = split_names(text)
    pairs = [part.partition("=")[::2] for part in parts]
    if not any("=" in part for part in parts):
        names = [name.strip() for name, _ in pairs]
        if len(set(names)) < len(names) or BACKGROUND in names:
            raise UserError(
                f"{text!r} names a label twice, or the background, which is 0",
                where="--labels",
                mend=HOW_TO_WRITE,
            )
        return number_labels(names, range(1, len(names) + 1))
    keys = [value.strip() for value, _ in pairs]
    values = [OTHERS if key == "*" else _whole_number(key, text) for key in keys]
    names = [name.strip() for _, name in pairs]
    if len(set(values)) < len(values) or not all(names):
        raise UserError(
            f"{text!r} has a value twice or without a name", where="--labels", mend=HOW_TO_WRITE
        )
    return number_labels(names, values)


def number_labels(names: Sequence[str], values: Sequence[int]) -> LabelNames:
    """Number labels from 1 on in the order given; 0 is background unless it is named otherwise.

    Args:
        names: Name of the label of each value; ``background`` and equal names are allowed.
        values: Values in the mask files; ``OTHERS`` for all that are not named.

    Raises:
        UserError: There is no foreground, or more labels than a mask of 8 bits holds.
    """
    labels = {BACKGROUND: 0}
    for name in names:
        labels.setdefault(name, len(labels))
    if not 1 < len(labels) <= MOST_LABELS + 1:
        raise UserError(
            f"there must be 1 to {MOST_LABELS} labels beside the background, not {len(labels) - 1}",
            where="--labels",
            mend=HOW_TO_WRITE,
        )
    numbers = {0: 0} | {value: labels[name] for value, name in zip(values, names, strict=True)}
    return LabelNames(labels, ValuesWithDefault(numbers) if OTHERS in numbers else numbers)


def _whole_number(text: str, whole: str) -> int:
    text = text.strip()
    if text.isdecimal() and int(text) <= LARGEST_VALUE:
        return int(text)
    raise UserError(
        f"{text!r} in {whole!r} is not a value of a mask (0 to {LARGEST_VALUE})",
        where="--labels",
        mend=HOW_TO_WRITE,
    )
