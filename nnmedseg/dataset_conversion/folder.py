"""A user's own images and masks: files of any names, in 2D or as volumes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from nnmedseg.data import IMAGE_ENDINGS, VOLUME_ENDINGS
from nnmedseg.dataset_conversion._channels import (
    notes_on_normalisation,
    parse_channel_names,
    require_count,
)
from nnmedseg.dataset_conversion._dataset_name import check_dataset_name
from nnmedseg.dataset_conversion._label_names import (
    number_labels,
    parse_label_names,
)
from nnmedseg.dataset_conversion._patterns import (
    Match,
    Pattern,
    examples,
    list_files,
    match_images_and_masks,
)
from nnmedseg.dataset_conversion.base import Case, DatasetConverter, Part
from nnmedseg.dataset_conversion.finding import safe_id
from nnmedseg.dataset_conversion.registry import register
from nnmedseg.errors import DataError, NotFoundError, UserError, list_some

FOREGROUND = "foreground"


@register
class Folder(DatasetConverter):
    """Images and masks that are paired by what the wildcards of two patterns stand for.

    2D images are written as RGB unless the headers of all of them say grey. Without ``--labels``
    the masks are looked at: binary ones give one label, label maps that count from 1 on as many as
    there are; anything else needs names.
    """

    name = "Folder"
    number = None
    title = "Images of the user's own"
    page = "none: -i DIR --images PATTERN --masks PATTERN -d ID -n NAME"
    licence = "not stated"
    citation = "not stated"
    understands: ClassVar[frozenset[str]] = frozenset(
        {"images", "masks", "channels", "labels", "groups", "name", "resize_masks"}
    )

    @property
    def dataset_name(self) -> str:
        """Name that the user chose."""
        return check_dataset_name(self.options.name)

    def find_cases(self, root: Path) -> list[Case]:
        """Find the files that the patterns match, and find out what they are.

        Raises:
            NotFoundError: No file matches, or none of a channel.
            DataError: No mask belongs to an image, or the masks need names for their values.
            UserError: A pattern, the names of channels or labels, or the groups cannot be used.
        """
        self._channels = parse_channel_names(self.options.channels)
        images, masks = self._match(root)
        self._set_content(images, masks)
        self._set_labels([match.path for match in masks])
        cases = _pair(images, masks, self._channels)
        return cases if self.options.groups is None else _with_groups(cases, self.options.groups)

    def _match(self, root: Path) -> tuple[list[Match], list[Match]]:
        patterns: list[Pattern] = []
        for option, text, channels in (
            ("--images", self.options.images, self._channels),
            ("--masks", self.options.masks, ()),
        ):
            if text is None:
                raise UserError(
                    f"{option} is missing: a pattern that finds the {option[2:]}",
                    where=option,
                    mend="for instance --images 'images/*.jpg' --masks 'masks/*_mask.png', "
                    "in quotes and relative to the folder given with -i",
                )
            patterns.append(Pattern(text, option, channels))
        files = list_files(root)
        images, masks = match_images_and_masks(files, *patterns)
        for option, pattern, found in zip(
            ("--images", "--masks"), patterns, (images, masks), strict=True
        ):
            if not found:
                raise NotFoundError(
                    f"{option} {pattern.text!r} matches none of {len(files)} files",
                    where=root,
                    mend=f"files that are there: {examples(files)}; ** stands for any folders",
                )
        if not {match.key for match in images} & {match.key for match in masks}:
            raise DataError(
                "no mask belongs to an image: the wildcards stand for "
                f"{_quoted(images[0])} in {images[0].path.name} and "
                f"{_quoted(masks[0])} in {masks[0].path.name}",
                where=root,
                mend="write what differs between the names of images and masks into the patterns, "
                "for instance --masks 'masks/*_mask.png'",
            )
        _refuse_channels_without_files(patterns[0], images, root)
        return images, masks

    def _set_content(self, images: Sequence[Match], masks: Sequence[Match]) -> None:
        # Listing the converters must not wait for the image libraries.
        from nnmedseg.dataset_conversion import _looking  # noqa: PLC0415

        paths = [match.path for match in images]
        in_files = images[0].channel is not None
        if _kind((*paths, *(match.path for match in masks))) == "volume":
            self.content = "volume"
            self._set_volume_channels(None if in_files else _looking.count_channels(paths))
        elif in_files:
            raise UserError(
                f"{images[0].path.name} is a 2D image, and these have one file a case",
                where="--images",
                mend="leave out {channel}; channels in separate files are for volumes",
            )
        elif _looking.are_grey(paths):
            self.content = "grey"
            self.channel_names = {"0": "grey"}
        if self._channels:
            if self.content != "volume":
                mend = "name as many; several channels of grey are for volumes, 2D images have one"
                require_count(self._channels, len(self.channel_names), mend)
            self.channel_names = {str(n): name for n, name in enumerate(self._channels)}
            self.notes += notes_on_normalisation(self._channels)

    def _set_volume_channels(self, count: int | None) -> None:
        """Check or make the names of channels; ``count`` is None where no file tells it."""
        if self._channels:
            if count is not None:
                mend = "name as many, or write {channel} into --images if each has its own file"
                require_count(self._channels, count, mend)
            return
        names = [f"channel_{n}" for n in range(count or 1)] if count != 1 else ["image"]
        self.channel_names = {str(n): name for n, name in enumerate(names)}
        self.notes.append(
            "Each channel will be normalised to mean 0 and deviation 1. If it is CT in Hounsfield "
            "units, name it so: --channels CT."
        )

    def _set_labels(self, masks: Sequence[Path]) -> None:
        from nnmedseg.dataset_conversion import _looking  # noqa: PLC0415

        text = self.options.labels
        if text is not None and ("," in text or "=" in text):
            names = parse_label_names(text)
            self.labels, self.label_values = names.labels, names.values
            return
        volumes = self.content == "volume"
        kind = (_looking.look_at_volume_masks if volumes else _looking.look_at_masks)(masks)
        count = len(kind.values)
        if count > 1 and text is not None:
            raise DataError(
                f"the masks hold the labels 1 to {count}, but --labels names only {text!r}",
                where="--labels",
                mend=f"name all {count}, with commas and in their order",
            )
        if count > 1:
            names = number_labels([f"label_{n}" for n in kind.values], kind.values)
            self.notes.append(kind.note)
        else:
            names = number_labels([(text or FOREGROUND).strip()], kind.values or (1,))
        self.labels = names.labels
        if volumes or count > 1:
            self.label_values = names.values


def _with_groups(cases: list[Case], text: str) -> list[Case]:
    """Give each case the group that a regular expression finds in its id."""
    try:
        expression = re.compile(text)
    except re.error as error:
        raise UserError(
            f"{text!r} is not a regular expression: {error}",
            where="--groups",
            mend=r"for instance --groups '(\d+)' for the first number in a case's name",
        ) from error
    grouped, without = [], []
    for case in cases:
        match = expression.search(case.id)
        if match is None:
            without.append(case.id)
        else:
            grouped.append(replace(case, group=match.group(min(1, expression.groups))))
    if without:
        raise UserError(
            f"{text!r} finds no group in the names of {len(without)} case(s): "
            f"{list_some(without, 5)}",
            where="--groups",
            mend="change the expression so that it matches every case's name",
        )
    return grouped


def _refuse_channels_without_files(pattern: Pattern, images: Sequence[Match], root: Path) -> None:
    """Raise NotFoundError unless each channel that a pattern may stand for has some file."""
    present = {match.channel for match in images}
    absent = [name for n, name in enumerate(pattern.channels) if n not in present]
    if absent:
        raise NotFoundError(
            f"--images {pattern.text!r} matches no file of the channel {', '.join(absent)}",
            where=root,
            mend="write the names of --channels as they are in the names of the files",
        )


def _pair(images: Sequence[Match], masks: Sequence[Match], channels: Sequence[str]) -> list[Case]:
    """Make cases of the images and masks that have the same key, with channels in their order."""
    found: dict[tuple[str, ...], tuple[list[Match], list[Match]]] = {}
    named: dict[tuple[str, ...], Match] = {}
    by_channel = sorted(images, key=lambda match: match.channel or 0)
    for kind, matches in enumerate((by_channel, masks)):
        for match in matches:
            found.setdefault(match.key, ([], []))[kind].append(match)
            named.setdefault(match.key, match)
    ids = {key: safe_id("_".join(filter(None, match.wildcards))) for key, match in named.items()}
    parts: dict[str, set[Part]] = {}
    for key, match in named.items():
        parts.setdefault(ids[key].casefold(), set()).add(match.part)
    return [
        Case(
            ids[key] if len(parts[ids[key].casefold()]) == 1 else f"{match.part}_{ids[key]}",
            tuple(image.path for image in found[key][0]),
            tuple(mask.path for mask in found[key][1]),
            match.part,
            missing_channels=_missing_channels(found[key][0], channels),
        )
        for key, match in named.items()
    ]


def _missing_channels(images: Sequence[Match], channels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of channels without a file, where each channel of a case should have one."""
    present = {match.channel for match in images}
    if not present or None in present:
        return ()
    return tuple(name for n, name in enumerate(channels) if n not in present)


def _kind(paths: Sequence[Path]) -> str:
    """Return whether all files are images or all are volumes.

    Raises:
        DataError: They are neither, or some of each.
    """
    of_kind: dict[str, list[Path]] = {}
    for path in paths:
        name = path.name.casefold()
        kind = "volume" if name.endswith(VOLUME_ENDINGS) else "other"
        of_kind.setdefault("image" if name.endswith(IMAGE_ENDINGS) else kind, []).append(path)
    if len(of_kind) == 1 and "other" not in of_kind:
        return next(iter(of_kind))
    shown = "; ".join(f"{kind}: {found[0].name}" for kind, found in of_kind.items())
    raise DataError(
        f"images and masks must all be images or all be volumes; there are {shown}",
        where="--images, --masks",
        mend=f"images end in {', '.join(IMAGE_ENDINGS)}, volumes in {', '.join(VOLUME_ENDINGS)}; "
        "make the patterns narrower, or convert the files",
    )


def _quoted(match: Match) -> str:
    return " and ".join(repr(text) for text in match.wildcards)
