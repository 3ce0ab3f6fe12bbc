"""Which of several transforms a sample gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from nnmedseg.training.augmentation import draws


class SomeOf(BasicTransform):
    """Applies a few of several transforms in random order.

    Args:
        transforms: To choose from.
        most: How many are applied at most; 0 up to it are equally likely.
    """

    def __init__(self, transforms: Sequence[BasicTransform], most: int):
        super().__init__()
        self.transforms = transforms
        self.most = most

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        """Draw which, and in which order."""
        count = draws.index(self.most + 1)
        return {"chosen": draws.several(count, of=len(self.transforms))}

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        """Apply them to a sample."""
        for index in params["chosen"]:
            data_dict = self.transforms[index](**data_dict)
        return data_dict
