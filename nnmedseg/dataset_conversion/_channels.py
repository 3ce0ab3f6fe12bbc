"""Names of the channels of a user's own images."""

from __future__ import annotations

from collections.abc import Sequence

from nnmedseg.errors import UserError

CT = "ct"
NOT_STANDARDISED = {CT, "nonorm", "rescale_to_0_1", "rgb_to_0_1"}
"""Names, in any letter case, that nnU-Net derives another normalisation from than z-score."""


def parse_channel_names(text: str | None) -> tuple[str, ...]:
    """Return the names in a list with commas; none if there is no list.

    Raises:
        UserError: A name is empty, or there twice in any letter case.
    """
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if all(names) and len({name.casefold() for name in names}) == len(names):
        return names
    raise UserError(
        f"{text!r} has an empty name, or one twice",
        where="--channels",
        mend="write the names of the channels in their order, for instance --channels t1,t2,flair",
    )


def require_count(names: Sequence[str], count: int, mend: str) -> None:
    """Raise UserError unless there is one name for each of ``count`` channels."""
    if len(names) != count:
        raise UserError(
            f"the images have {count} channel(s), but {len(names)} are named: {', '.join(names)}",
            where="--channels",
            mend=mend,
        )


def notes_on_normalisation(names: Sequence[str]) -> list[str]:
    """Say how nnU-Net will normalise channels of these names."""
    notes = [
        f"The channel {name} will be normalised as CT in Hounsfield units, by the intensities of "
        "the foreground of all training cases."
        for name in names
        if name.casefold() == CT
    ]
    standardised = [name for name in names if name.casefold() not in NOT_STANDARDISED]
    if standardised:
        notes.append(
            "Normalised to mean 0 and deviation 1, each image alone: the channel(s) "
            f"{', '.join(standardised)}."
        )
    return notes
