"""nnU-Net's 2D networks in the memory layout in which a CPU convolves fastest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nnmedseg.networks.layers.layout import lay_out_weights

CPU = torch.device("cpu")
_NNUNETS_U_NETS = "dynamic_network_architectures.architectures.unet"
"""Made of modules that compute the same in every layout, which not every network is."""


def is_u_net_in_2d(network: nn.Module) -> bool:
    """Tell whether a network is one of nnU-Net's for images or slices."""
    is_theirs = type(network).__module__ == _NNUNETS_U_NETS
    return is_theirs and not any(isinstance(module, nn.Conv3d) for module in network.modules())


def lay_out_for_cpu(network: nn.Module) -> None:
    """Let a 2D U-Net of nnU-Net's work in channels_last; other networks stay as they are.

    Its convolutions take three quarters of the time there. PyTorch's instance norm would copy each
    map out of that layout and leave it to the next convolution to copy it back. Logits are the same
    up to the rounding of sums in another order.
    """
    if not is_u_net_in_2d(network):
        return
    for module in network.modules():
        if type(module) is nn.InstanceNorm2d and not module.track_running_stats:
            module.__class__ = ChannelsLastInstanceNorm
    lay_out_weights(network, CPU)


class ChannelsLastInstanceNorm(nn.InstanceNorm2d):
    """An instance norm that overwrites the maps that it is given in inference mode.

    In U-Nets these come from a convolution, and nothing else looks at them. PyTorch's group and
    batch norms work in channels_last too, but take a variance as the mean of the squares without
    the square of the mean: where the mean is ten times the deviation, normalised maps of 512 x 512
    pixels were off by 0.005. Here they are off by 1e-6.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise each channel ``(H, W)`` of ``(B, C, H, W)``."""
        if not self._suits(maps):
            return super().forward(maps)
        pixels = maps.permute(0, 2, 3, 1).view(len(maps), -1, self.num_features)
        pixels -= pixels.mean(1, keepdim=True)
        scale = torch.rsqrt(pixels.square().mean(1, keepdim=True) + self.eps)
        if self.affine:
            torch.addcmul(self.bias, pixels, scale * self.weight, out=pixels)
        else:
            pixels *= scale
        return maps

    def _suits(self, maps: Tensor) -> bool:
        laid_out = maps.is_contiguous(memory_format=torch.channels_last)
        return torch.is_inference_mode_enabled() and laid_out and maps[0, 0].numel() > 1
