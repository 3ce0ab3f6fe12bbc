"""A run over the cases of a folder: what is complete is skipped, what becomes of each is noted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnmedseg.errors import UserError
from nnmedseg.inference.cases import InputCase
from nnmedseg.inference.manifest import Manifest, Outcome
from nnmedseg.progress import track

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_MANIFESTS = 1.0
"""How much work a power failure may cost; the manifest of many cases takes long to write."""


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
                if time.monotonic() - saved > SECONDS_BETWEEN_MANIFESTS:
                    manifest.save(self.target)
                    saved = time.monotonic()
        finally:
            manifest.save(self.target)
        if len(manifest.failed_of(cases)) == len(cases):
            raise UserError(
                f"none of the {len(cases)} images could be predicted; the first: "
                f"{manifest.failed_of(cases)[0].message}",
                where=self.target,
                mend="give images that open in a viewer",
            )
        return manifest

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
