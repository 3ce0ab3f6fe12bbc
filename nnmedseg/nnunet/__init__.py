"""The one place that knows nnU-Net's internals: what a later nnU-Net may break is mended here."""

from nnmedseg.nnunet.environment import prepare
from nnmedseg.nnunet.output import captured_output

__all__ = ["captured_output", "prepare"]
