"""A conversion from the download folder to a complete data set in nnU-Net's raw format.

The data set is built in a hidden folder beside its final place, ``.DatasetNNN_Name.partial``, and
renamed when everything is there. Until then a journal in that folder says which cases are done, so
that a conversion that was interrupted, or stopped by a problem in one file, goes on where it was.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from nnmedseg.cores import cpu_count
from nnmedseg.dataset_conversion import _journal
from nnmedseg.dataset_conversion._case_files import IMAGES_FOLDER, LABELS_FOLDER, Record, targets
from nnmedseg.dataset_conversion._checks import CaseProblem, CheckedCases, check_cases
from nnmedseg.dataset_conversion._duplicates import duplicates_among
from nnmedseg.dataset_conversion._existing import (
    Settings,
    refuse_other_data,
    refuse_taken_number,
)
from nnmedseg.dataset_conversion._metadata import Conversion, write_descriptions
from nnmedseg.dataset_conversion._writing import write_cases
from nnmedseg.dataset_conversion.base import Case, DatasetConverter, Options
from nnmedseg.dataset_conversion.protocols import (
    Protocol,
    apply_protocol,
    find_protocol,
    notes_on_groups,
)
from nnmedseg.dataset_conversion.registry import find_converter
from nnmedseg.errors import DataError, NotFoundError, UserError
from nnmedseg.files import sync
from nnmedseg.locks import locked
from nnmedseg.paths import Folders, parse_dataset_id

logger = logging.getLogger(__name__)

DOWNLOADS = Path("data")
PROBLEMS_SHOWN = 30
PROBLEMS_FILE = "problems.txt"
OFFICIAL = "official"


def convert(
    name: str,
    source: str | Path | None = None,
    *,
    dataset_id: int | None = None,
    folders: Folders,
    num_processes: int | None = None,
    overwrite: bool = False,
    options: Options | None = None,
    split: str | None = None,
    skip_broken: bool = False,
    allow_leaks: bool = False,
) -> Path:
    """Turn a downloaded data set into nnU-Net's raw format; see ``dataset_conversion.convert``."""
    converter = find_converter(name, options)
    protocol = None if split in (None, OFFICIAL) else find_protocol(converter.name, str(split))
    root = _download_folder(converter, source)
    number = _number(converter, dataset_id)
    checked = _find_and_check(converter, root, protocol)  # which may name the data set
    root = _folder_of_all(checked, root)
    final = folders.raw / f"Dataset{number:03d}_{converter.dataset_name}"
    refuse_taken_number(final.name, folders)
    with locked(final, "converted"):
        settings = _settings(converter, protocol, allow_leaks)
        if final.exists() and not overwrite:
            refuse_other_data(final, converter, checked, root, settings)
            logger.info("%s is complete, made from the same files", final.name)
            return final
        building = final.with_name(f".{final.name}.partial")
        records, broken = write_cases(converter, checked.cases, root, building, num_processes)
        problems = [*checked.problems, *broken]
        _raise_problems(problems, building, root, skip_broken=skip_broken)
        _refuse_useless(records, root)
        pairs = duplicates_among(records, building, converter, num_processes or cpu_count())
        conversion = Conversion(
            final.name,
            converter,
            records,
            source=root,
            skipped=_skipped(checked, problems, root),
            duplicates=pairs,
            protocol=protocol,
            allow_leaks=allow_leaks,
            settings=settings,
        )
        write_descriptions(building, conversion)
        _remove_leftovers(building, converter, checked.cases, records)
        _move_into_place(building, final)
    return final


def _number(converter: DatasetConverter, chosen: int | None) -> int:
    number = converter.number if chosen is None else chosen
    if number is None:
        raise UserError(
            f"{converter.name} has no number of its own", mend="choose one, 1 to 999, with -d ID"
        )
    return parse_dataset_id(number)


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


