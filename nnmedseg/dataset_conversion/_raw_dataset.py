"""A conversion from the download folder to a complete data set in nnU-Net's raw format.

The data set is built in a hidden folder beside its final place, ``.DatasetNNN_Name.partial``, and
renamed when everything is there. Until then a journal in that folder says which cases are done, so
that a conversion that was interrupted, or stopped by a problem in one file, goes on where it was.
"""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from nnmedseg.cores import cpu_count
from nnmedseg.dataset_conversion import _journal
from nnmedseg.dataset_conversion._case_files import (
    IMAGES_FOLDER,
    LABELS_FOLDER,
    WRITERS,
    CaseError,
    Record,
    SourceFile,
    targets,
)
from nnmedseg.dataset_conversion._checks import CheckedCases, check_cases
from nnmedseg.dataset_conversion._existing import refuse_other_data, refuse_taken_number
from nnmedseg.dataset_conversion._metadata import program_version, write_descriptions
from nnmedseg.dataset_conversion.base import Case, DatasetConverter
from nnmedseg.dataset_conversion.registry import find_converter
from nnmedseg.errors import DataError, NotFoundError, UserError
from nnmedseg.paths import Folders, parse_dataset_id
from nnmedseg.progress import track

logger = logging.getLogger(__name__)

DOWNLOADS = Path("data")
PROBLEMS_SHOWN = 30
PROBLEMS_FILE = "problems.txt"
FORMAT = 1
"""Increased when the converted files change, so that no half of a data set is of an older kind."""


def convert(
    name: str,
    source: str | Path | None = None,
    *,
    dataset_id: int | None = None,
    folders: Folders,
    num_processes: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Turn a downloaded data set into nnU-Net's raw format; see ``nnmedseg.convert``."""
    converter = find_converter(name)
    root = _download_folder(converter, source)
    number = parse_dataset_id(converter.number if dataset_id is None else dataset_id)
    final = folders.raw / f"Dataset{number:03d}_{converter.name}"
    refuse_taken_number(final.name, folders)
    checked = check_cases(converter.find_cases(root), converter)
    root = _folder_of_all(checked, root)
    if final.exists() and not overwrite:
        refuse_other_data(final, converter, checked, root)
        logger.info("%s is complete, made from the same files", final.name)
        return final
    building = final.with_name(f".{final.name}.partial")
    records, problems = _write_cases(converter, checked, root, building, num_processes)
    _raise_problems(checked.problems + problems, building, root)
    skipped = {path.relative_to(root).as_posix(): why for path, why in checked.skipped.items()}
    write_descriptions(building, final.name, converter, records, source=root, skipped=skipped)
    _remove_leftovers(building, converter, checked.cases)
    _move_into_place(building, final)
    return final


def _download_folder(converter: DatasetConverter, source: str | Path | None) -> Path:
    root = Path(source if source is not None else DOWNLOADS / converter.name).expanduser()
    root = root.absolute()
    if root.is_dir():
        return root
    if root.exists():
        raise DataError(
            "the download must be a folder, this is a file",
            where=root,
            mend="unpack it and give the folder with -i DOWNLOAD_FOLDER",
        )
    raise NotFoundError(
        f"the download folder of {converter.name} is not there",
        where=root,
        mend=f"download the data set from {converter.page}, unpack it there, or give the folder "
        "that holds it with -i DOWNLOAD_FOLDER",
    )


def _folder_of_all(checked: CheckedCases, root: Path) -> Path:
    """Return ``root``, or its parent when files of the release lie beside it."""
    files = [path for case in checked.cases for path in (*case.images, *case.masks)]
    inside = all(path.is_relative_to(root) for path in [*files, *checked.skipped])
    return root if inside else root.parent


def _write_cases(
    converter: DatasetConverter,
    checked: CheckedCases,
    root: Path,
    folder: Path,
    num_processes: int | None,
) -> tuple[list[Record], list[str]]:
    """Write the cases that the journal does not have yet; return all records and problems."""
    records, problems = [], []
    parts_folders = {
        target.parent
        for case in checked.cases
        for target in targets(case, folder, converter.file_ending)
        if target is not None
    }
    for parts_folder in {folder, *parts_folders}:
        parts_folder.mkdir(parents=True, exist_ok=True)
    header = {"dataset": converter.name, "format": FORMAT, "version": program_version()}
    with _journal.Journal(folder, header) as journal:
        if journal.records:
            logger.info(
                "Going on with an earlier conversion: %d cases are done", len(journal.records)
            )
        write = partial(
            _write_case, converter=converter, folder=folder, root=root, done=dict(journal.records)
        )
        workers = num_processes or cpu_count()
        with _completed(write, checked.cases, workers) as futures:
            for future in track(futures, f"Converting {converter.name}", len(checked.cases)):
                try:
                    record = future.result()
                except CaseError as error:
                    problems += error.problems
                else:
                    journal.add(record)
                    records.append(record)
    return sorted(records, key=lambda record: record["id"]), sorted(problems)


def _write_case(
    case: Case, *, converter: DatasetConverter, folder: Path, root: Path, done: dict[str, Record]
) -> Record:
    problems, sources = [], []
    for path in (*case.images, *case.masks):
        try:
            sources.append(SourceFile.read(path, root))
        except DataError as error:
            problems.append(f"{path.relative_to(root).as_posix()}: {error.what}")
    if problems:
        raise CaseError(problems)
    images, masks = sources[: len(case.images)], sources[len(case.images) :]
    record: Record = {
        "id": case.id,
        "part": case.part,
        "group": case.group,
        "images": [source.record for source in images],
        "masks": [source.record for source in masks],
    }
    image, mask = targets(case, folder, converter.file_ending)
    earlier = done.get(case.id, {})
    written = all(target.exists() for target in (image, mask) if target is not None)
    if written and {key: earlier.get(key) for key in record} == record:
        return earlier
    try:
        return record | WRITERS[converter.file_ending](images, masks, image, mask)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            "the disk is full",
            where=folder,
            mend="make room, or choose another place with --workspace; the same command goes on",
        ) from error


