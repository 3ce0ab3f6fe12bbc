"""Weights that others trained: checkpoints with the authors' names, loaded strictly.

A further paper is one file here that calls `register_importer`, and one line that imports it.
"""

from nnmedseg.weights import asc, condseg, heteromedseg, promise, rosper, sam
from nnmedseg.weights._classes import to_two_classes
from nnmedseg.weights._encoder import (
    EncoderReport,
    EncoderWeights,
    describe_encoder_weights,
    load_encoder_weights,
    register_encoder_weights,
    starts_from_pretrained,
)
from nnmedseg.weights._files import read_checkpoint
from nnmedseg.weights._importer import (
    PROFILER_COUNTERS,
    Imported,
    Importer,
    from_reference,
    import_reference,
    register_importer,
)
from nnmedseg.weights.condseg import encoder_from_stage1, is_stage1

__all__ = [
    "PROFILER_COUNTERS",
    "EncoderReport",
    "EncoderWeights",
    "Imported",
    "Importer",
    "asc",
    "condseg",
    "describe_encoder_weights",
    "encoder_from_stage1",
    "from_reference",
    "heteromedseg",
    "import_reference",
    "is_stage1",
    "load_encoder_weights",
    "promise",
    "read_checkpoint",
    "register_encoder_weights",
    "register_importer",
    "rosper",
    "sam",
    "starts_from_pretrained",
    "to_two_classes",
]
