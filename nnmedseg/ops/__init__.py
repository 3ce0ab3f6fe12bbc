"""The slow operations of the published networks, each behind one function that picks a form."""

from nnmedseg.ops.deformable import deformable_depthwise_conv
from nnmedseg.ops.depthwise import depthwise_conv
from nnmedseg.ops.selective_scan import selective_scan

__all__ = ["deformable_depthwise_conv", "depthwise_conv", "selective_scan"]
