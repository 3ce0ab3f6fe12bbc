"""What became of each image: ``predictions.json`` beside the masks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnmedseg.files import hash_of_file, read_json, write_json
from nnmedseg.inference.inputs.cases import InputCase

logger = logging.getLogger(__name__)

MANIFEST_FILE = "predictions.json"
PREDICTED = "predicted"
FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        case: Name of the case.
        inputs: Its files with size in bytes and time of change in nanoseconds.
        outcome: ``"predicted"`` or ``"failed"``.
        outputs: SHA-256 of the files written, by their names.
        seconds: Time from preprocessed pixels to files.
        message: Why it failed.
        warnings: What was done to bring the image to what the model takes, and what was noticed.
    """

    case: str
    inputs: list[list[Any]]
    outcome: str
    outputs: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    message: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """One line that says it all."""
        if self.outcome == FAILED:
            return f"failed: {self.message.splitlines()[0]}"
        mask, *others = self.outputs
        files = f"{mask} and {len(others)} more" if others else mask
        return "; ".join([f"{files}, {self.seconds:.1f} s", *self.warnings])


@dataclass
class Manifest:
    """The outcomes of all cases with one model.

    Attributes:
        model: What identifies the model: its folder, folds and the hashes of their checkpoints and
            of the split that it was trained with.
        outcomes: By name of the case.
    """

    model: dict[str, Any]
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, model: dict[str, Any]) -> Manifest:
        """Return the manifest of an earlier run with the same model, or an empty one."""
        path = folder / MANIFEST_FILE
        if not path.is_file():
            return cls(model)
        try:
            content = read_json(path)
            if content["model"] != model:
                return cls(model)
            return cls(model, {entry["case"]: Outcome(**entry) for entry in content["cases"]})
        except (ValueError, KeyError, TypeError):
            logger.warning("%s cannot be read: all images are predicted again", path)
            return cls(model)

    def save(self, folder: Path) -> None:
        """Write ``predictions.json``."""
        cases = [asdict(self.outcomes[name]) for name in sorted(self.outcomes)]
        write_json({"model": self.model, "cases": cases}, folder / MANIFEST_FILE)

    def is_complete(self, case: InputCase, folder: Path, names: Sequence[str]) -> bool:
        """Tell whether an earlier run predicted the same files and its output is as it was.

        Args:
            case: The case.
            folder: Where its output is.
            names: Files that are wanted of it.
        """
        earlier = self.outcomes.get(case.name)
        return (
            earlier is not None
            and earlier.outcome == PREDICTED
            and earlier.inputs == facts_of(case)
            and set(names) <= set(earlier.outputs)
            and all(
                (folder / name).is_file() and hash_of_file(folder / name) == earlier.outputs[name]
                for name in names
            )
        )

    @property
    def failed(self) -> list[Outcome]:
        """The cases that could not be predicted."""
        return [entry for entry in self.outcomes.values() if entry.outcome == FAILED]

    def failed_of(self, cases: Sequence[InputCase]) -> list[Outcome]:
        """Return the outcomes of those of the cases that could not be predicted."""
        names = {case.name for case in cases}
        return [entry for entry in self.failed if entry.case in names]


def facts_of(case: InputCase) -> list[list[Any]]:
    """Return name, size and time of each file, by which a changed input is noticed."""
    statuses = [(path.name, path.stat()) for path in case.files]
    return [[name, status.st_size, status.st_mtime_ns] for name, status in statuses]
