"""Splits of the training cases, the same ones that nnU-Net would draw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from nnmedseg.errors import DataError

FOLDS = 5
SEED = 12345
"""nnU-Net's own seed: with it the folds are those that nnU-Net draws when there is no file."""

Split = dict[str, list[str]]
"""Case ids under ``train`` and ``val``."""


def cross_validation(ids: Sequence[str], groups: Mapping[str, str] | None = None) -> list[Split]:
    """Divide cases into five folds, like nnU-Net, without tearing groups apart.

    Without groups the result is that of ``generate_crossval_split(sorted(ids), seed=12345,
    n_splits=5)``. With groups the groups are divided instead, in the order of their first ids, so
    folds differ in size as groups do. With fewer than five groups (or cases) each is left out once,
    which gives as many folds as there are groups.

    Args:
        ids: Case ids, in any order.
        groups: Group of each id that has one; the others are groups of their own.

    Raises:
        DataError: There are fewer than two groups, so nothing can be left out.
    """
    # Imports scikit-learn, which takes a second.
    from nnunetv2.utilities.crossval_split import generate_crossval_split  # noqa: PLC0415

    members: dict[tuple[str, bool], list[str]] = {}
    for case_id in sorted(ids):
        group = (groups or {}).get(case_id)
        key = (case_id, False) if group is None else (group, True)
        members.setdefault(key, []).append(case_id)
    by_first = {cases[0]: cases for cases in members.values()}
    if len(by_first) < 2:
        raise DataError(
            f"{len(ids)} training case(s) in {len(by_first)} group(s) cannot be split for "
            "cross-validation",
            mend="add training cases: nnU-Net's five folds need at least 5, two are the least",
        )
    folds = generate_crossval_split(list(by_first), seed=SEED, n_splits=min(FOLDS, len(by_first)))
    return [
        {
            part: sorted(case for first in firsts for case in by_first[first])
            for part, firsts in fold.items()
        }
        for fold in folds
    ]


def with_official_split(
    folds: list[Split], train: Sequence[str], validation: Sequence[str]
) -> list[Split]:
    """Append the release's own training and validation parts as fold 5.

    Raises:
        ValueError: There are not five folds before it, so that it would get another number.
    """
    if len(folds) != FOLDS:
        raise ValueError(f"the official split is fold {FOLDS}, but there are {len(folds)} folds")
    return [*folds, {"train": sorted(train), "val": sorted(validation)}]


def split_hash(splits: Sequence[Split]) -> str:
    """Return the SHA-256 of a list of splits, to tell whether two results used the same."""
    text = json.dumps(splits, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