@contextmanager
def _completed(
    work: Callable[[Case], Record], cases: list[Case], workers: int
) -> Iterator[Iterator[Future[Record]]]:
    """Work on cases in threads and give the futures as they complete.

    Decoding, hashing and compressing release the interpreter's lock, so threads use all cores and
    hold no more than ``workers`` cases in memory. When the block is left early, for instance by
    Ctrl-C, what has not begun is dropped.
    """
    executor = ThreadPoolExecutor(workers)
    try:
        yield as_completed([executor.submit(work, case) for case in cases])
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _raise_problems(problems: list[str], folder: Path, root: Path) -> None:
    if not problems:
        (folder / PROBLEMS_FILE).unlink(missing_ok=True)
        return
    (folder / PROBLEMS_FILE).write_text("\n".join(problems) + "\n", "utf-8")
    lines = [f"    {problem}" for problem in problems[:PROBLEMS_SHOWN]]
    if len(problems) > PROBLEMS_SHOWN:
        rest = len(problems) - PROBLEMS_SHOWN
        lines.append(f"    and {rest} more, all of them in {folder / PROBLEMS_FILE}")
    raise DataError(
        "\n".join([f"the download has {len(problems)} problem(s):", *lines]),
        where=root,
        mend="download or unpack these files again, or take them out, and run the same command: "
        "it goes on where it was",
    )


def _remove_leftovers(folder: Path, converter: DatasetConverter, cases: list[Case]) -> None:
    """Delete files of cases that an earlier, unfinished run had and this download has not."""
    written = {path for case in cases for path in targets(case, folder, converter.file_ending)}
    for parts_folder in {*IMAGES_FOLDER.values(), *LABELS_FOLDER.values()}:
        for path in (folder / parts_folder).glob("*"):
            if path not in written:
                path.unlink()


def _move_into_place(folder: Path, final: Path) -> None:
    """Rename the finished folder; an older one of that name is moved aside first, then deleted."""
    (folder / _journal.FILE_NAME).unlink()
    replaced = final.with_name(f".{final.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.rename(replaced)
    folder.rename(final)
    shutil.rmtree(replaced, ignore_errors=True)
