"""Trainers whose network has a fault at a given time; also a file for ``--plugin``."""

from __future__ import annotations

from collections.abc import Container

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn


class Fault(nn.Module):
    """Passes on what it gets; spoils it in some of the calls in training, counted from 0."""

    def __init__(self, calls: Container[int] = ()):
        super().__init__()
        self.calls = calls
        self.count = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.count += 1
            if self.count - 1 in self.calls:
                return self.spoil(x)
        return x

    def spoil(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.nan


class GradientFault(Fault):
    """Spoils the gradient only."""

    def spoil(self, x: torch.Tensor) -> torch.Tensor:
        return _WithBadGradient.apply(x)


class _WithBadGradient(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.inf


class SmallMemory(nn.Module):
    """Has memory for so many images at once."""

    def __init__(self, images: int):
        super().__init__()
        self.images = images

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return x


class Kept(nn.Module):
    """Remembers the type of the numbers that pass it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.dtype = x.dtype
        return x


class TinyTrainer(nnUNetTrainer):
    """nnU-Net's, of two convolutions with a batch norm, and ``fault`` in between."""

    norm = nn.BatchNorm2d

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cpu")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.enable_deep_supervision = False
        self.num_epochs = 3
        self.num_iterations_per_epoch = 12
        self.num_val_iterations_per_epoch = 1

    @staticmethod
    def fault() -> nn.Module:
        return nn.Identity()

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager,
        configuration_manager,
        num_input_channels,
        num_output_channels,
        enable_deep_supervision=True,
    ):
        network = nn.Sequential()
        network.add_module("first", nn.Conv2d(num_input_channels, 4, 3, padding=1))
        network.add_module("norm", cls.norm(4))
        network.add_module("middle", cls.fault())
        network.add_module("last", nn.Conv2d(4, num_output_channels, 1))
        return network

    def set_deep_supervision_enabled(self, enabled):
        pass

    def plot_network_architecture(self):
        pass


class NanTrainer(TinyTrainer):
    """All is NaN from the third call on."""

    @staticmethod
    def fault():
        return Fault(range(2, 10**6))


class OneNanTrainer(TinyTrainer):
    @staticmethod
    def fault():
        return Fault({1})


class OneBadGradientTrainer(TinyTrainer):
    @staticmethod
    def fault():
        return GradientFault({1})


class BadGradientsTrainer(TinyTrainer):
    @staticmethod
    def fault():
        return GradientFault(range(10**6))


class TwoImagesTrainer(TinyTrainer):
    """Has memory for two images, and nothing that mixes images."""

    norm = nn.InstanceNorm2d

    @staticmethod
    def fault():
        return SmallMemory(2)


class OneImageTrainer(TinyTrainer):
    norm = nn.InstanceNorm2d

    @staticmethod
    def fault():
        return SmallMemory(1)


class NoImageTrainer(TinyTrainer):
    @staticmethod
    def fault():
        return SmallMemory(0)


class KeptTypeTrainer(TinyTrainer):
    @staticmethod
    def fault():
        return Kept()
