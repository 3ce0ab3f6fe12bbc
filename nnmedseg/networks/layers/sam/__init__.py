"""Segment Anything (SAM), under the names of its official checkpoints.

Its image encoder is timm's; prompt encoder, mask decoder and their assembly are here. Only
`image_encoder` imports timm, and `build_sam` imports it when a SAM is built.
"""

from nnmedseg.networks.layers.sam.mask_decoder import MaskDecoder
from nnmedseg.networks.layers.sam.model import Sam, SamMasks, build_sam, postprocess_masks
from nnmedseg.networks.layers.sam.prompt_encoder import PromptEncoder

__all__ = ["MaskDecoder", "PromptEncoder", "Sam", "SamMasks", "build_sam", "postprocess_masks"]
