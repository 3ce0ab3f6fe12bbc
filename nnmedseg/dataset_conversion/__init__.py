"""Converters: from the official download of a public data set to nnU-Net's raw format.

A new data set is one file in this folder, modelled on ``isic2018.py``; see ``base.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nnmedseg.paths import Folders

if TYPE_CHECKING:
    from nnmedseg.dataset_conversion.base import Options


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
    """Convert a downloaded data set, or go on with a conversion that was interrupted.

    Writes ``DatasetNNN_Name`` with images, masks of labels, ``dataset.json``,
    ``splits_final.json`` (folds 0 to 4: cross-validation of the training part, with groups and
    duplicates kept together and foreground balanced; fold 5: the official training and validation
    parts, when the release has both) and ``conversion.json`` (what was made from which files).

    Args:
        name: Data set, in any letter case, for instance ``"ISIC2018"``.
        source: Download folder (default ``./data/NAME``).
        dataset_id: Number of the data set, 1 to 999 (default: the converter's).
        folders: The data set is written to ``folders.raw``.
        num_processes: Cases that are worked on at once (default: one a core).
        overwrite: Build it anew and replace a data set of this name, which stays until the new one
            is complete.
        options: What is chosen about this data set, see ``base.Options``.
        split: Name of a paper's division of the cases instead of the official one.
        skip_broken: Leave out cases with problems and record them, instead of refusing.
        allow_leaks: Keep training images that are also test images in the folds.

    Returns:
        The data set's folder.

    Raises:
        NotFoundError: There is no such converter, download folder, or folder of the release.
        DataError: Files of the release are missing, damaged or do not fit together (all of them
            are listed), or the name or number is taken by other data.
        UserError: The disk is full.
    """
    # Listing the converters must not wait for the image libraries.
    from nnmedseg.dataset_conversion import _raw_dataset  # noqa: PLC0415

    return _raw_dataset.convert(
        name,
        source,
        dataset_id=dataset_id,
        folders=folders,
        num_processes=num_processes,
        overwrite=overwrite,
        options=options,
        split=split,
        skip_broken=skip_broken,
        allow_leaks=allow_leaks,
    )
