"""Help that a data set's file needs to find its cases: folders, images, and pairs by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from nnmedseg.data import IMAGE_ENDINGS
from nnmedseg.dataset_conversion.base import Case, Part
from nnmedseg.errors import DataError, NotFoundError, list_some

FILES_OF_SYSTEMS = {"thumbs.db", "desktop.ini"}
ENDINGS_OF_NOTES = {".txt", ".csv", ".json", ".xls", ".xlsx", ".md", ".pdf", ".html", ".rtf"}
NAMES_OF_NOTES = ("license", "licence", "attribution", "readme", "copying")
FOLDERS_OF_SYSTEMS = {"__macosx"}
LEVELS = 6
"""How far below the download folder the folders of a release are looked for."""
FILE_LEVELS = 6
"""How far below it files are looked for that are known by their own names."""


def safe_id(name: str) -> str:
    """Return ``name`` with everything but ASCII letters, digits and hyphens as one underscore.

    ``benign (1)`` becomes ``benign_1``.
    """
    return re.sub(r"[^A-Za-z0-9-]+", "_", name).strip("_")


def is_ignorable(path: Path) -> bool:
    """Return whether a file is one that systems, archives and releases leave beside images."""
    name = path.name.casefold()
    return (
        name.startswith(".")
        or name in FILES_OF_SYSTEMS
        or path.suffix.casefold() in ENDINGS_OF_NOTES
        or name.startswith(NAMES_OF_NOTES)
    )


def find_folders(root: Path, names: Iterable[str]) -> dict[str, Path]:
    """Find folders by their names, in any letter case, where unpacking may have put them.

    Each is looked for in ``root`` and some levels further down; the nearest counts. When ``root``
    is itself one of them, the others are looked for beside it. Of a doubled folder (``X/X``) the
    inner one is meant.

    Returns:
        The folders that were found, by the names as given.

    Raises:
        DataError: A name was found at more than one place.
    """
    names = list(names)
    found = _folders_below(root, names)
    if root.name.casefold() in {name.casefold() for name in names}:
        found = {**_folders_below(root.parent, names, levels=1), **found}
    return found


def find_images(folder: Path, endings: Sequence[str] = IMAGE_ENDINGS) -> list[Path]:
    """Return the files in ``folder`` that have an ending, in any letter case, sorted."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.casefold().endswith(tuple(endings))
        and path.is_file()
        and not is_ignorable(path)
    )


def find_images_by_name(
    root: Path, name: str, endings: Sequence[str] = IMAGE_ENDINGS
) -> list[Path]:
    """Find image files by their names, in whatever folders they lie.

    Of files of the same name those count that are nearest to ``root``.

    Args:
        root: The download folder.
        name: Regular expression for the whole name without its ending, in any letter case.
        endings: As for ``find_images``.

    Returns:
        The files, sorted.
    """
    found: dict[str, list[Path]] = {}
    for folders in folders_by_level(root, FILE_LEVELS):
        here: dict[str, list[Path]] = {}
        for path in (path for folder in folders for path in find_images(folder, endings)):
            if re.fullmatch(name, path.stem, re.IGNORECASE):
                here.setdefault(path.stem.casefold(), []).append(path)
        found = {**here, **found}
    return sorted(path for paths in found.values() for path in paths)


def pair_by_name(
    images: Iterable[Path],
    masks: Iterable[Path],
    *,
    part: Part,
    image_name: str = r"(?P<id>.+)",
    mask_name: str = r"(?P<id>.+)",
) -> list[Case]:
    """Make cases of images and masks that have the same id in their names.

    Args:
        images: Files with images; those whose name does not match are passed over.
        masks: Likewise with masks.
        part: Official part of all of them.
        image_name: Regular expression for the whole name without its ending, in any letter case,
            with a group ``id``.
        mask_name: Likewise for masks.

    Returns:
        One case for each id, sorted, those included that lack an image or a mask.
    """
    ids: dict[str, str] = {}
    grouped: tuple[dict[str, list[Path]], dict[str, list[Path]]] = ({}, {})
    for files, pattern, group in zip(
        (images, masks), (image_name, mask_name), grouped, strict=True
    ):
        for path in files:
            match = re.fullmatch(pattern, path.stem, re.IGNORECASE)
            if match:
                key = match["id"].casefold()
                ids.setdefault(key, safe_id(match["id"]))
                group.setdefault(key, []).append(path)
    image_files, mask_files = grouped
    return [
        Case(ids[key], tuple(image_files.get(key, ())), tuple(mask_files.get(key, ())), part)
        for key in sorted(ids)
    ]


