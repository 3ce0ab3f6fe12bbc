"""What the second of two stages starts from: the encoder that the first has trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nnmedseg.errors import WeightsError
from nnmedseg.files import hash_of_file
from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.training.checkpoints import FINAL, read_checkpoint
from nnmedseg.weights import encoder_from_stage1, is_stage1
from nnmedseg.weights import read_checkpoint as read_any_checkpoint

_WEIGHTS = "network_weights"
_NETWORK = "network."  # of `PlannedNetwork`


@dataclass(frozen=True)
class FirstStage:
    """A checkpoint of a first stage.

    Attributes:
        checkpoint: The file: relative to the data set's folder of results, or absolute.
        sha256: Of the file.
        epochs: How many epochs the stage was trained, or ``None`` where the file does not tell.
    """

    checkpoint: str
    sha256: str
    epochs: int | None

    @classmethod
    def of_file(cls, path: Path, results: Path) -> FirstStage:
        """Describe a checkpoint.

        Args:
            path: The file.
            results: The data set's folder of results.

        Raises:
            WeightsError: The file is damaged.
        """
        epochs = read_checkpoint(path).get("current_epoch")
        path, results = path.resolve(), results.resolve()
        inside = path.is_relative_to(results)
        name = path.relative_to(results).as_posix() if inside else str(path)
        return cls(name, hash_of_file(path), epochs)

    def file(self, results: Path) -> Path:
        """Return where the checkpoint is."""
        return results / self.checkpoint

    def as_planned(self) -> dict[str, Any]:
        """Return what a trainer needs to find it."""
        return asdict(self)

    def as_recorded(self) -> dict[str, Any]:
        """Return what identifies it, without the folders of the machine."""
        is_absolute = Path(self.checkpoint).is_absolute()
        return {
            **asdict(self),
            "checkpoint": Path(self.checkpoint).name if is_absolute else self.checkpoint,
        }


def load_first_stage(network: PlannedNetwork, checkpoint: Path) -> str:
    """Copy the first stage's encoder, statistics of batch normalisation included.

    Args:
        network: Of the second stage; changed in place.
        checkpoint: Of the first.

    Returns:
        What was done, as a sentence.

    Raises:
        WeightsError: The file is damaged, or lacks an entry of the encoder.
    """
    weights = _own_weights(read_checkpoint(checkpoint))
    try:
        report = encoder_from_stage1(weights, network.network)
    except WeightsError as error:
        raise WeightsError(
            f"the first stage does not hold the encoder of the second: {error.where}",
            where=checkpoint,
            mend="train the first stage again with --stage 1 --overwrite",
        ) from error
    return (
        f"Starting from the encoder of the first stage, {checkpoint}: {len(report.loaded)} entries "
        "loaded"
    )


def is_first_stage(file: Path) -> bool:
    """Tell whether a file of weights is a first stage's checkpoint and not an encoder's weights.

    Raises:
        NotFoundError: There is no such file.
        WeightsError: It cannot be read, or holds a network of ours that is no first stage, or a
            first stage as the authors have saved it.
    """
    content = read_any_checkpoint(file)
    if _WEIGHTS in content:
        if is_stage1(_own_weights(content)):
            return True
        raise WeightsError(
            "this checkpoint is not of a first stage",
            where=file,
            mend=f"give the {FINAL} of a first stage, or a file of the encoder's ImageNet weights",
        )
    if is_stage1(content):
        raise WeightsError(
            "this is a first stage as ConDSeg's authors save it",
            where=file,
            mend="run nnmedseg_import_weights condseg_stage1 FILE -o FOLDER, which knows the order "
            f"of its colours, and give FOLDER/fold_0/{FINAL}",
        )
    return False


def _own_weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name.removeprefix(_NETWORK): entry for name, entry in content[_WEIGHTS].items()}
