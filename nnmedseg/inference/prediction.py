"""What a model says about one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Prediction:
    """Labels of an image at its own size, and what else was asked for.

    Attributes:
        labels: ``(Z, H, W)``, uint8 or uint16; of an image without slices Z is 1.
        probabilities: ``(K, Z, H, W)``, float16: of each class, background first, or of each
            region. The softmax (of regions the sigmoid) of the mean logits, as nnU-Net has it.
        uncertainty: ``(Z, H, W)``, float16: entropy of the mean softmax over folds and mirrored
            copies, divided by its largest possible value, so that 0 is certain and 1 undecided. Of
            regions the mean of their entropies.
    """

    labels: npt.NDArray[np.unsignedinteger]
    probabilities: npt.NDArray[np.float16] | None = None
    uncertainty: npt.NDArray[np.float16] | None = None
