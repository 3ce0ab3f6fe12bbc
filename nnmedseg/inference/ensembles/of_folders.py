"""An ensemble of folders of probabilities, of ``nnmedseg_predict`` or ``nnUNetv2_predict``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnmedseg.data.simple_itk import read_header
from nnmedseg.errors import DataError, NotFoundError, UserError
from nnmedseg.files import read_json
from nnmedseg.inference.ensembles.mean import (
    LabelDefinition,
    WeightedMean,
    Weighting,
    check_agreement,
    outcome_of,
    shares,
    write_labels,
)
from nnmedseg.inference.folders.manifest import MANIFEST_FILE, Manifest, Outcome
from nnmedseg.inference.folders.overlapping import overlapped
from nnmedseg.inference.folders.run import FolderRun
from nnmedseg.inference.inputs.cases import InputCase
from nnmedseg.inference.inputs.geometry import Geometry
from nnmedseg.inference.outputs.chosen import MASK_ENDING, Outputs
from nnmedseg.inference.outputs.probabilities import PROBABILITIES_ENDING, read_probabilities

NNUNET_ENDING = ".npz"
TURNS_AXES = "WithReorient"


@dataclass(frozen=True)
class ProbabilityFolder:
    """Probabilities that one model has written.

    Attributes:
        path: The folder.
        ending: Of its files, behind the name of the case.
        mask_ending: Of the masks beside them.
        definition: What its classes are.
        model: What is known of the model.
    """

    path: Path
    ending: str
    mask_ending: str
    definition: LabelDefinition
    model: dict[str, Any]

    @property
    def validation_dice(self) -> float | None:
        """Mean validation Dice of the model, if it is known."""
        return self.model.get("validation_dice")

    def cases(self) -> set[str]:
        """Return the names of the cases."""
        files = self.path.glob(f"[!.]*{self.ending}")
        return {file.name[: -len(self.ending)] for file in files}

    def file(self, case: str) -> Path:
        """Return the file of a case, which need not exist."""
        return self.path / f"{case}{self.ending}"

    def geometry(self, case: str, size: tuple[int, ...]) -> Geometry:
        """Return the grid of the mask of a case.

        Raises:
            DataError: There is no mask, or it does not have the size of the probabilities.
        """
        mask = self.path / f"{case}{self.mask_ending}"
        try:
            header = read_header(mask)
        except RuntimeError as error:
            raise DataError(
                "the mask beside the probabilities is missing or damaged: it tells where they are",
                where=mask,
                mend="predict again",
            ) from error
        found = (1, *header.size[::-1])[-3:]
        if found != size:
            raise DataError(
                f"the mask is {found}, its probabilities {size} (slices, rows, columns)",
                where=mask,
                mend="predict again",
            )
        if not mask.name.endswith((".nii", ".nii.gz")):
            return Geometry()
        return Geometry.of_sitk(asdict(header))


def ensemble_folders(
    folders: Sequence[str | Path],
    output: str | Path,
    *,
    weights: Weighting,
    png: bool = False,
    overwrite: bool = False,
) -> Manifest:
    """Write the masks that the mean of several folders' probabilities gives.

    Args:
        folders: Of ``nnmedseg_predict --probabilities`` or ``nnUNetv2_predict
            --save_probabilities``.
        output: Folder for masks and ``predictions.json``.
        weights: See `shares`.
        png: Also write PNG masks.
        overwrite: Combine completed cases again.

    Raises:
        UserError: There are no such folders, or they do not go together.
    """
    opened = [open_folder(Path(folder)) for folder in folders]
    names = [str(folder.path) for folder in opened]
    check_agreement(names, [folder.definition for folder in opened])
    given = shares(weights, [folder.validation_dice for folder in opened], names)
    target = Path(output)
    if target.resolve() in [folder.path.resolve() for folder in opened]:
        raise UserError(
            "the masks would take the place of those that are combined",
            where=target,
            mend="choose another folder with -o",
        )
    model = {
        "ensemble": [folder.model for folder in opened],
        "weights": given,
        "weighted_by": weights if isinstance(weights, str) else "numbers",
    }
    ensemble = _FolderEnsemble(opened, given, target, png=png)
    run = FolderRun(target, Outputs(png=png).names, ensemble.run)
    return run.over(ensemble.cases(), model, overwrite=overwrite)


def open_folder(path: Path) -> ProbabilityFolder:
    """Find out who has written a folder, and of which classes.

    Raises:
        NotFoundError: It holds no probabilities.
        UserError: Their axes are not those of the masks, or what they are is not known.
    """
    if any(path.glob(f"*{PROBABILITIES_ENDING}")) and (path / MANIFEST_FILE).is_file():
        model = read_json(path / MANIFEST_FILE)["model"]
        if "labels" not in model:
            raise UserError(
                f"{MANIFEST_FILE} does not say what the classes are",
                where=path,
                mend="predict again with nnmedseg_predict --probabilities",
            )
        return ProbabilityFolder(
            path, PROBABILITIES_ENDING, MASK_ENDING, LabelDefinition.of(model), model
        )
    if any(path.glob(f"*{NNUNET_ENDING}")) and (path / "dataset.json").is_file():
        dataset = read_json(path / "dataset.json")
        definition = LabelDefinition.of(dataset)
        plans = read_json(path / "plans.json") if (path / "plans.json").is_file() else {}
        if str(plans.get("image_reader_writer")).endswith(TURNS_AXES):
            raise UserError(
                "nnU-Net has turned the axes of these probabilities and does not say how",
                where=path,
                mend="predict with nnmedseg_predict --probabilities",
            )
        model = {"folder": path.name, "labels": definition.labels}
        return ProbabilityFolder(path, NNUNET_ENDING, dataset["file_ending"], definition, model)
    raise NotFoundError(
        "the folder holds no probabilities",
        where=path,
        mend="predict with nnmedseg_predict --probabilities or nnUNetv2_predict "
        "--save_probabilities",
    )


@dataclass(frozen=True)
class _Averaged:
    case: InputCase
    labels: npt.NDArray[np.unsignedinteger]
    geometry: Geometry
    start: float


class _FolderEnsemble:
    def __init__(
        self,
        folders: Sequence[ProbabilityFolder],
        weights: Sequence[float],
        target: Path,
        *,
        png: bool,
    ):
        self._folders = folders
        self._weights = weights
        self._target = target
        self._png = png
        self._manager = folders[0].definition.manager()

    def cases(self) -> list[InputCase]:
        """Return all cases that one of the folders has, with the files that there are of them."""
        names = sorted(set().union(*(folder.cases() for folder in self._folders)))
        files = {name: [folder.file(name) for folder in self._folders] for name in names}
        return [
            InputCase(name, tuple(file for file in files[name] if file.is_file())) for name in names
        ]

    def run(self, cases: Sequence[InputCase]) -> Iterator[Outcome]:
        """Yield what becomes of each case."""
        return overlapped(cases, self._average, self._submit)

    def _average(self, case: InputCase) -> _Averaged:
        start = time.monotonic()
        missing = [folder for folder in self._folders if not folder.file(case.name).is_file()]
        if missing:
            raise NotFoundError(
                f"{case.name} is missing in {len(missing)} of {len(self._folders)} folders",
                where=", ".join(str(folder.path) for folder in missing),
                mend="predict it with that model too",
            )
        mean = WeightedMean()
        for folder, weight in zip(self._folders, self._weights, strict=True):
            stored = read_probabilities(folder.file(case.name))
            mean.add(stored.probabilities, weight)
        if len(mean.values) != self._manager.num_segmentation_heads:
            raise DataError(
                f"there are probabilities of {len(mean.values)} classes, and labels of "
                f"{self._manager.num_segmentation_heads}",
                where=case.files[0],
                mend="predict again",
            )
        size = mean.values.shape[1:]
        geometry = self._folders[0].geometry(case.name, size)
        return _Averaged(case, mean.labels(self._manager), geometry, start)

    def _submit(
        self, together: Sequence[_Averaged], writers: ThreadPoolExecutor
    ) -> list[Future[Outcome]]:
        return [writers.submit(self._write, averaged) for averaged in together]

    def _write(self, averaged: _Averaged) -> Outcome:
        written = write_labels(
            averaged.labels,
            averaged.geometry,
            averaged.case,
            self._target,
            self._manager,
            png=self._png,
        )
        return outcome_of(averaged.case, written, time.monotonic() - averaged.start)
