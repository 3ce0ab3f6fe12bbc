"""``nnmedseg_install``: a model folder from an archive that nnmedseg_export has written."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from nnmedseg.cli import _command

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, install, and return the exit code."""
    parser = _command.new_parser(
        "Check an archive of nnmedseg_export and unpack it among the trained models. Nothing is "
        "unpacked unless all of it is in order."
    )
    parser.add_argument("archive", metavar="ARCHIVE", help="the .zip file")
    parser.add_argument(
        "-o", "--output", metavar="DIR", help="model folder to make (default: in the workspace)"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace the model folder if there is one"
    )
    return _command.run(parser, _run, arguments)


def _run(options: argparse.Namespace) -> None:
    from nnmedseg import install, paths

    folders = None if options.output else paths.resolve(options.workspace)
    model = install(options.archive, output=options.output, force=options.force, folders=folders)
    best = " --checkpoint best" if model.checkpoint == "best" else ""
    logger.info("Installed in %s", model.folder)
    logger.info("Use it with: nnmedseg_predict -i IMAGES -o MASKS -m %s%s", model.folder, best)
