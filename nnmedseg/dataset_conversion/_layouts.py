"""Releases that go round in several layouts: all that are there are found, one is taken."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnmedseg.dataset_conversion.base import Case
from nnmedseg.dataset_conversion.finding import (
    find_images,
    folders_by_level,
    innermost,
    pair_by_name,
    require_folders,
    subfolders,
)
from nnmedseg.errors import DataError


@dataclass(frozen=True)
class Layout:
    """One of the ways in which a release lays out its images and masks.

    Names of folders are compared without regard to letter case, blanks, hyphens and underscores.

    Attributes:
        what: The layout in a few words.
        images: Names that the folder of the images may have; none: images and masks lie in one
            folder of any name.
        masks: Likewise of the masks, which lie beside the folder of the images.
        image_name: Regular expression for the whole name of an image without its ending, in any
            letter case, with a group ``id``.
        mask_name: Likewise for masks.
        identifies: Whether such names occur in this data set only.
    """

    what: str
    images: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    image_name: str = r"(?P<id>.+)"
    mask_name: str = r"(?P<id>.+)"
    identifies: bool = False


IMAGES_AND_MASKS = Layout("images and masks", ("images", "image"), ("masks", "mask"))


@dataclass(frozen=True)
class Place:
    """A place in the download where a layout was found.

    Attributes:
        folder: Holds the folders of images and masks, or the files where the layout has no folders.
        images: The folder of the images.
        layout: The layout.
        cases: The cases, all of them for training.
    """

    folder: Path
    images: Path
    layout: Layout
    cases: list[Case]

    @property
    def complete(self) -> int:
        """Number of cases that have both image and mask."""
        return sum(bool(case.images and case.masks) for case in self.cases)


def take_one_place(root: Path, layouts: Sequence[Layout], known_as: str) -> tuple[Place, list[str]]:
    """Find a data set in whatever layout it is there.

    Where it is there several times, the place with most cases is taken, and of equal ones that with
    the first of the layouts.

    Args:
        root: The download folder.
        layouts: The layouts of the data set, the original first.
        known_as: Regular expression for names of folders around it that tell it from others in the
            same layout, in any letter case.

    Returns:
        The place, and a note that names the others, if there are any.

    Raises:
        NotFoundError: No layout is there.
        DataError: Several places are there, and nothing tells which is of this data set.
    """
    places = list(_places(root, layouts))
    found = [place for place in places if place.complete] or places[:1]
    if not found:
        require_folders(root, [" or ".join(layout.what for layout in layouts)])
    own = [place for place in found if place.layout.identifies or _is_named(place, root, known_as)]
    if not own and len(found) > 1:
        raise DataError(
            f"images and masks are at {len(found)} places, none of them named after the data set: "
            f"{', '.join(_describe(place, root) for place in found)}",
            where=root,
            mend="give the folder that holds the right ones with -i",
        )
    # Sorting is stable: of equal places the nearest stays first.
    ranked = sorted(own or found, key=lambda place: (-place.complete, layouts.index(place.layout)))
    taken = ranked[0]
    if len(found) == 1:
        return taken, []
    others = ", ".join(_describe(place, root) for place in found if place is not taken)
    return taken, [
        f"Images and masks are at {len(found)} places: {_describe(taken, root)} is converted, not "
        f"{others}"
    ]


def _places(root: Path, layouts: Sequence[Layout]) -> Iterator[Place]:
    """Yield all places, the nearest first; ``root`` may be a folder of images or masks itself."""
    names = [name for layout in layouts for name in (*layout.images, *layout.masks)]
    folders = [folder for level in folders_by_level(root) for folder in sorted(level)]
    if _named(root, names):
        folders.insert(0, root.parent)
    for folder in folders:
        for layout in layouts:
            place = _place(folder, layout)
            if place is not None and place.cases:
                yield place


def _place(folder: Path, layout: Layout) -> Place | None:
    images, masks = folder, folder
    if layout.images:
        inner = sorted(subfolders(folder))
        of_images = [path for path in inner if _named(path, layout.images)]
        of_masks = [path for path in inner if _named(path, layout.masks)]
        if not (of_images and of_masks):
            return None
        images, masks = innermost(of_images[0]), innermost(of_masks[0])
    cases = pair_by_name(
        find_images(images),
        find_images(masks),
        part="train",
        image_name=layout.image_name,
        mask_name=layout.mask_name,
    )
    return Place(folder, images, layout, cases)


def _named(folder: Path, names: Sequence[str]) -> bool:
    return _key(folder.name) in {_key(name) for name in names}


def _key(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


def _is_named(place: Place, root: Path, known_as: str) -> bool:
    around = place.images.relative_to(root).parts if place.images.is_relative_to(root) else ()
    return any(re.fullmatch(known_as, name, re.IGNORECASE) for name in around)


def _describe(place: Place, root: Path) -> str:
    images = place.images
    name = images.relative_to(root).as_posix() if images.is_relative_to(root) else images.name
    return f"{name} ({len(place.cases)} cases)"