def _find_and_check(
    converter: DatasetConverter, root: Path, protocol: Protocol | None
) -> CheckedCases:
    found = converter.find_cases(root)
    left_out: list[Case] = []
    if protocol is None:
        converter.notes += notes_on_groups(found)
    else:
        found, left_out, notes = apply_protocol(found, protocol)
        converter.notes += notes
    checked = check_cases(found, converter)
    for case in left_out:
        reason = f"not part of the split {protocol.name}" if protocol else ""
        checked.skipped.update(dict.fromkeys((*case.images, *case.masks), reason))
    return checked


def _folder_of_all(checked: CheckedCases, root: Path) -> Path:
    """Return ``root``, or its parent when files of the release lie beside it."""
    return root if all(path.is_relative_to(root) for path in checked.files()) else root.parent


def _settings(
    converter: DatasetConverter, protocol: Protocol | None, allow_leaks: bool
) -> Settings:
    settings = {
        **converter.options.given(),
        "split": protocol.name if protocol else OFFICIAL,
        **({"allow_leaks": True} if allow_leaks else {}),
    }
    return dict(json.loads(json.dumps(settings)))


def _raise_problems(
    problems: Sequence[CaseProblem], folder: Path, root: Path, *, skip_broken: bool
) -> None:
    """Raise DataError that lists all problems, unless there are none or they may be skipped."""
    problems = [problem for problem in problems if not (skip_broken and problem.files)]
    if not problems:
        (folder / PROBLEMS_FILE).unlink(missing_ok=True)
        return
    (folder / PROBLEMS_FILE).write_text(
        "".join(f"{problem.what}\n" for problem in problems), "utf-8"
    )
    lines = [f"    {problem.what}" for problem in problems[:PROBLEMS_SHOWN]]
    if len(problems) > PROBLEMS_SHOWN:
        rest = len(problems) - PROBLEMS_SHOWN
        lines.append(f"    and {rest} more, all of them in {folder / PROBLEMS_FILE}")
    raise DataError(
        "\n".join([f"the download has {len(problems)} problem(s):", *lines]),
        where=root,
        mend="download or unpack these files again, or take them out, and run the same command: "
        "it goes on where it was; --skip-broken converts the other cases and records these",
    )


def _refuse_useless(records: Sequence[Record], root: Path) -> None:
    """Raise DataError when nothing could be learnt from what was written."""
    training = [record for record in records if record["part"] == "train"]
    if not training:
        raise DataError("no training case is left", where=root, mend="mend the files, see above")
    if not any(record["foreground_pixels"] for record in training):
        raise DataError(
            f"all {len(training)} training masks are empty: there is nothing to learn",
            where=root,
            mend="check that these are the masks; values that are labels can be named with "
            "--labels where the data set has that option",
        )


def _skipped(
    checked: CheckedCases, problems: Sequence[CaseProblem], root: Path
) -> list[dict[str, object]]:
    """Return every file that was left out, with the reason, for ``conversion.json``."""
    broken = {path: problem.what for problem in problems for path in problem.files}
    reasons = {**checked.skipped, **broken}
    return [
        {
            "file": path.relative_to(root).as_posix(),
            "reason": reason,
            **({"broken": True} if path in broken else {}),
        }
        for path, reason in reasons.items()
    ]


def _remove_leftovers(
    folder: Path, converter: DatasetConverter, cases: list[Case], records: Sequence[Record]
) -> None:
    """Delete files of cases that an earlier, unfinished run had and this one has not."""
    ids = {record["id"] for record in records}
    written = {
        path for case in cases if case.id in ids for path in targets(case, folder, converter).all()
    }
    for parts_folder in {*IMAGES_FOLDER.values(), *LABELS_FOLDER.values()}:
        for path in (folder / parts_folder).glob("*"):
            if path not in written:
                path.unlink()


def _move_into_place(folder: Path, final: Path) -> None:
    """Rename the finished folder; an older one of that name is moved aside first, then deleted."""
    sync()
    (folder / _journal.FILE_NAME).unlink()
    replaced = final.with_name(f".{final.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.rename(replaced)
    folder.rename(final)
    shutil.rmtree(replaced, ignore_errors=True)
