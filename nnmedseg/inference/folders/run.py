"""A run over the cases of a folder: what is complete is skipped, what becomes of each is noted."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnmedseg.errors import UserError
from nnmedseg.inference.folders.manifest import FAILED, Manifest, Outcome
from nnmedseg.inference.inputs.cases import InputCase
from nnmedseg.progress import track

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_MANIFESTS = 1.0
"""How much work a power failure may cost; the manifest of many cases takes long to write."""

FULL = 2**14
"""Bytes that are left on a disk that is full."""


@dataclass(frozen=True)
class FolderRun:
    """What makes the files of cases, and where.

    Attributes:
        target: Folder for the files; it need not exist.
        names: Tells the names of the files of a case.
        predict: Makes the files of cases and yields what became of each.
    """

    target: Path
    names: Callable[[InputCase], list[str]]
    predict: Callable[[Sequence[InputCase]], Iterator[Outcome]]

    def over(
        self, cases: Sequence[InputCase], model: dict[str, Any], *, overwrite: bool = False
    ) -> Manifest:
        """Make the files of all cases that an earlier run with the same model has not completed.

        Args:
            cases: The cases.
            model: What decides the result, see `Manifest`.
            overwrite: Make those of completed cases again.

        Raises:
            UserError: Not one case could be predicted, or the disk is full.
        """
        self.target.mkdir(parents=True, exist_ok=True)
        manifest = Manifest.load(self.target, model)
        pending = cases if overwrite else self._not_complete(cases, manifest)
        saved = time.monotonic()
        try:
            for outcome in track(self.predict(pending), "Predicting", len(pending)):
                manifest.outcomes[outcome.case] = outcome
                logger.info("%s: %s", outcome.case, outcome.summary)
                if outcome.outcome == FAILED:
                    self._check_disk()
                if time.monotonic() - saved > SECONDS_BETWEEN_MANIFESTS:
                    self._save(manifest)
                    saved = time.monotonic()
        finally:
            self._save(manifest)
        if len(manifest.failed_of(cases)) == len(cases):
            raise UserError(
                f"none of the {len(cases)} images could be predicted; the first: "
                f"{manifest.failed_of(cases)[0].message}",
                where=self.target,
                mend="give images that open in a viewer",
            )
        return manifest

    def _check_disk(self) -> None:
        """Stop when no case can be written any more; libraries do not all tell why they failed."""
        if shutil.disk_usage(self.target).free < FULL:
            raise _full(self.target, "the disk is full")

    def _save(self, manifest: Manifest) -> None:
        try:
            manifest.save(self.target)
        except OSError as error:
            raise _full(self.target, f"nothing can be written: {error.strerror}") from error

    def _not_complete(self, cases: Sequence[InputCase], manifest: Manifest) -> list[InputCase]:
        pending = [
            case for case in cases if not manifest.is_complete(case, self.target, self.names(case))
        ]
        if len(pending) < len(cases):
            logger.info(
                "%d of %d images are predicted already; --overwrite predicts them again",
                len(cases) - len(pending),
                len(cases),
            )
        return pending


def _full(folder: Path, what: str) -> UserError:
    return UserError(
        what,
        where=folder,
        mend="make room and run the same command again: it goes on where it ended",
    )
