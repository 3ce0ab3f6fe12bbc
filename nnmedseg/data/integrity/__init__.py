"""Integrity of a data set in nnU-Net's raw format: everything that is wrong, in one pass.

nnU-Net's own verification stops at the first kind of problem, reads every label twice, and passes
over what its readers repair in silence. Here every file is decoded once, strictly, and all problems
are listed by file. What nnU-Net refuses is an error here too.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from nnmedseg.allocation import reuse_freed_memory
from nnmedseg.cores import cpu_count, one_thread_each
from nnmedseg.data.duplicates import find_duplicates
from nnmedseg.data.integrity._cases import FORMATS, CaseFindings, check_case
from nnmedseg.data.integrity._description import Description, read_description
from nnmedseg.data.integrity._layout import FOLDERS, CaseFiles, Layout, find_layout, name_of
from nnmedseg.data.integrity._lists import check_conversion, check_splits
from nnmedseg.data.integrity._report import ERRORS, WARNINGS, Problem, Report, in_order, problem
from nnmedseg.errors import NotFoundError
from nnmedseg.progress import track

__all__ = ["ERRORS", "WARNINGS", "Problem", "Report", "content_hash", "verify_dataset"]

VERSION = 1
"""Increased when more is checked, so that data sets that passed before are looked at again."""


def verify_dataset(folder: str | Path, *, num_workers: int | None = None) -> Report:
    """Check a data set and list everything that is wrong with it.

    Memory is bounded by the largest files, one for each worker.

    Args:
        folder: ``DatasetNNN_Name`` with dataset.json, ``imagesTr`` and ``labelsTr``, in nnU-Net's
            raw format; ``imagesTs``, ``labelsTs``, splits_final.json and conversion.json are
            checked where they are there.
        num_workers: Cases that are read at once; one for each core if ``None``.

    Raises:
        NotFoundError: There is no such folder.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise NotFoundError(
            "the data set's folder is not there",
            where=folder,
            mend="convert the data set (again), or check the number and the workspace",
        )
    workers = num_workers or cpu_count()
    description = read_description(folder)
    layout = find_layout(folder, description)
    problems = [*description.problems, *layout.problems, *check_splits(folder, layout)]
    problems += check_conversion(folder, layout, description.file_ending)
    found = _check_files(folder, description, layout, workers)
    problems += [its for findings in found for its in findings.problems]
    problems += _no_foreground(layout.cases, found)
    problems += _duplicates(layout.cases, found, workers)
    return Report(folder.name, len(layout.cases), in_order(problems))


def content_hash(folder: str | Path) -> str:
    """Hash the names, sizes and times of all files of a data set, which notices any change."""
    folder = Path(folder).absolute()
    outside = read_description(folder).listed or {}
    files = {Path(place, name) for place, _, names in os.walk(folder) for name in names}
    for entry in outside.values():
        files |= {folder / os.path.expandvars(name) for name in (*entry["images"], entry["label"])}
    facts = [(name_of(path, folder), *_size_and_time(path)) for path in sorted(files)]
    return hashlib.sha256(json.dumps([VERSION, facts]).encode()).hexdigest()


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, 0
    return status.st_size, status.st_mtime_ns


def _check_files(
    folder: Path, description: Description, layout: Layout, workers: int
) -> list[CaseFindings]:
    """Check the cases in threads; decoding releases the interpreter's lock."""
    if description.content is None:
        return [CaseFindings() for _ in layout.cases]
    file_format = FORMATS[description.content]
    check = partial(check_case, folder=folder, description=description, file_format=file_format)
    reuse_freed_memory()
    with one_thread_each(), ThreadPoolExecutor(workers) as pool:
        found = pool.map(check, layout.cases)
        return list(track(found, f"Verifying {folder.name}", len(layout.cases)))


def _no_foreground(cases: Sequence[CaseFiles], found: Sequence[CaseFindings]) -> Iterator[Problem]:
    known = [
        its.has_foreground
        for case, its in zip(cases, found, strict=True)
        if case.part == "train" and its.has_foreground is not None
    ]
    if known and not any(known):
        what = f"none of the {len(known)} training labels holds anything but background"
        yield problem("no-foreground", FOLDERS["train"][1], what)


def _duplicates(
    cases: Sequence[CaseFiles], found: Sequence[CaseFindings], workers: int
) -> Iterator[Problem]:
    images = {
        its.image.name: (its.image, case.part)
        for case, its in zip(cases, found, strict=True)
        if its.image is not None
    }
    entries = [entry for entry, _ in images.values()]
    for pair in find_duplicates(entries, num_workers=workers):
        across = images[pair.first][1] != images[pair.second][1]
        same = "has the same pixels as" if pair.kind == "exact" else "shows the same as"
        what = f"the image {same} {pair.first}" + (
            ", one for training and one for testing: the test measures memory" if across else ""
        )
        yield problem("duplicate" if pair.kind == "exact" else "near-duplicate", pair.second, what)
