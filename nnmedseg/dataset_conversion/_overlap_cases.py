"""The images of raw data sets, whoever made them, with their signatures."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nnmedseg.cores import one_thread_each
from nnmedseg.data.duplicates import Signature, signature
from nnmedseg.data.images import read_image
from nnmedseg.data.volumes import read_volume, volume_ending
from nnmedseg.errors import DataError, NotFoundError
from nnmedseg.files import read_json
from nnmedseg.progress import track

Part = Literal["train", "test"]
FOLDERS: dict[Part, str] = {"train": "imagesTr", "test": "imagesTs"}
PROBLEMS_SHOWN = 20


@dataclass(frozen=True)
class CaseImage:
    """The image of a case in a raw data set; of several channels the first one.

    Attributes:
        dataset: Name of the data set's folder.
        part: ``test`` for what lies in ``imagesTs``; the release's validation part is training.
        case: Id of the case.
        path: File of the image.
        file: Its name for messages: relative to the folder of raw data, if it lies there.
        source: Name of the file in the download that it was made from, if that is known.
        in_folds: Whether the folds may use it; a conversion leaves out what is a test image too.
        recorded: Signature out of ``conversion.json``, if there is one.
    """

    dataset: str
    part: Part
    case: str
    path: Path
    file: str
    source: str | None = None
    in_folds: bool = True
    recorded: Signature | None = None

    def read(self) -> np.ndarray:
        """Read a volume as (Z, Y, X), another image as (H, W) or (H, W, 3).

        Raises:
            DataError: The file cannot be read.
        """
        if volume_ending(self.path) is not None:
            return read_volume(self.path).values
        return read_image(self.path)


def images_of(folder: Path) -> list[CaseImage]:
    """Find the images of both parts of a raw data set, without opening them.

    Args:
        folder: The data set's folder, with a ``dataset.json`` as nnU-Net defines it.

    Raises:
        NotFoundError: The folder or its ``dataset.json`` is not there.
        DataError: That file cannot be understood, or there are no images.
    """
    description = _description(folder)
    try:
        listed = _listed_files(folder, description.get("dataset"))
        ending = str(description["file_ending"])
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(
            f"dataset.json is not as nnU-Net needs it: {error!r}",
            where=folder / "dataset.json",
            mend="it needs file_ending and, if there is dataset, images for each case",
        ) from error
    train = listed or _first_channels(folder / FOLDERS["train"], ending)
    test = _first_channels(folder / FOLDERS["test"], ending)
    if not train and not test:
        raise DataError(f"the data set has no images that end with {ending}", where=folder)
    records, in_no_fold = _records(folder)
    files: dict[Part, dict[str, Path]] = {"train": train, "test": test}
    return [
        CaseImage(
            folder.name,
            part,
            case,
            path,
            _name(path, folder.parent),
            source=_source(records.get((part, case))),
            in_folds=part == "train" and case not in in_no_fold,
            recorded=_signature(records.get((part, case))),
        )
        for part, paths in files.items()
        for case, path in sorted(paths.items())
    ]


def signatures_of(images: Sequence[CaseImage], num_workers: int) -> dict[CaseImage, Signature]:
    """Return the signature of each image, computed from its file where none is recorded.

    Raises:
        DataError: Files cannot be read; all of them are listed.
    """
    signatures = {image: image.recorded for image in images if image.recorded is not None}
    unknown = [image for image in images if image.recorded is None]
    problems = []
    with one_thread_each(), ThreadPoolExecutor(num_workers) as executor:
        results = executor.map(_signature_or_problem, unknown)
        if unknown:
            results = track(results, "Reading", len(unknown), "images")
        for image, result in zip(unknown, results, strict=True):
            if isinstance(result, Signature):
                signatures[image] = result
            else:
                problems.append(f"    {image.file}: {result.what}")
    if problems:
        more = len(problems) - PROBLEMS_SHOWN
        shown = problems[:PROBLEMS_SHOWN] + ([f"    and {more} more"] if more > 0 else [])
        raise DataError(
            "\n".join([f"{len(problems)} image(s) cannot be read:", *shown]),
            mend="mend or remove them: what they share with other data sets cannot be told",
        )
    return signatures


def _signature_or_problem(image: CaseImage) -> Signature | DataError:
    try:
        return signature(image.read())
    except DataError as error:
        return error


def _description(folder: Path) -> Mapping[str, Any]:
    path = folder / "dataset.json"
    try:
        description = read_json(path)
    except FileNotFoundError as error:
        raise NotFoundError(
            "there is no dataset.json of the raw data set",
            where=path,
            mend="convert the data set again: its images are compared, not preprocessed ones",
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"the file cannot be read: {error}", where=path) from error
    if not isinstance(description, dict):
        raise DataError("the file does not hold a JSON object", where=path)
    return description


def _listed_files(folder: Path, listed: Mapping[str, Any] | None) -> dict[str, Path]:
    """Return the training images that dataset.json names, whose paths may hold variables."""
    return {
        case: Path(os.path.normpath(folder / os.path.expandvars(entry["images"][0])))
        for case, entry in (listed or {}).items()
    }


def _first_channels(folder: Path, ending: str) -> dict[str, Path]:
    """Return the file of the first channel of each case in a folder of nnU-Net's."""
    if not folder.is_dir():
        return {}
    name = re.compile(rf"(?P<case>[^.].*)_\d{{4}}{re.escape(ending)}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        match = name.fullmatch(path.name)
        if match:
            found.setdefault(match["case"], path)
    return found


def _name(path: Path, raw: Path) -> str:
    return path.relative_to(raw).as_posix() if path.is_relative_to(raw) else str(path)


def _records(folder: Path) -> tuple[dict[tuple[Part, str], Mapping[str, Any]], set[str]]:
    """Return what conversion.json says of each case, and the cases that are in no fold.

    Data sets that were not converted by nnmedseg have no such file, or another one of that name.
    """
    try:
        conversion = read_json(folder / "conversion.json")
        records = {_key(record): record for record in conversion["cases"]}
        return records, set(conversion.get("in_no_fold", ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, set()


def _key(record: Mapping[str, Any]) -> tuple[Part, str]:
    return ("test" if record["part"] == "test" else "train"), record["id"]


def _source(record: Mapping[str, Any] | None) -> str | None:
    return record["images"][0]["file"] if record and record.get("images") else None


def _signature(record: Mapping[str, Any] | None) -> Signature | None:
    return Signature.from_dict(record["signature"]) if record and "signature" in record else None
