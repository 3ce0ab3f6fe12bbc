"""An ensemble of folders of probabilities, of ``nnmedseg_predict`` or ``nnUNetv2_predict``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnmedseg.data.simple_itk import read_header
from nnmedseg.errors import DataError, NotFoundError, UserError
from nnmedseg.files import read_json
from nnmedseg.inference.ensembles.combining import Combination
from nnmedseg.inference.ensembles.mean import WeightedMean, Weighting
from nnmedseg.inference.folders.manifest import MANIFEST_FILE, Manifest, Outcome
from nnmedseg.inference.folders.overlapping import overlapped
from nnmedseg.inference.folders.run import FolderRun
from nnmedseg.inference.inputs.cases import InputCase, LoadedCase
from nnmedseg.inference.inputs.geometry import Geometry
from nnmedseg.inference.label_definition import LabelDefinition
from nnmedseg.inference.outputs.chosen import MASK_ENDING, Outputs
from nnmedseg.inference.outputs.probabilities import PROBABILITIES_ENDING, read_probabilities
from nnmedseg.inference.prediction import Prediction

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
    outputs: Outputs | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Write the masks that the mean of several folders' probabilities gives.

    Args:
        folders: Of ``nnmedseg_predict --probabilities`` or ``nnUNetv2_predict
            --save_probabilities``.
        output: Folder for masks and ``predictions.json``.
        weights: See `shares`.
        outputs: What is written beside the masks; no overlays, as there are no images.
        overwrite: Combine completed cases again.

    Raises:
        UserError: There are no such folders, or they do not go together.
    """
    outputs = outputs or Outputs()
    opened = [open_folder(Path(folder)) for folder in folders]
    target = Path(output)
    if outputs.overlay:
        raise UserError(
            "an overlay needs the images, and folders of probabilities hold none",
            where="overlay",
            mend="leave it out, or give images and models instead of folders",
        )
    if target.resolve() in [folder.path.resolve() for folder in opened]:
        raise UserError(
            "the masks would take the place of those that are combined",
            where=target,
            mend="choose another folder with -o",
        )
    combination = Combination(
        [str(folder.path) for folder in opened],
        [folder.definition for folder in opened],
        [folder.model for folder in opened],
        weights=weights,
        target=target,
        outputs=outputs,
    )
    ensemble = _FolderEnsemble(opened, combination)
    run = FolderRun(target, outputs.names, ensemble.run)
    return run.over(ensemble.cases(), combination.identity(), overwrite=overwrite)


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
    prediction: Prediction
    grid: LoadedCase
    start: float


class _FolderEnsemble:
    def __init__(self, folders: Sequence[ProbabilityFolder], combination: Combination):
        self._folders = folders
        self._combination = combination

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
        for folder, weight in zip(self._folders, self._combination.weights, strict=True):
            stored = read_probabilities(folder.file(case.name))
            mean.add(stored.probabilities, weight)
        heads = self._combination.definition.manager.num_segmentation_heads
        if len(mean.values) != heads:
            raise DataError(
                f"there are probabilities of {len(mean.values)} classes, and labels of {heads}",
                where=case.files[0],
                mend="predict again",
            )
        geometry = self._folders[0].geometry(case.name, mean.values.shape[1:])
        grid = LoadedCase.on_grid(np.empty((0, *mean.values.shape[1:])), geometry)
        self._combination.outputs.check(grid)
        return _Averaged(case, self._combination.prediction(mean), grid, start)

    def _submit(
        self, together: Sequence[_Averaged], writers: ThreadPoolExecutor
    ) -> list[Future[Outcome]]:
        write = self._combination.write
        return [
            writers.submit(write, one.prediction, one.grid, one.case, one.start) for one in together
        ]
