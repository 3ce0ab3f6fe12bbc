"""What became of each image: ``predictions.json`` beside the masks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnmedseg.files import read_json, write_json
from nnmedseg.inference.cases import InputCase

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
        outputs: Names of the files written.
        seconds: Time from preprocessed pixels to labels.
        message: Why it failed.
    """

    case: str
    inputs: list[list[Any]]
    outcome: str
    outputs: list[str] = field(default_factory=list)
    seconds: float = 0.0
    message: str = ""


@dataclass
class Manifest:
    """The outcomes of all cases with one model.

    Attributes:
        model: What identifies the model: its folder, folds and checkpoints, and the hash of the
            split that it was trained with.
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
        content = read_json(path)
        if content["model"] != model:
            return cls(model)
        return cls(model, {entry["case"]: Outcome(**entry) for entry in content["cases"]})

    def save(self, folder: Path) -> None:
        """Write ``predictions.json``."""
        cases = [asdict(self.outcomes[name]) for name in sorted(self.outcomes)]
        write_json({"model": self.model, "cases": cases}, folder / MANIFEST_FILE)

    def is_complete(self, case: InputCase, folder: Path, outputs: list[str]) -> bool:
        """Tell whether an earlier run predicted the same files and its output is still there."""
        earlier = self.outcomes.get(case.name)
        return (
            earlier is not None
            and earlier.outcome == PREDICTED
            and earlier.inputs == facts_of(case)
            and earlier.outputs == outputs
            and all((folder / name).is_file() for name in outputs)
        )

    @property
    def failed(self) -> list[Outcome]:
        """The cases that could not be predicted."""
        return [entry for entry in self.outcomes.values() if entry.outcome == FAILED]


def facts_of(case: InputCase) -> list[list[Any]]:
    """Return name, size and time of each file, by which a changed input is noticed."""
    statuses = [(path.name, path.stat()) for path in case.files]
    return [[name, status.st_size, status.st_mtime_ns] for name, status in statuses]
