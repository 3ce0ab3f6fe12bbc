"""Patterns of file names: ``*``, ``**``, ``?``, ``{part}``, ``{channel}``; all else is literal.

Names of medical data have brackets, blanks and parentheses, which a shell's patterns give a
meaning to; here they have none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnmedseg.dataset_conversion.base import Part
from nnmedseg.dataset_conversion.finding import FILES_OF_SYSTEMS, FOLDERS_OF_SYSTEMS
from nnmedseg.errors import UserError

PART, CHANNEL = "{part}", "{channel}"
PART_NAMES: Mapping[str, Part] = {
    "train": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}
WILDCARDS = {"**/": "((?:[^/]+/)*)", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}
TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\{part\}|\{channel\}")


@dataclass(frozen=True)
class Match:
    """A file that a pattern matches.

    Attributes:
        path: The file.
        wildcards: What each wildcard stands for.
        part: What ``{part}`` stands for; ``"train"`` where a pattern has none.
        channel: Number of the channel that ``{channel}`` stands for; None where a pattern has none.
    """

    path: Path
    wildcards: tuple[str, ...]
    part: Part
    channel: int | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What an image and its mask have in common: part and wildcards, in any letter case."""
        return (self.part, *(text.casefold() for text in self.wildcards))


class Pattern:
    """A pattern of paths below a folder, in any letter case.

    ``*`` is any text within one name, ``?`` any one character, ``**/`` any number of folders,
    ``{part}`` one of train, val, validation and test, and ``{channel}`` the name of a channel.

    Attributes:
        text: As the user wrote it.
        channels: Names of the channels in their order; none where there is no ``{channel}``.
        wildcards: How many there are, ``{part}`` and ``{channel}`` not counted.
        literals: How many characters stand for themselves.
        has_part: Whether there is ``{part}``.
    """

    def __init__(self, text: str, option: str, channels: Sequence[str] = ()):
        """Take a pattern.

        Args:
            text: As the user wrote it.
            option: Its name on the command line, for messages.
            channels: What ``{channel}`` may stand for.

        Raises:
            UserError: It has no wildcard, two ``{part}`` or ``{channel}``, ``{channel}`` without
                names for it, or begins at the root of the disk.
        """
        self.text = text.replace("\\", "/").removeprefix("./")
        tokens = TOKEN.findall(self.text)
        self.has_part = PART in tokens
        self.channels = tuple(channels) if CHANNEL in tokens else ()
        self.wildcards = len(tokens) - tokens.count(PART) - tokens.count(CHANNEL)
        self.literals = len(TOKEN.sub("", self.text))
        if self.text.startswith("/") or max(tokens.count(PART), tokens.count(CHANNEL)) > 1:
            raise UserError(
                f"the pattern {text!r} cannot be used",
                where=option,
                mend="write it relative to the folder given with -i, with {part} and {channel} at "
                "most once",
            )
        if CHANNEL in tokens and not channels:
            raise UserError(
                f"the pattern {text!r} has {{channel}}, but no names that it stands for",
                where=option,
                mend="name the channels with --channels t1,t2,flair; only --images has {channel}",
            )
        if not self.wildcards:
            raise UserError(
                f"the pattern {text!r} has no wildcard, so it would find one file only",
                where=option,
                mend=f"write * for what differs between cases, in quotes: {option} 'images/*.png'",
            )
        self._expression = re.compile(_translate(self.text, channels), re.IGNORECASE)

    def match(self, path: Path, relative: str) -> Match | None:
        """Match a file by its path relative to the folder, with ``/`` between names."""
        match = self._expression.fullmatch(relative)
        if match is None:
            return None
        groups = match.groupdict()
        part = PART_NAMES[groups["part"].casefold()] if self.has_part else "train"
        named = self._expression.groupindex.values()
        wildcards = (
            text.strip("/") for n, text in enumerate(match.groups(), start=1) if n not in named
        )
        return Match(path, tuple(wildcards), part, self._number_of(groups.get("channel")))

    def _number_of(self, channel: str | None) -> int | None:
        if channel is None:
            return None
        return [name.casefold() for name in self.channels].index(channel.casefold())


def list_files(root: Path) -> list[tuple[Path, str]]:
    """Return all files below a folder with their relative paths, sorted; hidden ones excepted."""
    files = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = [
            name
            for name in subfolders
            if not name.startswith(".") and name.casefold() not in FOLDERS_OF_SYSTEMS
        ]
        for name in names:
            if not name.startswith(".") and name.casefold() not in FILES_OF_SYSTEMS:
                path = Path(folder, name)
                files.append((path, path.relative_to(root).as_posix()))
    return sorted(files)


def match_images_and_masks(
    files: Iterable[tuple[Path, str]], images: Pattern, masks: Pattern
) -> tuple[list[Match], list[Match]]:
    """Return the files that each pattern matches.

    A file that both match (``*.png`` and ``*_mask.png``) belongs to the one with more characters
    of its own.

    Raises:
        UserError: The patterns do not have the same number of wildcards, or cannot be told apart.
    """
    if (images.wildcards, images.has_part) != (masks.wildcards, masks.has_part):
        raise UserError(
            f"the patterns {images.text!r} and {masks.text!r} do not have the same wildcards",
            where="--images, --masks",
            mend="an image and its mask are paired by what the wildcards stand for, so both need "
            "as many, for instance --images 'images/*.jpg' --masks 'masks/*_mask.png'",
        )
    found: tuple[list[Match], list[Match]] = ([], [])
    for path, relative in files:
        both = images.match(path, relative), masks.match(path, relative)
        if all(both) and images.literals == masks.literals:
            raise UserError(
                f"both patterns match {relative}, so it is not known whether it is an image",
                where="--images, --masks",
                mend="make one of them longer, for instance --masks '*_mask.png'",
            )
        wanted = (0, 1) if images.literals > masks.literals else (1, 0)
        for kind in wanted:
            match = both[kind]
            if match is not None:
                found[kind].append(match)
                break
    return found


def examples(files: Sequence[tuple[Path, str]], limit: int = 5) -> str:
    """Return some of the names that are there, for messages."""
    step = max(1, len(files) // limit)
    return ", ".join(relative for _, relative in files[::step][:limit]) or "no files"


def _translate(pattern: str, channels: Sequence[str]) -> str:
    expression, end = "", 0
    for token in TOKEN.finditer(pattern):
        expression += re.escape(pattern[end : token.start()])
        if token.group() == PART:
            expression += f"(?P<part>{'|'.join(PART_NAMES)})"
        elif token.group() == CHANNEL:
            expression += f"(?P<channel>{'|'.join(map(re.escape, channels))})"
        else:
            expression += WILDCARDS[token.group()]
        end = token.end()
    return expression + re.escape(pattern[end:])
