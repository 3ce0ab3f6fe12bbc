"""Writing all cases of a data set: in threads, with a journal, one case whole or not at all."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from nnmedseg.allocation import reuse_freed_memory
from nnmedseg.cores import cpu_count, one_thread_each
from nnmedseg.dataset_conversion import _journal
from nnmedseg.dataset_conversion._case_files import (
    CaseError,
    Record,
    SourceFile,
    Targets,
    targets,
)
from nnmedseg.dataset_conversion._checks import CaseProblem
from nnmedseg.dataset_conversion._metadata import program_version
from nnmedseg.dataset_conversion._write_images import write_image_case
from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.errors import DataError, UserError
from nnmedseg.progress import track

logger = logging.getLogger(__name__)

FORMAT = 2
"""Increased when the converted files change, so that no half of a data set is of an older kind."""


def _write_volume_case(*arguments: Any) -> tuple[Record, list[str]]:
    # Photographs must not wait for the libraries that read volumes.
    from nnmedseg.dataset_conversion._write_volumes import write_volume_case  # noqa: PLC0415

    return write_volume_case(*arguments)


WRITERS = {"rgb": write_image_case, "grey": write_image_case, "volume": _write_volume_case}
"""How the cases of a data set are written, by their content."""


def write_cases(
    converter: DatasetConverter,
    cases: list[Case],
    root: Path,
    folder: Path,
    num_processes: int | None,
) -> tuple[list[Record], list[CaseProblem]]:
    """Write the cases that the journal does not have yet; return all records and problems."""
    records: list[Record] = []
    problems: list[CaseProblem] = []
    _make_folders(converter, cases, folder)
    with _journal.Journal(folder, _header(converter)) as journal:
        if journal.records:
            logger.info(
                "Going on with an earlier conversion: %d cases are done", len(journal.records)
            )
        write = partial(
            _write_case, converter=converter, folder=folder, root=root, done=dict(journal.records)
        )
        with _completed(write, cases, num_processes or cpu_count()) as futures:
            for future in track(futures, f"Converting {converter.name}", len(cases)):
                try:
                    record = future.result()
                except CaseError as error:
                    problems += [CaseProblem(what, error.files) for what in error.problems]
                else:
                    journal.add(record)
                    records.append(record)
    by_id = sorted(records, key=lambda record: record["id"])
    return by_id, sorted(problems, key=lambda problem: problem.what)


def _make_folders(converter: DatasetConverter, cases: list[Case], folder: Path) -> None:
    parts_folders = {
        target.parent for case in cases for target in targets(case, folder, converter).all()
    }
    for parts_folder in {folder, *parts_folders}:
        parts_folder.mkdir(parents=True, exist_ok=True)


def _header(converter: DatasetConverter) -> dict[str, object]:
    """Return what must be equal for the cases of an earlier run to count."""
    header = {
        "dataset": converter.name,
        "format": FORMAT,
        "version": program_version(),
        "options": converter.options.given(),
        "labels": dict(converter.labels),
        "label_values": sorted((converter.label_values or {}).items()),
        "content": converter.content,
    }
    return dict(json.loads(json.dumps(header)))


def _write_case(
    case: Case, *, converter: DatasetConverter, folder: Path, root: Path, done: dict[str, Record]
) -> Record:
    sources, problems = _read_sources(case, root)
    if problems:
        raise CaseError(case, problems)
    images = [sources[path] for path in case.images]
    masks = [sources[path] for path in case.masks]
    record: Record = {
        "id": case.id,
        "part": case.part,
        "group": case.group,
        **({"subset": case.subset} if case.subset is not None else {}),
        "images": [source.record for source in images],
        "masks": [source.record for source in masks],
    }
    to = targets(case, folder, converter)
    earlier = done.get(case.id, {})
    same_sources = {key: earlier.get(key) for key in record} == record
    # A power failure leaves files that were named but not filled; their sizes tell.
    if same_sources and earlier["written_bytes"] == _sizes(to):
        return earlier
    try:
        details, problems = WRITERS[converter.content](converter, images, masks, to)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            "the disk is full",
            where=folder,
            mend="make room, or choose another place with --workspace; the same command goes on",
        ) from error
    if problems:
        raise CaseError(case, problems)
    return record | details | {"written_bytes": _sizes(to)}


def _sizes(to: Targets) -> list[int]:
    return [target.stat().st_size if target.exists() else 0 for target in to.all()]


def _read_sources(case: Case, root: Path) -> tuple[dict[Path, SourceFile], list[str]]:
    sources: dict[Path, SourceFile] = {}
    problems = []
    for path in dict.fromkeys((*case.images, *case.masks)):
        try:
            sources[path] = SourceFile.read(path, root)
        except DataError as error:
            problems.append(f"{path.relative_to(root).as_posix()}: {error.what}")
    return sources, problems


@contextmanager
def _completed(
    work: Callable[[Case], Record], cases: list[Case], workers: int
) -> Iterator[Iterator[Future[Record]]]:
    """Work on cases in threads and give the futures as they complete.

    Decoding, hashing and compressing release the interpreter's lock, so threads use all cores and
    hold no more than ``workers`` cases in memory. When the block is left early, for instance by
    Ctrl-C, what has not begun is dropped.
    """
    reuse_freed_memory()
    executor = ThreadPoolExecutor(workers)
    with one_thread_each():
        try:
            yield as_completed([executor.submit(work, case) for case in cases])
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
