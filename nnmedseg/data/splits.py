"""Splits of the training cases: balanced folds that keep together what belongs together.

A data set's ``splits_final.json`` is a list of splits, one a fold. nnU-Net draws its own when there
is none, at random over the cases; the folds drawn here take the place of those, and nnU-Net reads
them as if they were its own.
"""

from __future__ import annotations

import hashlib
import json
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from nnmedseg.errors import DataError
from nnmedseg.files import read_json

FOLDS = 5
SEED = 12345
SPLITS_FILE = "splits_final.json"
FOREGROUND_CLASSES = 5
"""Classes of foreground share, equally many cases in each, of which every fold gets its part."""

Split = dict[str, list[str]]
"""Case ids under ``train`` and ``val``."""

Node = TypeVar("Node", bound=Hashable)


def cross_validation(
    ids: Sequence[str],
    groups: Mapping[str, str] | None = None,
    sizes: Mapping[str, float] | None = None,
    together: Sequence[Sequence[str]] = (),
) -> list[Split]:
    """Divide cases into five balanced folds without tearing apart what belongs together.

    Folds have about the same number of cases and about the same distribution of foreground share.
    Cases are dealt out in the order of their share, five neighbours at a time, of which each fold
    gets one; the generator, which has a fixed seed, decides which. Groups come before single cases,
    the largest first, each to the fold that has the fewest cases, and the fewest of a like share.
    Without groups the folds differ by at most one case.

    This takes the place of nnU-Net's own folds (scikit-learn's ``KFold`` over single cases). The
    result depends on nothing but the arguments, and not on their order. With fewer than five groups
    (or cases) each is left out once, which gives as many folds as there are groups.

    Args:
        ids: Case ids.
        groups: Group of each id that has one, for instance its patient; the others are groups of
            their own.
        sizes: Foreground share of the cases, 0 to 1; those without one count as 0.
        together: Lists of ids that must not be divided either, for instance duplicates. They unite
            the groups that they touch, also by way of ids that are not among ``ids``.

    Raises:
        DataError: There are fewer than two groups, so nothing can be left out.
    """
    units = _units(sorted(set(ids)), groups or {}, together)
    if len(units) < 2:
        raise DataError(
            f"{len(ids)} training case(s) in {len(units)} group(s) cannot be split for "
            "cross-validation",
            mend="add training cases: five folds need at least 5, two are the least",
        )
    folds = _deal_out(units, sizes or {}, min(FOLDS, len(units)))
    return [
        {
            "train": sorted(case for other in folds if other is not fold for case in other),
            "val": sorted(fold),
        }
        for fold in folds
    ]


def with_official_split(
    folds: list[Split],
    train: Sequence[str],
    validation: Sequence[str],
    together: Sequence[Sequence[str]] = (),
) -> list[Split]:
    """Append the release's own training and validation parts as fold 5.

    Args:
        folds: The five folds before it.
        train: Ids of the training part. Those that ``together`` joins with an id of the validation
            part are left out of this fold.
        validation: Ids of the validation part.
        together: As for ``cross_validation``.

    Raises:
        ValueError: There are not five folds before it, so that it would get another number.
        DataError: Every training case has a duplicate in the validation part.
    """
    if len(folds) != FOLDS:
        raise ValueError(f"the official split is fold {FOLDS}, but there are {len(folds)} folds")
    apart = set(train) - joined_with(validation, together)
    if not apart:
        raise DataError(
            "every training image is also in the official validation part",
            mend="download the release again: its parts may have been mixed up",
        )
    return [*folds, {"train": sorted(apart), "val": sorted(validation)}]


def joined_with(ids: Iterable[str], together: Sequence[Sequence[str]]) -> set[str]:
    """Return ``ids`` and all that the lists in ``together`` join with them, step by step."""
    wanted = set(ids)
    components = _components(together)
    touched = {components[name] for name in wanted & components.keys()}
    return wanted | {name for name, component in components.items() if component in touched}


def split_hash(splits: Sequence[Split]) -> str:
    """Return the SHA-256 of a list of splits, to tell whether two results used the same."""
    text = json.dumps(splits, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def hash_of_split_in(folder: str | Path) -> str | None:
    """Return the ``split_hash`` of a folder's ``splits_final.json``, or None if it has none."""
    file = Path(folder) / SPLITS_FILE
    return split_hash(read_json(file)) if file.is_file() else None


def _units(
    ids: Sequence[str], groups: Mapping[str, str], together: Sequence[Sequence[str]]
) -> list[list[str]]:
    """Return the lists of ids that must not be divided, in the order of their first ids."""
    # A group and a case may have the same name.
    bonds = [[("case", name) for name in names] for names in together]
    bonds += [[("case", case), ("group", groups[case])] for case in ids if case in groups]
    components = _components([[("case", case)] for case in ids] + bonds)
    members: dict[tuple[str, str], list[str]] = {}
    for case in ids:
        members.setdefault(components[("case", case)], []).append(case)
    return list(members.values())


def _components(lists: Iterable[Sequence[Node]]) -> dict[Node, Node]:
    """Return for each node one that stands for all that the lists join with it."""
    above: dict[Node, Node] = {}

    def top(node: Node) -> Node:
        while above.setdefault(node, node) != node:
            above[node] = above[above[node]]
            node = above[node]
        return node

    for nodes in lists:
        for node in nodes:
            above[top(node)] = top(nodes[0])
    return {node: top(node) for node in list(above)}


def _deal_out(
    units: Sequence[Sequence[str]], sizes: Mapping[str, float], count: int
) -> list[list[str]]:
    # Of the generator only ``random()`` gives the same numbers in all versions of Python.
    generator = random.Random(SEED)
    classes = _foreground_classes([case for unit in units for case in unit], sizes)
    shuffled = sorted(units, key=lambda _: generator.random())
    ordered = sorted(shuffled, key=lambda unit: (-len(unit), _mean_size(unit, sizes)))
    folds: list[list[str]] = [[] for _ in range(count)]
    held = [Counter[int]() for _ in range(count)]
    for unit in ordered:
        added = Counter(classes[case] for case in unit)

        def cost(
            fold: int, unit: Sequence[str] = unit, added: Counter[int] = added
        ) -> tuple[int, float]:
            # What the squares of all counts would grow by, but for what is the same in all folds.
            alike = sum(held[fold][kind] * number for kind, number in added.items())
            return len(folds[fold]) * len(unit) + alike, generator.random()

        chosen = min(range(count), key=cost)
        folds[chosen] += unit
        held[chosen] += added
    return folds


def _foreground_classes(ids: Sequence[str], sizes: Mapping[str, float]) -> dict[str, int]:
    """Return the class of each case; cases of the same share are of the same class."""
    shares = sorted(sizes.get(case, 0.0) for case in ids)
    bounds = [shares[len(shares) * k // FOREGROUND_CLASSES] for k in range(1, FOREGROUND_CLASSES)]
    return {case: bisect_right(bounds, sizes.get(case, 0.0)) for case in ids}


def _mean_size(unit: Sequence[str], sizes: Mapping[str, float]) -> float:
    return sum(sizes.get(case, 0.0) for case in unit) / len(unit)
