"""``nnmedseg_verify``: everything that is wrong with a data set, by file."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nnmedseg.cli import _command

if TYPE_CHECKING:
    from nnmedseg.data.integrity import Report

logger = logging.getLogger(__name__)

EXIT_WARNINGS = 1
EXIT_ERRORS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, verify the data set, and return the exit code."""
    parser = _command.new_parser(
        "Check every file of a data set in nnU-Net's raw format and list all problems. Exit code: "
        "0 without errors, 1 with warnings under --strict, 2 with errors."
    )
    parser.add_argument("-d", "--dataset", required=True, metavar="ID", help="number or name")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if there are warnings")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    _command.add_num_processes(parser)
    return _command.run(parser, _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from nnmedseg import paths
    from nnmedseg.data.integrity import verify_dataset

    with _progress_on_stderr() if options.json else contextlib.nullcontext():
        folders = paths.resolve(options.workspace)
        logger.info("Using %s", folders)
        folder = folders.raw / folders.dataset_name(options.dataset)
        report = verify_dataset(folder, num_workers=options.num_processes)
    if options.json:
        json.dump(report.to_dict(), sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        _show(report)
    if report.errors:
        return EXIT_ERRORS
    return EXIT_WARNINGS if options.strict and report.warnings else 0


@contextlib.contextmanager
def _progress_on_stderr() -> Iterator[None]:
    """Leave the standard output to the report."""
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler)
    ]
    before = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            if stream is not None:
                handler.setStream(stream)


def _show(report: Report) -> None:
    for problem in report.problems:
        logger.info("%s", problem)
    logger.info(
        "%s: %d cases, %d errors, %d warnings",
        report.dataset,
        report.cases,
        len(report.errors),
        len(report.warnings),
    )
