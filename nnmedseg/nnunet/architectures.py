"""The networks that our plans name.

nnU-Net imports a network by its dotted name before it looks for anything else that a plan names.
Importing this module registers our preprocessor and our dataset class, so that nnU-Net's own
commands work on our plans without further ado.
"""

from __future__ import annotations

from dynamic_network_architectures.architectures.unet import PlainConvUNet

from nnmedseg.networks.adapter import PlannedNetwork
from nnmedseg.nnunet.registration import register

__all__ = ["PlainConvUNet", "PlannedNetwork"]

register()
