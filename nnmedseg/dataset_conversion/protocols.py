"""The papers' own divisions of their data sets, with what is wrong with them.

A data set is converted with the parts of its release unless a paper's protocol is asked for
(``--split``). Where a paper drew its parts at random the draw is done anew, once, from a fixed
seed: the same numbers of cases, other cases. Where a paper chose its checkpoint on the images that
it reports on, these are the test part here, and the folds of the training part are there to choose
by.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nnmedseg.data.splits import SEED
from nnmedseg.dataset_conversion._published import PARTS, PROTOCOLS, Protocol
from nnmedseg.dataset_conversion.base import Case, Part
from nnmedseg.errors import DataError, NotFoundError, list_some

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "apply_protocol",
    "find_protocol",
    "list_protocols",
    "notes_on_groups",
]


def list_protocols(dataset: str) -> tuple[Protocol, ...]:
    """Return the protocols of a data set, by the converter's name; most have none."""
    return PROTOCOLS.get(dataset, ())


def find_protocol(dataset: str, name: str) -> Protocol:
    """Return a protocol of a data set.

    Args:
        dataset: The converter's name.
        name: Name of the protocol, in any letter case.

    Raises:
        NotFoundError: The data set has no such protocol; those that it has are listed.
    """
    protocols = list_protocols(dataset)
    for protocol in protocols:
        if protocol.name == name.casefold():
            return protocol
    listed = "".join(f"\n    {protocol.name}: {protocol.what}" for protocol in protocols)
    raise NotFoundError(
        f"{dataset} has no split called {name!r}",
        mend=f"leave --split out for the parts of the release, or use:{listed}"
        if protocols
        else "leave --split out: only the parts of the release and five folds are known",
    )


def apply_protocol(
    cases: Sequence[Case], protocol: Protocol, seed: int = SEED
) -> tuple[list[Case], list[Case], list[str]]:
    """Give cases the parts that a protocol has them in.

    Args:
        cases: With the parts of the release, in any order.
        protocol: See ``find_protocol``.
        seed: Of the draw, where there is one.

    Returns:
        The cases with their parts, in the order given; the cases that the protocol leaves out, as
        they were; and notes on what differs from the paper, one sentence each.

    Raises:
        DataError: There are fewer cases than parts to draw.
    """
    notes: list[str] = []
    kept = {case.id: protocol.keeps[case.part] for case in cases if case.part in protocol.keeps}
    pool = [
        case.id
        for case in cases
        if case.part in protocol.pool and case.id.startswith(protocol.begins)
    ]
    parts = kept | _divide(pool, protocol, set(kept.values()), seed, notes)
    used = [replace(case, part=parts[case.id]) for case in cases if case.id in parts]
    left_out = [case for case in cases if case.id not in parts]
    return used, left_out, [*notes, *notes_on_groups(used)]


def notes_on_groups(cases: Sequence[Case]) -> list[str]:
    """Say which groups, for instance patients, are in more than one part, if any are."""
    parts: dict[str, set[Part]] = {}
    for case in cases:
        if case.group is not None:
            parts.setdefault(case.group, set()).add(case.part)
    divided = sorted(group for group, found in parts.items() if len(found) > 1)
    if not divided:
        return []
    return [
        f"{len(divided)} group(s) of cases that belong together, for instance of one patient, "
        f"are in more than one part, so test results are optimistic: {list_some(divided)}"
    ]


def _divide(
    pool: Sequence[str], protocol: Protocol, filled: set[Part], seed: int, notes: list[str]
) -> dict[str, Part]:
    """Return the parts of the cases of the pool; ``filled`` are the parts that have cases."""
    missing = [part for part in PARTS if part in {*protocol.keeps.values()} - filled]
    if protocol.sizes is None:
        notes += [f"The {part} part of the release is not here" for part in missing]
        return dict.fromkeys(pool, "train")
    sizes = {
        part: size
        for part, size in zip(PARTS, protocol.sizes, strict=True)
        if size and part not in filled
    }
    if missing:
        notes.append(
            f"The download does not say which cases are for {' and '.join(missing)}: they are drawn"
        )
    counts = _in_proportion(len(pool), sizes, protocol.name)
    if counts != sizes and len(sizes) > 1:
        notes.append(
            f"{protocol.paper} divides {sum(sizes.values())} cases, here are {len(pool)}: divided "
            f"in the same proportions, {' / '.join(str(counts.get(part, 0)) for part in PARTS)}"
        )
    ordered = iter(_shuffled(pool, seed) if protocol.shuffled else sorted(pool))
    return {next(ordered): part for part, count in counts.items() for _ in range(count)}


def _shuffled(ids: Sequence[str], seed: int) -> list[str]:
    # Of the generator only ``random()`` gives the same numbers in all versions of Python.
    generator = random.Random(seed)
    return sorted(sorted(ids), key=lambda _: generator.random())


def _in_proportion(total: int, sizes: Mapping[Part, int], name: str) -> dict[Part, int]:
    """Divide a number in the proportions of ``sizes``, none of them becoming zero."""
    if total < len(sizes):
        raise DataError(
            f"{total} cases cannot be divided into {len(sizes)} parts",
            where=f"--split {name}",
            mend="convert more of the release, or leave --split out",
        )
    whole = sum(sizes.values())
    counts = {part: total * size // whole for part, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda part: -(total * sizes[part] % whole))
    for part in by_remainder[: total - sum(counts.values())]:
        counts[part] += 1
    for part in [part for part, count in counts.items() if count == 0]:
        counts[max(counts, key=counts.__getitem__)] -= 1
        counts[part] = 1
    return counts
