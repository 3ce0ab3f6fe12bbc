"""The preprocessed arrays of one volume, equal to those that nnU-Net's own preprocessor writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnmedseg.nnunet.volume_preprocessor import FastPreprocessor


def write_volume_case(
    temporary: Path,
    case: dict[str, Any],
    plans: PlansManager,
    configuration: ConfigurationManager,
    dataset_json: dict[str, Any],
) -> None:
    """Preprocess a case as nnU-Net does and write ``.b2nd``, ``_seg.b2nd`` and ``.pkl``.

    Args:
        temporary: Where to write, without the files' endings.
        case: ``images``, one path a channel, and ``label``, as nnU-Net lists them.
        plans: The plan that the configuration belongs to.
        configuration: Spacing, normalisation, resampling and patch.
        dataset_json: The data set's labels.
    """
    named = configuration.preprocessor_class
    preprocessor = FastPreprocessor if named is DefaultPreprocessor else named
    preprocessor(verbose=False).run_case_save(
        str(temporary), case["images"], case["label"], plans, configuration, dataset_json
    )
