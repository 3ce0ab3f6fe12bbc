"""The training cases of a raw data set, listed in linear time.

nnU-Net compares every identifier with every file name, in twelve processes that it starts for it:
39 s for 8,000 images. It does so unless dataset.json lists the cases itself, which is how our
listing reaches its classes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnmedseg.errors import DataError, NotFoundError

CHANNEL = re.compile(r"_\d{4}")


def list_training_cases(
    raw: str | Path, dataset_json: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return what nnU-Net's ``get_filenames_of_train_images_and_targets`` returns.

    Args:
        raw: Folder of the data set.
        dataset_json: Its description. Of cases that it lists under ``"dataset"`` relative paths
            start in ``raw``, and environment variables in them are replaced.

    Returns:
        ``{"images": [one path a channel], "label": path}`` of each case, all paths absolute; sorted
        by name where the folder is listed, otherwise in the given order.

    Raises:
        NotFoundError: The folder with the images is not there.
        DataError: The name of an image does not end with its channel.
    """
    raw = os.path.abspath(raw)  # noqa: PTH100 - Path.absolute keeps "..", nnU-Net does not
    if "dataset" in dataset_json:
        return {
            name: {
                "images": [_resolved(raw, image) for image in case["images"]],
                "label": _resolved(raw, case["label"]),
            }
            for name, case in dataset_json["dataset"].items()
        }
    return _list_folder(raw, dataset_json["file_ending"])


class LinearListing:
    """Gives nnU-Net's fingerprint extractor and planner the cases with dataset.json.

    Both set ``dataset_json`` in their constructor, after the data set's folder, and list the cases
    from it next. What they write to the preprocessed folder is a copy of the file on disk, without
    our list.
    """

    @property
    def dataset_json(self) -> dict[str, Any]:
        """The description of the data set with its training cases under ``"dataset"``."""
        return self._dataset_json

    @dataset_json.setter
    def dataset_json(self, description: Mapping[str, Any]) -> None:
        of_extractor, of_planner = "input_folder", "raw_dataset_folder"
        folder = getattr(self, of_extractor, None) or getattr(self, of_planner)
        cases = list_training_cases(folder, description)
        self._dataset_json = {**description, "dataset": cases}


def _list_folder(raw: str, ending: str) -> dict[str, dict[str, Any]]:
    folder = Path(raw, "imagesTr")
    try:
        with os.scandir(folder) as entries:
            files = [file.name for file in entries if file.name.endswith(ending) and file.is_file()]
    except FileNotFoundError as error:
        raise NotFoundError(
            "the folder with the training images is not there",
            where=folder,
            mend="convert the data set (again)",
        ) from error
    by_name: dict[str, list[str]] = {}
    for file in sorted(files):
        stem = file.removesuffix(ending)
        if not CHANNEL.fullmatch(stem[-5:]):
            raise DataError(
                f"the name of an image ends with its channel, as in case_0000{ending}",
                where=folder / file,
                mend="rename it, or remove it from the folder",
            )
        by_name.setdefault(stem[:-5], []).append(str(folder / file))
    return {
        name: {"images": by_name[name], "label": str(Path(raw, "labelsTr", f"{name}{ending}"))}
        for name in sorted(by_name)
    }


def _resolved(raw: str, path: str) -> str:
    path = os.path.expandvars(path)
    return path if Path(path).is_absolute() else os.path.normpath(Path(raw, path))
