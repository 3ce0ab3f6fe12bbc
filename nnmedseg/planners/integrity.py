"""The verification before planning, repeated only when the raw data have changed."""

from __future__ import annotations

import logging

from nnmedseg.data.integrity import Report, content_hash, verify_dataset
from nnmedseg.errors import DataError
from nnmedseg.files import read_json, write_json
from nnmedseg.paths import Folders

logger = logging.getLogger(__name__)

STAMP_FILE = "integrity.json"
ERRORS_SHOWN = 30
WARNINGS_SHOWN = 5


def require_integrity(folders: Folders, dataset_name: str, num_workers: int) -> None:
    """Verify a data set, unless it has passed and no file has changed since.

    Warnings are logged. Nothing is written if there are errors.

    Raises:
        DataError: There are errors; the first ones are listed.
    """
    raw, stamp = folders.raw / dataset_name, folders.preprocessed / dataset_name / STAMP_FILE
    content = content_hash(raw)
    if stamp.is_file() and read_json(stamp).get("content") == content:
        logger.info("The data set is as it was when it was verified")
        return
    report = verify_dataset(raw, num_workers=num_workers)
    if report.errors:
        lines = [f"    {found.file}: {found.what}" for found in report.errors[:ERRORS_SHOWN]]
        if len(report.errors) > ERRORS_SHOWN:
            lines.append(f"    and {len(report.errors) - ERRORS_SHOWN} more")
        raise DataError(
            "\n".join([f"the data set has {len(report.errors)} error(s):", *lines]),
            where=raw,
            mend=f"mend these files or convert the data set again; nnmedseg_verify -d "
            f"{int(dataset_name[7:10])} lists all problems",
        )
    _log_warnings(report, int(dataset_name[7:10]))
    write_json({"content": content, "warnings": len(report.warnings)}, stamp)


def _log_warnings(report: Report, number: int) -> None:
    for found in report.warnings[:WARNINGS_SHOWN]:
        logger.warning("Warning: %s: %s", found.file, found.what)
    rest = len(report.warnings) - WARNINGS_SHOWN
    if rest > 0:
        logger.warning("and %d more warnings: nnmedseg_verify -d %d lists all", rest, number)
