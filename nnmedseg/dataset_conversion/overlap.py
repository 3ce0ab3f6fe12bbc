"""Images that several data sets share, or the training and test part of one.

ISIC 2016, 2017 and 2018 are drawn from one archive, CVC-300 lies in CVC-ColonDB, and most polyp
benchmarks mix the same sources, so a model that is trained on one and tested on another has often
seen the answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Literal

from nnmedseg.cores import cpu_count
from nnmedseg.data.duplicates import Duplicates, Entry, find_duplicates
from nnmedseg.dataset_conversion._overlap_cases import CaseImage, Part, images_of, signatures_of
from nnmedseg.errors import UserError
from nnmedseg.paths import Folders

Side = tuple[str, Part]
"""Name of a data set and one of its parts: what is compared with what."""
PARTS: tuple[Part, Part] = ("train", "test")


@dataclass(frozen=True)
class SharedImage:
    """Two cases that show the same image.

    Attributes:
        first: Case of the data set that was named first, or of the training part.
        second: Case of the other.
        kind: ``"exact"``: the pixels are equal; ``"near"``: the same picture re-encoded, resized,
            mirrored or rotated by right angles, brighter or darker.
    """

    first: CaseImage
    second: CaseImage
    kind: Literal["exact", "near"]

    def is_leak(self) -> bool:
        """Return whether one is a training image and the other a test image."""
        return self.first.part != self.second.part


@dataclass(frozen=True)
class OverlapReport:
    """What was compared and what is shared.

    Attributes:
        cases: Number of cases of each part of each data set.
        shared: The pairs, those of a training and a test image first. Every case that another side
            has too is in at least one pair with that side; where copies lie within a side, not all
            combinations are listed.
    """

    cases: dict[Side, int]
    shared: tuple[SharedImage, ...]

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets, in the order in which they were given."""
        return tuple(dict.fromkeys(dataset for dataset, _ in self.cases))

    def count(self, sides: Iterable[Side], others: Iterable[Side]) -> int:
        """Return how many cases of some parts are in other parts too."""
        sides, others = set(sides), set(others)
        found = set()
        for pair in self.shared:
            for mine, theirs in ((pair.first, pair.second), (pair.second, pair.first)):
                if _side(mine) in sides and _side(theirs) in others:
                    found.add(mine)
        return len(found)

    def meaning(self) -> list[str]:
        """Return what is shared and which trainings and tests it spoils, one sentence each."""
        if len(self.datasets) == 1:
            return list(self._meaning_within(self.datasets[0]))
        pairs = combinations(self.datasets, 2)
        return [line for first, second in pairs for line in self._meaning_between(first, second)]

    def to_dict(self) -> dict[str, Any]:
        """Return everything for a JSON file."""
        return {
            "datasets": {
                name: {part: self.cases[name, part] for part in PARTS} for name in self.datasets
            },
            "shared_cases": [
                {"dataset": side[0], "part": side[1], "also_in": list(other), "cases": count}
                for side, other in product(self.cases, repeat=2)
                if (count := self.count([side], [other]))
            ],
            "meaning": self.meaning(),
            "pairs": [
                {"kind": pair.kind, "images": [_describe(pair.first), _describe(pair.second)]}
                for pair in self.shared
            ],
        }

    def _meaning_within(self, name: str) -> Iterator[str]:
        train: Side = (name, "train")
        test: Side = (name, "test")
        spoiled = self.count([test], [train])
        if not spoiled:
            yield f"{name}: no image is in both the training and the test part."
            return
        leaking = {pair.first for pair in self.shared}
        yield (
            f"{name}: {spoiled} of {self.cases[test]} test images are training images too "
            f"({len(leaking)} of {self.cases[train]})."
        )
        if any(image.in_folds for image in leaking):
            yield (
                "A model trained on them has seen these test images: leave them out of one part "
                "(nnmedseg_convert leaves them out of the folds)."
            )
        else:
            yield "The folds of splits_final.json leave these training images out: nothing leaks."

    def _meaning_between(self, first: str, second: str) -> Iterator[str]:
        parts = {name: [(name, part) for part in PARTS] for name in (first, second)}
        counts = [self.count(parts[first], parts[second]), self.count(parts[second], parts[first])]
        if not any(counts):
            yield f"{first} and {second} share no image."
            return
        totals = [sum(self.cases[side] for side in parts[name]) for name in (first, second)]
        yield (
            f"{first} and {second} share images: {counts[0]} of {totals[0]} cases of {first}, "
            f"{counts[1]} of {totals[1]} of {second}."
        )
        for trained, tested in ((first, second), (second, first)):
            leaks = self.count([(tested, "test")], [(trained, "train")])
            if leaks:
                yield (
                    f"Training on {trained} leaks into the test part of {tested}: {leaks} of its "
                    f"{self.cases[tested, 'test']} test images are training images there."
                )
        if both := self.count([(first, "train")], [(second, "train")]):
            yield (
                f"{both} training images of {first} are training images of {second} too: neither "
                "can validate a model trained on the other, and joined they must stay in one fold."
            )
        if both := self.count([(first, "test")], [(second, "test")]):
            yield (
                f"{both} test images of {first} are test images of {second} too: results on the "
                "two are not independent."
            )


