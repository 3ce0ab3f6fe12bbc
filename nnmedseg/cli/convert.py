"""``nnmedseg_convert``: from a downloaded data set to nnU-Net's raw format."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nnmedseg.cli import _command, _convert_list
from nnmedseg.errors import UserError, list_some

if TYPE_CHECKING:
    from nnmedseg.dataset_conversion.base import Options

logger = logging.getLogger(__name__)

NAMES_SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, convert the data set, and return the exit code."""
    parser = _command.new_parser(
        "Convert the download of a public data set, or images of your own (Folder), to nnU-Net's "
        "raw format. Interrupted and run again, it goes on where it was."
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
        "--split",
        metavar="SPLIT",
        help="a paper's own division of the cases instead of the official one; --list NAME shows "
        "which there are",
    )
    parser.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave out cases with problems and record them (default: refuse and list all)",
    )
    parser.add_argument(
        "--allow-leaks",
        action="store_true",
        help="keep training images that are also test images in the folds, as published splits do",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a data set made from other files"
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="show the data sets that can be converted, or the options of NAME, and exit",
    )
    _add_data_set_options(parser)
    return _command.run(parser, _run, arguments)


def _add_data_set_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("options of single data sets (see --list NAME)")
    group.add_argument(
        "--include",
        nargs="+",
        metavar="PART",
        help="parts that are left out by default, for instance: normal (BUSI)",
    )
    group.add_argument(
        "--labels",
        metavar="LABELS",
        help="a preset (Synapse: transunet, btcv), names in order (liver,spleen) or values with "
        "names ('5=liver,1=spleen,*=background'; * stands for all others but 0)",
    )
    group.add_argument(
        "--spacing",
        nargs=3,
        type=_command.positive_float,
        metavar=("Z", "Y", "X"),
        help="distance of voxels in mm, where the files do not tell",
    )
    group.add_argument(
        "--images", metavar="PATTERN", help="image files, for instance 'images/*.png'"
    )
    group.add_argument("--masks", metavar="PATTERN", help="mask files, for instance 'masks/*.png'")
    group.add_argument(
        "--channels",
        metavar="NAMES",
        help="names of the channels in order, for instance CT (in Hounsfield units) or "
        "t1,t2,flair; --images '*/{channel}.nii.gz' finds volumes with one file a channel",
    )
    group.add_argument(
        "--groups",
        metavar="REGEX",
        help="what must stay in one fold: the first group of this expression, found in a case's "
        r"name, for instance 'patient(\d+)'",
    )
    group.add_argument("-n", "--name", dest="own_name", metavar="NAME", help="of your data set")
    group.add_argument(
        "--resize-masks",
        action="store_true",
        help="bring masks of another size to that of their image (nearest neighbour)",
    )


def _options(parsed: argparse.Namespace) -> Options:
    from nnmedseg.dataset_conversion.base import Options

    return Options(
        include=tuple(parsed.include or ()),
        labels=parsed.labels,
        spacing=tuple(parsed.spacing) if parsed.spacing else None,
        images=parsed.images,
        masks=parsed.masks,
        channels=parsed.channels,
        groups=parsed.groups,
        name=parsed.own_name,
        resize_masks=parsed.resize_masks,
    )


def _run(parsed: argparse.Namespace) -> None:
    if parsed.list:
        _convert_list.show(parsed.name)
        return
    if parsed.name is None:
        raise UserError(
            "no data set was named",
            mend="give its name, for instance: nnmedseg_convert ISIC2018; "
            "nnmedseg_convert --list shows all",
        )
    from nnmedseg import paths
    from nnmedseg.dataset_conversion.registry import find_converter

    options = _options(parsed)
    converter = find_converter(parsed.name, options)
    folders = paths.resolve(parsed.workspace)
    logger.info("Using %s", folders)
    from nnmedseg import dataset_conversion
    from nnmedseg.files import read_json

    folder = dataset_conversion.convert(
        converter.name,
        parsed.input,
        dataset_id=parsed.dataset_id,
        folders=folders,
        num_processes=parsed.num_processes,
        overwrite=parsed.overwrite,
        options=options,
        split=parsed.split,
        skip_broken=parsed.skip_broken,
        allow_leaks=parsed.allow_leaks,
    )
    _summarise(read_json(folder / "conversion.json"))
    number = int(folder.name[7:10])
    logger.info("It lies in %s", folder)
    logger.info("Next: nnmedseg_plan_and_preprocess -d %d%s", number, _same_workspace(parsed))


def _same_workspace(options: argparse.Namespace) -> str:
    import shlex

    return f" --workspace {shlex.quote(options.workspace)}" if options.workspace else ""


def _summarise(conversion: dict[str, Any]) -> None:
    counts = conversion["counts"]
    logger.info(
        "%s: %s", conversion["folder"], ", ".join(f"{counts[part]} {part}" for part in counts)
    )
    cases, skipped = conversion["cases"], conversion["skipped"]
    broken = [entry["file"] for entry in skipped if entry.get("broken")]
    others = [entry["file"] for entry in skipped if not entry.get("broken")]
    notes = {
        "Empty masks": [case["id"] for case in cases if case.get("foreground_pixels") == 0],
        "Masks with pixels between black and white, decided at half of the range": [
            case["id"] for case in cases if "in_between_pixels" in case
        ],
        "Test images without masks": [case["id"] for case in cases if not case["masks"]],
        "Files that were left out": others,
        "Files that were left out because something is wrong with their cases": broken,
        "The same images": _pairs(conversion, "exact"),
        "Nearly the same images": _pairs(conversion, "near"),
    }
    for note, names in notes.items():
        if names:
            logger.info("%s (%d): %s", note, len(names), list_some(names, NAMES_SHOWN))
    for warning in conversion["warnings"]:
        logger.info("Note: %s", warning)
    if any(len(names) > NAMES_SHOWN for names in notes.values()):
        logger.info("conversion.json has all of them")


def _pairs(conversion: dict[str, Any], kind: str) -> list[str]:
    pairs = (pair for pair in conversion["duplicates"] if pair["kind"] == kind)
    return [" = ".join(pair["files"]) for pair in pairs]
