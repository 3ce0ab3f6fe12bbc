"""Weights that others trained: checkpoints with the authors' names, loaded strictly.

A further paper is one file here that calls `register_importer`, and one line that imports it.
"""

from nnmedseg.weights import rosper
from nnmedseg.weights._classes import to_two_classes
from nnmedseg.weights._importer import Importer, from_reference, register_importer

__all__ = ["Importer", "from_reference", "register_importer", "rosper", "to_two_classes"]