def check_overlap(
    datasets: Sequence[int | str], *, folders: Folders, num_workers: int | None = None
) -> OverlapReport:
    """Find the images that raw data sets share, or the two parts of a single one.

    The data sets may be plain ones of nnU-Net's. Signatures are taken from ``conversion.json``
    where it has them. Of images with several channels the first one is compared.

    Args:
        datasets: Numbers or names; of several, each is compared with each other one, of one its
            training part is compared with its test part.
        folders: Where data are kept.
        num_workers: Images that are read at once (default: one a core).

    Raises:
        NotFoundError: There is no such data set.
        DataError: Images cannot be read, or a ``dataset.json`` cannot be understood.
        UserError: A data set was named twice, or there is nothing to compare.
    """
    names = [folders.dataset_name(dataset) for dataset in datasets]
    if len(set(names)) < len(names) or not names:
        raise UserError(
            "a data set was named twice" if names else "no data set was named",
            where="-d",
            mend="name one data set to compare its parts, or several different ones",
        )
    images = [image for name in names for image in images_of(folders.raw / name)]
    sides = Counter(_side(image) for image in images)
    if len(names) == 1 and len(sides) == 1:
        raise UserError(
            f"{names[0]} has one part only, so there is nothing to compare it with",
            where=folders.raw / names[0],
            mend="name several data sets to compare them with each other",
        )
    workers = num_workers or cpu_count()
    signatures = signatures_of(images, workers)
    named = {str(number): image for number, image in enumerate(images)}
    pairs = find_duplicates(
        [Entry(name, signatures[image], image.read) for name, image in named.items()],
        num_workers=workers,
    )
    compared = _other_part if len(names) == 1 else _other_dataset
    order = {image: number for number, image in enumerate(images)}
    shared = sorted(
        {_in_order(pair, order) for pair in _shared(pairs, named, compared)},
        key=lambda pair: (not pair.is_leak(), order[pair.first], order[pair.second]),
    )
    return OverlapReport(
        {(name, part): sides[name, part] for name in names for part in PARTS}, tuple(shared)
    )


def _shared(
    pairs: Iterable[Duplicates],
    images: Mapping[str, CaseImage],
    compared: Callable[[Side, Side], bool],
) -> Iterator[SharedImage]:
    """Yield the pairs between sides that are compared.

    Of exact copies only the first one is in the pairs that were found; here it stands for all.
    """
    pairs = list(pairs)
    copies = {name: [image] for name, image in images.items()}
    for pair in pairs:
        if pair.kind == "exact":
            copies[pair.first].append(images[pair.second])
    for name in dict.fromkeys(pair.first for pair in pairs if pair.kind == "exact"):
        sides = _by_side(copies[name])
        for side, other in combinations(sides, 2):
            if compared(side, other):
                yield from _matched(sides[side], sides[other], "exact")
    for pair in pairs:
        if pair.kind == "near":
            sides, others = _by_side(copies[pair.first]), _by_side(copies[pair.second])
            for side, other in product(sides, others):
                if compared(side, other):
                    yield from _matched(sides[side], others[other], "near")


def _matched(
    images: Sequence[CaseImage], others: Sequence[CaseImage], kind: Literal["exact", "near"]
) -> Iterator[SharedImage]:
    """Pair two lists so that each image is named, without all combinations."""
    for number in range(max(len(images), len(others))):
        first = images[min(number, len(images) - 1)]
        second = others[min(number, len(others) - 1)]
        yield SharedImage(first, second, kind)


def _by_side(images: Iterable[CaseImage]) -> dict[Side, list[CaseImage]]:
    sides: dict[Side, list[CaseImage]] = {}
    for image in images:
        sides.setdefault(_side(image), []).append(image)
    return sides


def _in_order(pair: SharedImage, order: Mapping[CaseImage, int]) -> SharedImage:
    if order[pair.first] < order[pair.second]:
        return pair
    return SharedImage(pair.second, pair.first, pair.kind)


def _side(image: CaseImage) -> Side:
    return image.dataset, image.part


def _other_dataset(side: Side, other: Side) -> bool:
    return side[0] != other[0]


def _other_part(side: Side, other: Side) -> bool:
    return side[1] != other[1]


def _describe(image: CaseImage) -> dict[str, str | None]:
    return {
        "dataset": image.dataset,
        "part": image.part,
        "case": image.case,
        "file": image.file,
        "source": image.source,
    }
