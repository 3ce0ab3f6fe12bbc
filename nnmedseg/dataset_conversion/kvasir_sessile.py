"""Kvasir-Sessile: small and flat polyps in colonoscopy."""

from __future__ import annotations

from pathlib import Path

from nnmedseg.dataset_conversion.base import Case
from nnmedseg.dataset_conversion.kvasir_seg import KvasirSEG
from nnmedseg.dataset_conversion.registry import register


@register
class KvasirSessile(KvasirSEG):
    """196 images of Kvasir-SEG with polyps under 10 mm, in the same layout.

    Lists of parts are used as those of Kvasir-SEG; the release has none.
    """

    name = "Kvasir-Sessile"
    number = 7
    title = "Kvasir-Sessile: small and flat polyps in colonoscopy"
    citation = (
        "Jha et al., A Comprehensive Study on Colorectal Polyp Segmentation With ResUNet++, "
        "Conditional Random Field and Test-Time Augmentation, IEEE J. Biomed. Health Inform. 25, "
        "2029-2040 (2021); Jha et al., Kvasir-SEG: A Segmented Polyp Dataset, MMM 2020, 451-462"
    )
    known_as = r".*sessile.*"

    def find_cases(self, root: Path) -> list[Case]:
        """Find ``images`` and ``masks``, and lists if there are any."""
        cases = super().find_cases(root)
        self.notes.append(
            "All images are in Kvasir-SEG too: do not train on one and test on the other"
        )
        return cases
