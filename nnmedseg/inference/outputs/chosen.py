"""Which files are written of a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnmedseg.errors import DataError, UserError
from nnmedseg.inference.inputs.cases import InputCase, LoadedCase
from nnmedseg.inference.inputs.geometry import as_in_file, write_map
from nnmedseg.inference.label_definition import LabelDefinition
from nnmedseg.inference.outputs.masks import write_mask
from nnmedseg.inference.outputs.overlays import OVERLAY_ENDING, write_overlay
from nnmedseg.inference.outputs.probabilities import (
    PROBABILITIES_ENDING,
    PROBABILITY_TYPES,
    ProbabilityType,
    write_probabilities,
)
from nnmedseg.inference.prediction import Prediction

MASK_ENDING = ".nii.gz"
PNG_ENDING = ".png"
UNCERTAINTY_ENDING = "_uncertainty.nii.gz"


@dataclass(frozen=True)
class Outputs:
    """What is written beside the NIfTI mask.

    Attributes:
        png: The mask as PNG.
        overlay: The outlines of the labels over the image, see `write_overlay`.
        probabilities: Type of the numbers if probabilities are written, see `write_probabilities`.
        uncertainty: A map of the uncertainty, NIfTI, see `Prediction`.
    """

    png: bool = False
    overlay: bool = False
    probabilities: ProbabilityType | None = None
    uncertainty: bool = False

    def __post_init__(self) -> None:
        if self.probabilities not in (None, *PROBABILITY_TYPES):
            raise UserError(
                f"probabilities are written as {' or '.join(PROBABILITY_TYPES)}, not as "
                f"{self.probabilities!r}",
                where="probabilities",
                mend="choose one of these",
            )

    @property
    def is_large(self) -> bool:
        """Whether they take much more memory than the mask."""
        return self.uncertainty or self.probabilities is not None

    def check(self, loaded: LoadedCase) -> None:
        """Refuse a case that cannot be written so.

        Raises:
            DataError: It is a volume, and PNG is wanted.
        """
        if self.png and loaded.image.shape[1] != 1:
            raise DataError(
                "a volume of several slices cannot be written as PNG",
                mend="leave --png out: the NIfTI mask holds all slices, --overlay shows some",
            )

    def names(self, case: InputCase) -> list[str]:
        """Return the names of the files of a case."""
        wanted = {
            MASK_ENDING: True,
            PNG_ENDING: self.png,
            OVERLAY_ENDING: self.overlay,
            PROBABILITIES_ENDING: self.probabilities is not None,
            UNCERTAINTY_ENDING: self.uncertainty,
        }
        return [case.name + ending for ending, is_wanted in wanted.items() if is_wanted]

    def refuse_conflicts(self, cases: Sequence[InputCase], target: Path) -> None:
        """Refuse to write a file twice, or over an image.

        Raises:
            UserError: The output of two cases has one name, or is one of the images.
        """
        inputs = {path.resolve() for case in cases for path in case.files}
        folder = target.resolve()
        owners: dict[str, InputCase] = {}
        for case in cases:
            for name in self.names(case):
                if folder / name in inputs:
                    raise UserError(
                        f"the output {name} would take the place of an image",
                        where=target,
                        mend="choose another folder with -o",
                    )
                if name in owners:
                    raise UserError(
                        f"two images would both have the output {name}: "
                        f"{owners[name].files[0]} and {case.files[0]}",
                        where=target,
                        mend="rename one of them, or predict them into folders of their own",
                    )
                owners[name] = case

    def write(
        self,
        prediction: Prediction,
        loaded: LoadedCase,
        case: InputCase,
        target: Path,
        definition: LabelDefinition,
    ) -> None:
        """Write the files of a case, those of `names`, into the folder ``target``.

        Args:
            prediction: With everything that is wanted.
            loaded: The image; its pixels are needed for an overlay only.
            case: The case.
            target: The folder.
            definition: What the labels are.
        """
        base = target / case.name
        write_mask(prediction.labels, _beside(base, MASK_ENDING), loaded, definition.manager)
        if self.png:
            write_mask(prediction.labels, _beside(base, PNG_ENDING), loaded, definition.manager)
        if self.overlay:
            write_overlay(prediction.labels, _beside(base, OVERLAY_ENDING), loaded)
        if self.probabilities is not None and prediction.probabilities is not None:
            values, geometry = as_in_file(prediction.probabilities, loaded)
            write_probabilities(
                values,
                _beside(base, PROBABILITIES_ENDING),
                labels=definition.channel_names,
                geometry=geometry,
                stored_as=self.probabilities,
            )
        if self.uncertainty and prediction.uncertainty is not None:
            uncertainty = prediction.uncertainty.astype(np.float32)
            write_map(uncertainty, _beside(base, UNCERTAINTY_ENDING), loaded)


def _beside(base: Path, ending: str) -> Path:
    return base.with_name(base.name + ending)
