"""The papers' own divisions of their data sets, as data, with what is wrong with them.

A data set is converted with the parts of its release unless a paper's protocol is asked for
(``--split``). Where a paper drew its parts at random the draw is done anew, once, from a fixed
seed: same numbers of cases, other cases. Where the paper chose its checkpoint on the images that it
reports on, these are the test part here, and the folds of the training part are there to choose by.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from nnmedseg.data.splits import SEED
from nnmedseg.dataset_conversion.base import Case, Part
from nnmedseg.errors import DataError, NotFoundError, list_some

PARTS: tuple[Part, ...] = ("train", "validation", "test")

Item = TypeVar("Item")


@dataclass(frozen=True)
class Protocol:
    """How a paper divides a data set.

    Attributes:
        name: As typed after ``--split``.
        paper: The paper's network.
        what: One sentence with the counts.
        sizes: Cases in training, validation and test that are drawn from the pool; None: the pool
            is the training part.
        pool: Parts of the release whose cases are divided.
        keeps: Parts of the release that are no pool, with the part that each plays here. Nothing
            is drawn for a part that these fill. Parts that are neither are left out.
        shuffled: Whether the pool is shuffled; otherwise it is cut in the order of the ids.
        begins: How the ids of the pool begin; other cases are left out.
        listed: Numbers at the ends of the ids, by part; other cases are left out. With it nothing
            is drawn.
        warnings: What leaks, what is reported on the data that chose the model, and what cannot be
            redone, one sentence each.
    """

    name: str
    paper: str
    what: str
    sizes: tuple[int, int, int] | None = None
    pool: tuple[Part, ...] = ("train",)
    keeps: Mapping[Part, Part] = field(default_factory=dict)
    shuffled: bool = True
    begins: tuple[str, ...] = ("",)
    listed: Mapping[Part, tuple[int, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def apply_protocol(
    cases: Sequence[Case], protocol: Protocol, seed: int = SEED
) -> tuple[list[Case], list[Case], list[str]]:
    """Give cases the parts that a protocol has them in.

    Args:
        cases: With the parts of the release.
        protocol: See ``find_protocol``.
        seed: Of the draw, where there is one.

    Returns:
        The cases with their parts, in the order given; the cases that the protocol leaves out, as
        they were; and notes on what was done, one sentence each.

    Raises:
        DataError: There are fewer cases than parts to draw.
    """
    raise NotImplementedError


def list_protocols(dataset: str) -> tuple[Protocol, ...]:
    """Return what can be asked for with a data set, by the converter's name."""
    raise NotImplementedError


def find_protocol(dataset: str, name: str) -> Protocol:
    """Return a protocol of a data set, in any letter case.

    Args:
        dataset: The converter's name.
        name: Name of the protocol; ``official`` is there for every data set.

    Raises:
        NotFoundError: The data set has no such protocol; those that it has are listed.
    """
    raise NotImplementedError
