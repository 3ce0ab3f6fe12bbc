"""``nnmedseg_check_overlap``: images that data sets, or the two parts of one, have in common."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nnmedseg.cli import _command

if TYPE_CHECKING:
    from nnmedseg.dataset_conversion._overlap_cases import CaseImage

logger = logging.getLogger(__name__)

EXIT_SHARED = 1
PAIRS_SHOWN = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, compare, and return the exit code."""
    parser = _command.new_parser(
        "Find images that converted data sets share: equal pixels, or the same picture re-encoded, "
        "resized, mirrored or rotated by right angles. Of a single data set the training part is "
        "compared with the test part. Exit code 0: nothing is shared; 1: something is; 2: the "
        "data sets cannot be compared."
    )
    parser.add_argument(
        "-d",
        "--datasets",
        nargs="+",
        required=True,
        metavar="ID",
        help="numbers or names of raw data sets, for instance -d 2 3 4",
    )
    parser.add_argument("--json", metavar="FILE", help="write all pairs and counts to this file")
    _command.add_num_processes(parser)
    return _command.run(parser, _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from nnmedseg import paths
    from nnmedseg.dataset_conversion.overlap import check_overlap

    folders = paths.resolve(options.workspace)
    logger.info("Using %s", folders)
    report = check_overlap(options.datasets, folders=folders, num_workers=options.num_processes)
    for pair in report.shared[:PAIRS_SHOWN]:
        logger.info("%-5s  %s", pair.kind, _name(pair.first))
        logger.info("%-5s  %s", "", _name(pair.second))
    more = len(report.shared) - PAIRS_SHOWN
    if more > 0:
        logger.info("and %d more pairs%s", more, "" if options.json else " (all with --json FILE)")
    for sentence in report.meaning():
        logger.info("%s", sentence)
    if options.json:
        _write(report.to_dict(), options.json)
        logger.info("All pairs are in %s", options.json)
    return EXIT_SHARED if report.shared else 0


def _write(content: dict[str, Any], file: str) -> None:
    from nnmedseg.errors import UserError
    from nnmedseg.files import write_json

    try:
        write_json(content, file)
    except OSError as error:
        raise UserError(
            f"the file cannot be written: {error.strerror}", where=file, mend="choose another place"
        ) from error


def _name(image: CaseImage) -> str:
    elsewhere = "" if image.file.startswith(f"{image.dataset}/") else f" of {image.dataset}"
    source = f" (from {image.source})" if image.source else ""
    return f"{image.part:5}  {image.file}{elsewhere}{source}"
