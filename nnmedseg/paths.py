"""Where raw, preprocessed and trained data are.

nnU-Net keeps its data in three folders named by environment variables. They are honoured here, and
a user who has set none of them gets one workspace folder that holds all three.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from nnmedseg.errors import DataError, NotFoundError, UserError

VARIABLES = {
    "raw": "nnUNet_raw",
    "preprocessed": "nnUNet_preprocessed",
    "results": "nnUNet_results",
}
DEFAULT_WORKSPACE = Path("nnmedseg_workspace")
LARGEST_DATASET_ID = 999


@dataclass(frozen=True)
class Folders:
    """The three folders that every step reads from and writes to.

    Attributes:
        raw: Converted data sets, one ``DatasetNNN_Name`` each.
        preprocessed: Fingerprints, plans, splits and preprocessed arrays.
        results: Trained models.
    """

    raw: Path
    preprocessed: Path
    results: Path

    def __str__(self) -> str:
        return f"raw: {self.raw} | preprocessed: {self.preprocessed} | results: {self.results}"

    def dataset_name(self, dataset: str | int) -> str:
        """Return the ``DatasetNNN_Name`` of a number or name, converted or preprocessed.

        Raises:
            NotFoundError: There is no such data set, or two share the number.
        """
        known = sorted({*_dataset_folders(self.raw), *_dataset_folders(self.preprocessed)})
        text = str(dataset)
        if text in known:
            return text
        if text.isdecimal():
            prefix = f"Dataset{int(text):03d}_"
            found = [name for name in known if name.startswith(prefix)]
        else:
            found = [name for name in known if name.partition("_")[2] == text]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                f"data set {text} is ambiguous: {', '.join(found)}",
                where=self.raw,
                mend="give the full name, or remove or rename all but one of these folders",
            )
        raise NotFoundError(
            f"there is no data set {text}; known here: {', '.join(known) or 'none'}",
            where=self.raw,
            mend="convert it first, for instance with: nnmedseg_convert ISIC2018",
        )


def resolve(workspace: str | Path | None = None) -> Folders:
    """Find the three folders, make them nnU-Net's too, and create those that are missing.

    An explicit ``workspace`` wins; then each of nnU-Net's variables that is set; what is left lies
    in ``./nnmedseg_workspace``. The result is written to ``os.environ``, where nnU-Net reads it.

    Args:
        workspace: Folder that holds ``raw``, ``preprocessed`` and ``results``.

    Raises:
        UserError: A folder cannot be created or written to.
    """
    base = Path(workspace if workspace is not None else DEFAULT_WORKSPACE).expanduser()
    chosen: dict[str, Path] = {}
    for kind, variable in VARIABLES.items():
        from_environment = os.environ.get(variable) if workspace is None else None
        chosen[kind] = Path(from_environment or base / kind).expanduser().absolute()
    return use(Folders(**chosen))


def use(folders: Folders | None) -> Folders:
    """Make folders nnU-Net's too, and create those that are missing.

    Args:
        folders: ``None`` for those that `resolve` finds.

    Raises:
        UserError: A folder cannot be created or written to.
    """
    if folders is None:
        return resolve()
    for kind, variable in VARIABLES.items():
        folder: Path = getattr(folders, kind)
        _make_writable(folder, kind)
        os.environ[variable] = str(folder)
    return folders


def parse_dataset_id(number: int) -> int:
    """Return a data set number that nnU-Net's folder names can hold (1 to 999).

    Raises:
        DataError: It is outside that range.
    """
    if not 1 <= number <= LARGEST_DATASET_ID:
        raise DataError(
            f"a data set's number is between 1 and {LARGEST_DATASET_ID}, not {number}",
            where="-d",
            mend="choose a number that no other data set of yours has",
        )
    return number


def _dataset_folders(parent: Path) -> list[str]:
    if not parent.is_dir():
        return []
    return [
        entry.name
        for entry in parent.iterdir()
        if entry.is_dir()
        and entry.name[:7] == "Dataset"
        and entry.name[7:10].isdecimal()
        and entry.name[10:11] == "_"
    ]


def _make_writable(folder: Path, kind: str) -> None:
    mend = f"choose another place with --workspace DIR or the variable {VARIABLES[kind]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the folder for {kind} data cannot be created: {error.strerror}",
            where=folder,
            mend=mend,
        ) from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"the folder for {kind} data cannot be written to", where=folder, mend=mend)
