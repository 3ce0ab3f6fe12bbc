"""Where nnU-Net finds our preprocessor and our dataset class.

nnU-Net looks a preprocessor up by its name among the attributes of the modules in its own folder,
and a dataset class by the ending of the preprocessed files in a dictionary. Both can be added to
from outside. Processes that nnU-Net spawns do not import this package, so that what needs our
preprocessor is predicted by nnU-Net's own command in its sequential mode only.
"""

from __future__ import annotations

from nnunetv2.preprocessing.preprocessors import default_preprocessor
from nnunetv2.training.dataloading.nnunet_dataset import file_ending_dataset_mapping

from nnmedseg.data.store import FILE_ENDING
from nnmedseg.nnunet.dataset import MedSegDataset
from nnmedseg.nnunet.preprocessor import MedSegPreprocessor


def register() -> None:
    """Let nnU-Net find `MedSegPreprocessor` by its name and `MedSegDataset` by its files."""
    setattr(default_preprocessor, MedSegPreprocessor.__name__, MedSegPreprocessor)
    file_ending_dataset_mapping[FILE_ENDING.removeprefix(".")] = MedSegDataset