def cases_in_part_folders(
    root: Path,
    folders: Mapping[Part, tuple[str, str]],
    *,
    image_name: str = r"(?P<id>.+)",
    mask_name: str = r"(?P<id>.+)",
) -> list[Case]:
    """Find the cases of a release with one folder of images and one of masks for each part.

    Args:
        root: The download folder.
        folders: Names of the folders of images and masks, by part. Those of the training part are
            required; of the other parts both, or the masks only, may be missing.
        image_name: As for ``pair_by_name``.
        mask_name: As for ``pair_by_name``.

    Raises:
        NotFoundError: Required folders are not there, or masks are there without their images.
    """
    found = find_folders(root, [name for pair in folders.values() for name in pair])
    missing = [name for name in folders["train"] if name not in found]
    missing += [
        images for images, masks in folders.values() if masks in found and images not in found
    ]
    require_folders(root, list(dict.fromkeys(missing)))
    cases = []
    for part, (images, masks) in folders.items():
        if images in found:
            cases += pair_by_name(
                find_images(found[images]),
                find_images(found[masks]) if masks in found else [],
                part=part,
                image_name=image_name,
                mask_name=mask_name,
            )
    return cases


def require_folders(root: Path, missing: Sequence[str]) -> None:
    """Raise NotFoundError that names the missing folders, unless there are none."""
    if not missing:
        return
    present = sorted(path.name for path in subfolders(root))
    raise NotFoundError(
        f"folders of the release are missing: {', '.join(missing)} "
        f"(there are: {list_some(present) or 'no folders'})",
        where=root,
        mend="unpack all archives of the release into this folder, or give the folder that holds "
        "them with -i",
    )


def folders_by_level(root: Path, levels: int = LEVELS) -> Iterator[list[Path]]:
    """Yield ``root`` in a list, then its subfolders, then theirs, down to ``levels`` below it."""
    level = [root]
    yield level
    for _ in range(levels):
        level = [path for folder in level for path in subfolders(folder)]
        yield level


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` but hidden ones and those that archives of a Mac leave."""
    return [
        path
        for path in folder.iterdir()
        if not path.name.startswith(".")
        and path.name.casefold() not in FOLDERS_OF_SYSTEMS
        and path.is_dir()
    ]


def innermost(folder: Path) -> Path:
    """Return the inner one of a doubled folder (``X/X``), otherwise the folder itself."""
    for inner in subfolders(folder):
        if inner.name.casefold() == folder.name.casefold():
            return inner
    return folder


def _folders_below(root: Path, names: Sequence[str], levels: int = LEVELS) -> dict[str, Path]:
    wanted = {name.casefold(): name for name in names}
    found: dict[str, Path] = {}
    for level in list(folders_by_level(root, levels))[1:]:
        here: dict[str, list[Path]] = {}
        for path in level:
            if path.name.casefold() in wanted:
                here.setdefault(wanted[path.name.casefold()], []).append(path)
        for name, paths in here.items():
            if name not in found:
                found[name] = innermost(_only(name, paths, root))
    return found


def _only(name: str, paths: list[Path], root: Path) -> Path:
    if len(paths) > 1:
        places = ", ".join(str(path.relative_to(root)) for path in sorted(paths))
        raise DataError(
            f"the folder {name} is there more than once: {places}",
            where=root,
            mend="remove or rename all but one, or give the folder that holds the right one",
        )
    return paths[0]
