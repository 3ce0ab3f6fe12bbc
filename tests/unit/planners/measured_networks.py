"""The networks whose memory is measured in tests."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn
from torch.nn import functional

from nnmedseg.networks import list_networks
from nnmedseg.networks.adapter import PlannedNetwork

SMALL_OPTIONS = Path(__file__).parents[2] / "networks" / "small_options.json"


class Squares(nn.Module):
    """Multiplies the image by a number of its own, and squares the product."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, image):
        return (image * self.scale).square()


class Attention(nn.Module):
    """A network as the project has none: PyTorch's attention and recurrent layers, dropout."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 4, stride=4)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.norm = nn.GroupNorm(4, 16)
        self.project = nn.ConvTranspose2d(16, 2, 4, stride=4)

    def forward(self, image):
        maps = self.embed(image)
        tokens = self.encoder(maps.flatten(2).transpose(1, 2))
        maps = self.norm(tokens.transpose(1, 2).reshape(maps.shape))
        return self.project(functional.silu(functional.normalize(maps)))


def u_net(dimensions=2):
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
    norm = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dimensions]
    return PlainConvUNet(
        3, 3, [8, 16, 32], conv, 3, [1, 2, 2], 2, 2, 2,
        conv_bias=True, norm_op=norm, norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}, deep_supervision=True,
    )  # fmt: skip


def planned(name):
    options = json.loads(SMALL_OPTIONS.read_text()).get(name, {})
    network = PlannedNetwork(3, 2, network=name, **options)
    network.auxiliary_in_training = True
    return network


NETWORKS = {
    "PlainConvUNet": u_net,
    "attention": Attention,
    **{name: partial(planned, name) for name in list_networks()},
}
