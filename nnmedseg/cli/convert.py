"""``nnmedseg_convert``: from a downloaded data set to nnU-Net's raw format."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import Any

from nnmedseg.cli import _command

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, convert the data set, and return the exit code."""
    parser = _command.new_parser(
        "Convert the official download of a public data set to nnU-Net's raw format. "
        "Interrupted and run again, it goes on where it was."
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="data set, for instance ISIC2018")
    parser.add_argument(
        "-i", "--input", metavar="DOWNLOAD_FOLDER", help="where it lies (default: ./data/NAME)"
    )
    parser.add_argument(
        "-d",
        "--dataset-id",
        type=int,
        metavar="ID",
        help="number of the converted data set (default: see --list)",
    )
    _command.add_num_processes(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a data set made from other files"
    )
    parser.add_argument(
        "--list", action="store_true", help="show the data sets that can be converted and exit"
    )
    return _command.run(parser, _run, arguments)


def _run(options: argparse.Namespace) -> None:
    if options.list:
        _list()
        return
    if options.name is None:
        from nnmedseg.errors import UserError

        raise UserError(
            "no data set was named",
            mend="give its name, for instance: nnmedseg_convert ISIC2018; "
            "nnmedseg_convert --list shows all",
        )
    from nnmedseg import paths
    from nnmedseg.dataset_conversion.registry import find_converter

    converter = find_converter(options.name)
    folders = paths.resolve(options.workspace)
    logger.info("Using %s", folders)
    from nnmedseg import dataset_conversion
    from nnmedseg.files import read_json

    folder = dataset_conversion.convert(
        converter.name,
        options.input,
        dataset_id=options.dataset_id,
        folders=folders,
        num_processes=options.num_processes,
        overwrite=options.overwrite,
    )
    _summarise(read_json(folder / "conversion.json"))
    number = int(folder.name[7:10])
    logger.info("It lies in %s", folder)
    logger.info("Next: nnmedseg_plan_and_preprocess -d %d%s", number, _same_workspace(options))


def _same_workspace(options: argparse.Namespace) -> str:
    import shlex

    return f" --workspace {shlex.quote(options.workspace)}" if options.workspace else ""


def _summarise(conversion: dict[str, Any]) -> None:
    counts = conversion["counts"]
    logger.info(
        "%s: %s", conversion["folder"], ", ".join(f"{counts[part]} {part}" for part in counts)
    )
    cases = conversion["cases"]
    notes = {
        "masks are empty": sum(case.get("foreground_pixels") == 0 for case in cases),
        "masks had pixels between black and white, decided at half of the range": sum(
            "in_between_pixels" in case for case in cases
        ),
        "test images have no masks": sum(not case["masks"] for case in cases),
        "files were skipped": len(conversion["skipped"]),
    }
    for note, count in notes.items():
        if count:
            logger.info("%d %s (conversion.json says which)", count, note)


def _list() -> None:
    from nnmedseg.dataset_conversion.registry import list_converters

    rows = [("NAME", "NUMBER", "PAGE")]
    rows += [(known.name, str(known.number), known.page) for known in list_converters()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        logger.info("%s", "  ".join(cells).rstrip())
